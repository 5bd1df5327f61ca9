"""embed_then_fit on Ray: the features of one process, made by several, also when one of them is killed."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
import torch

from prodrec.cluster.embed import Pool, _fit, embed_on_cluster
from prodrec.cluster.train import Workers, train
from prodrec.errors import WeightsError
from prodrec.files import Folder
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training import features
from prodrec.training.embedding import embed_here
from prodrec.training.fit_run import begun
from prodrec.training.local import train_local


class Watcher:
    def __init__(self):
        self.trials, self.notes, self.embedded = [], [], []

    def epoch(self, metrics):
        self.trials.append(metrics)

    def embedding(self, done, total, images_per_s):
        self.embedded.append((done, total))

    def note(self, text):
        self.notes.append(text)


def recipe(size=32):
    return parse_recipe(
        {
            "name": "fit",
            "model": {"arch": "custom_cnn", "weights": "none"},
            "input": {"size": size},
            "train": {"epochs": 5, "batch_size": 16, "precision": "fp32"},
            "data": {"threads": 1},
            "fit": {"heads": ["linear", "cosine"], "weight_decays": [0.1], "random_backbone": True},
        },
        "test",
    )


@pytest.fixture
def copies(small_shards, tmp_path):
    """Two folders of the same shards, so that neither finds the features of the other."""
    return [shutil.copytree(small_shards, tmp_path / name, ignore=shutil.ignore_patterns("features")) for name in ("here", "there")]


def embedding_processes():
    return [child for child in psutil.Process(os.getpid()).children(recursive=True) if "_EmbeddingProcess" in " ".join(_command(child))]


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def planned(shards, tmp_path):
    with begun(recipe(256), open_shards(str(shards)), Folder(tmp_path / "run").make(), torch.device("cpu")) as found:
        return found


def test_a_node_that_sees_other_weights_fits_no_heads_on_the_features_of_these(copies, tmp_path):
    plan, backbone = planned(copies[0], tmp_path)
    embed_here(plan, backbone, torch.device("cpu"), 1, lambda rows: None)
    other = replace(plan, recipe=plan.recipe.model_copy(update={"train": plan.recipe.train.model_copy(update={"seed": 1})}))
    # In a process of its own, whose threads it sets: those of the tests add up otherwise with two, and what they train differs.
    assert isinstance(ray.get(ray.remote(_fit).remote(other, str(tmp_path / "run"), Pool(1, 1, 1, False, 1), board=None)), WeightsError)
    assert not (tmp_path / "run" / "bundle").exists()


def test_killed_processes_cost_time_only(copies, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART_ROWS", 8)
    # Large inputs, so that there is work left when the first file is done.
    plans = [planned(shards, tmp_path) for shards in copies]
    embed_here(*plans[0], torch.device("cpu"), 1, lambda rows: None)
    plan, made, killed = plans[1][0], [], []
    for rows in embed_on_cluster(plan, Pool(2, 2, 0.5, False, 2)):
        made.append(rows)
        if not killed:
            killed = embedding_processes()[:1]
            killed[0].kill()
    plan.complete()
    assert killed
    assert sum(made) == 120
    assert len(made) == len(plan.parts()) > 14
    for split in ("train", "val", "test"):
        assert torch.allclose(plans[0][0].read(split), plan.read(split), rtol=1e-5, atol=1e-6)


def test_a_fit_on_ray_is_that_of_one_process(copies, tmp_path):
    here, there = tmp_path / "run_here", tmp_path / "run_there"
    train_local(recipe(), open_shards(str(copies[0])), Folder(here).make(), Watcher())
    watcher = Watcher()
    train(recipe(), open_shards(str(copies[1])), Folder(there).make(), Workers(1, 1, cpus=0.5), watcher)
    assert [entry["head"] for entry in watcher.trials] == ["linear", "cosine"]
    assert watcher.embedded[-1] == (120, 120)
    first, second = ([json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()] for run in (here, there))
    for a, b in zip(first, second, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-4)
        assert a["kept"] == b["kept"]
    assert json.loads((there / "report" / "test.json").read_text())["n"] == open_shards(str(copies[1])).split("test").rows
    assert (there / "bundle" / "bundle.json").exists()
