"""Training on Ray Train: equal to one process, whatever the number of workers; whole after a loss."""

import json
import tempfile
from pathlib import Path

import pytest
import ray
from safetensors.torch import save_file

from prodrec.cluster.board import Board, observed
from prodrec.cluster.train import Workers, train
from prodrec.config import ModelConfig
from prodrec.errors import ConfigError, TrainingError, WeightsError
from prodrec.models.registry import create_classifier
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.local import train_local
from prodrec.training.records import start_run


class Watcher:
    def __init__(self):
        self.epochs, self.notes = [], []

    def progress(self, progress):
        pass

    def epoch(self, metrics):
        self.epochs.append(metrics)

    def note(self, text):
        self.notes.append(text)


def recipe(**train_fields):
    return parse_recipe(
        {
            "name": "tiny",
            # Layer norm instead of batch norm, no dropout: nothing depends on which images share a worker.
            "model": {"arch": "vit_tiny16", "weights": "none", "args": {"depth": 1, "embed_dim": 48, "num_heads": 3}},
            "input": {"size": 32},
            "balance": {"class_weights": "inverse"},
            "augment": {"policy": "trivial"},
            "optim": {"name": "sgd", "lr": 0.05, "clip_norm": 1.0, "warmup_epochs": 0.5},
            "train": {"epochs": 3, "batch_size": 16, "precision": "fp32"} | train_fields,
            "data": {"lanes": 2, "threads": 1},
        },
        "test",
    )


def on_ray(shards, out, workers=1, chosen=None, watcher=None):
    chosen, shards = chosen or recipe(), open_shards(shards)
    run = start_run(str(out), chosen, shards.uri, resume=True, launcher="ray")
    train(chosen, shards, run, Workers(workers, workers, cpus=0.5), watcher or Watcher())
    return history(out)


def history(out):
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def losses(entries):
    return [entry[name] for entry in entries for name in ("train_loss", "val_loss")]


@pytest.fixture(scope="module")
def alone(small_shards, tmp_path_factory):
    """The run in this process, which the others must equal."""
    out = tmp_path_factory.mktemp("alone")
    chosen, shards = recipe(), open_shards(small_shards)
    train_local(chosen, shards, start_run(str(out), chosen, shards.uri, resume=True, launcher="local"), Watcher())
    return history(out)


def test_one_worker_repeats_the_run_of_one_process_and_reports_every_epoch(small_shards, tmp_path, alone):
    watcher = Watcher()
    assert losses(on_ray(small_shards, tmp_path, watcher=watcher)) == pytest.approx(losses(alone), rel=1e-5)
    assert [m["epoch"] for m in watcher.epochs] == [1, 2, 3]
    assert (tmp_path / "bundle" / "bundle.json").exists()
    assert (tmp_path / "report" / "index.html").exists()


def test_two_workers_on_the_same_global_batch_have_the_same_loss_curve_and_see_every_row_once(small_shards, tmp_path, alone):
    before = set(Path(tempfile.gettempdir()).glob("prodrec-checkpoint-*"))
    entries = on_ray(small_shards, tmp_path, workers=2)
    assert set(Path(tempfile.gettempdir()).glob("prodrec-checkpoint-*")) <= before, "an uploaded checkpoint is not left on the worker's disk"
    assert losses(entries) == pytest.approx(losses(alone), rel=1e-3)
    assert all(entry["images"] == open_shards(small_shards).split("train").rows for entry in entries)
    first, second = (json.loads((tmp_path / "report" / f"{s}.json").read_text()) for s in ("val", "test"))
    assert first["n"] == open_shards(small_shards).split("val").rows
    assert second["n"] == open_shards(small_shards).split("test").rows


def test_a_run_between_one_and_two_workers_sees_every_row_once(small_shards, tmp_path):
    chosen, shards = recipe(epochs=2), open_shards(small_shards)
    train(chosen, shards, start_run(str(tmp_path), chosen, shards.uri, resume=True, launcher="ray"), Workers(1, 2, cpus=0.5), Watcher())
    assert [entry["images"] for entry in history(tmp_path)] == [shards.split("train").rows] * 2


def test_a_loss_that_is_not_finite_stops_both_workers_with_advice(small_shards, tmp_path):
    chosen = recipe()
    broken = chosen.model_copy(update={"optim": chosen.optim.model_copy(update={"lr": 1e35, "clip_norm": None, "warmup_epochs": 0})})
    with pytest.raises(TrainingError, match=r"lower optim\.lr"):
        on_ray(small_shards, tmp_path, workers=2, chosen=broken)
    assert not (tmp_path / "bundle").exists()


def test_a_run_ends_well_though_its_watcher_is_lost():
    board = ray.remote(num_cpus=0)(Board).remote()
    ray.get(board.epoch.remote({"epoch": 1}))
    watcher = Watcher()
    with observed(board, watcher, every_s=0.01):
        ray.kill(board)
    assert len(watcher.epochs) <= 1


def test_what_the_workers_find_wrong_is_the_users_error(small_shards, tmp_path):
    chosen = recipe()
    broken = chosen.model_copy(update={"model": chosen.model.model_copy(update={"weights": "/no/such/file.safetensors"})})
    with pytest.raises(WeightsError, match="/no/such/file"):
        on_ray(small_shards, tmp_path, chosen=broken)
    three = chosen.model_copy(update={"data": chosen.data.model_copy(update={"lanes": 3})})
    with pytest.raises(ConfigError, match="does not divide among 2 workers"):
        on_ray(small_shards, tmp_path, workers=2, chosen=three)


def test_decoding_in_the_stream_gives_the_same_losses(small_shards, tmp_path, alone):
    chosen = recipe()
    away = chosen.model_copy(update={"data": chosen.data.model_copy(update={"decode": "stream"})})
    assert losses(on_ray(small_shards, tmp_path, chosen=away)) == pytest.approx(losses(alone), rel=1e-5)


def test_phases_averages_growing_pictures_and_a_teacher_are_the_same_on_two_workers(small_shards, small_bundle, tmp_path):
    # Layer norm, as in `recipe`, but of a network that takes any side.
    model = {"arch": "test_convnext", "weights": str(tmp_path / "pretrained.safetensors")}
    created = create_classifier(ModelConfig(arch="test_convnext", weights="none"), 4, 64)
    save_file(created.state_dict(), model["weights"])
    crafted = recipe(epochs=4).model_dump(mode="json")
    crafted |= {"model": model, "input": {"size": 64, "flip": True}, "augment": {"policy": "trivial", "start_size": 32}}
    crafted["train"] |= {"head_epochs": 1, "average_best": 2, "ema_decay": 0.5}
    crafted["data"]["decode"] = "stream"
    crafted["optim"]["layer_decay"] = 0.8
    crafted["balance"] = {"logit_adjustment": 1.0}
    crafted["distill"] = {"teacher": small_bundle, "weight": 0.5}
    chosen, shards = parse_recipe(crafted, "test"), open_shards(small_shards)
    train_local(chosen, shards, start_run(str(tmp_path / "alone"), chosen, shards.uri, resume=True, launcher="local"), Watcher())
    one, two = history(tmp_path / "alone"), on_ray(small_shards, tmp_path / "two", workers=2, chosen=chosen)
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    assert two[-1]["average_val_top1"] == pytest.approx(one[-1]["average_val_top1"], abs=0.1)
    assert (tmp_path / "two" / "bundle" / "bundle.json").exists()
