"""The loop of improvement: weights from a file or a bundle, layers that stay, and old against new."""

import json

import pytest
import torch
from made import build_shards, run
from safetensors.torch import load_file

from prodrec.models.bundle_files import load_info
from prodrec.recipes import load_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.context import LocalContext
from prodrec.training.loop import Trainer

QUICK = [
    "input.size=32",
    "train.epochs=2",
    "train.batch_size=16",
    "data.threads=1",
    "optim.lr=0.004",
    "balance.class_weights=none",
    "model.args={dropout: 0.0}",
]


def options(*settings):
    return [part for setting in settings for part in ("--set", setting)]


@pytest.fixture(scope="module")
def more_shards(tmp_path_factory):
    """The labels of `small_shards`, in another order, and one that is new."""
    return build_shards(tmp_path_factory.mktemp("more") / "shards", {"red": 20, "green": 20, "blue": 20, "yellow": 20, "purple": 20})


def test_a_run_starts_from_exactly_the_tensors_of_a_file_and_a_fresh_head(small_bundle, more_shards, tmp_path):
    class Silent:
        def progress(self, progress):
            pass

    def start(weights, *settings):
        chosen = load_recipe("custom_cnn", [*QUICK, f"model.weights={weights}", *settings])
        return Trainer(chosen, open_shards(more_shards), LocalContext(tmp_path, 1, torch.device("cpu"), Silent())).task.model.state_dict()

    file = f"{small_bundle}/model.safetensors"
    saved, pretrained, scratch = load_file(file), start(file, "model.freeze_layers=1"), start("none")
    assert {name for name in pretrained if name.startswith("backbone.")} == {name for name in saved if name.startswith("backbone.")}
    for name, tensor in pretrained.items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, saved[name]), name
        else:  # as a run with the same seed that never saw the file
            assert torch.equal(tensor, scratch[name]), name
    assert saved["head.logits.weight"].shape[0] == 4
    assert pretrained["head.logits.weight"].shape[0] == 5
    assert not torch.equal(scratch["backbone.blocks.0.0.weight"], saved["backbone.blocks.0.0.weight"])


@pytest.mark.parametrize("ema", [0, 0.9])
def test_frozen_layers_leave_a_run_as_they_came_and_the_others_do_not(small_bundle, more_shards, tmp_path, ema):
    file = f"{small_bundle}/model.safetensors"
    settings = options(*QUICK, f"model.weights={file}", f"train.ema_decay={ema}")
    assert run("train", more_shards, "--recipe", "custom_cnn", "--out", tmp_path / "run", "--local", "--freeze", 2, *settings) == 0
    saved, kept = load_file(file), load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    for name in saved:
        if name.startswith(("backbone.blocks.0.", "backbone.blocks.1.")):
            assert torch.equal(saved[name], kept[name]), name  # batch-norm statistics and step counters too
        elif name.startswith("backbone.") and "num_batches" not in name:
            assert not torch.equal(saved[name], kept[name]), name
    assert "old_new" not in json.loads((tmp_path / "run" / "report" / "test.json").read_text()), "a file is no bundle to compare with"


def test_going_on_from_a_bundle_tells_old_against_new(small_bundle, small_shards, tmp_path, capsys):
    assert run("evaluate", small_bundle, small_shards, "--out", tmp_path / "old") == 0
    assert run("train", small_shards, "--from", small_bundle, "--out", tmp_path / "run", "--local", *options("train.epochs=1", "optim.lr=0.05")) == 0
    assert f"against {small_bundle}: top-1" in capsys.readouterr().out
    before = json.loads((tmp_path / "old" / "metrics.json").read_text())
    after = json.loads((tmp_path / "run" / "report" / "test.json").read_text())
    told = after["old_new"]
    assert (told["all"]["old_top1"], told["all"]["old_macro_f1"]) == pytest.approx((before["top1"], before["macro_f1"]))
    assert (told["all"]["new_top1"], told["all"]["new_macro_f1"]) == pytest.approx((after["top1"], after["macro_f1"]))
    assert {row["label"]: row["old"] for row in told["per_class"]} == {row["label"]: row["recall"] for row in before["per_class"]}
    assert told["all"]["lost"] - told["all"]["gained"] == round((before["top1"] - after["top1"]) * after["n"])
    assert (told["new_labels"], told["same_data"], told["known_labels"]) == (None, True, 4)
    assert "old_new" not in json.loads((tmp_path / "run" / "bundle" / "bundle.json").read_text())["metrics"]


def test_images_that_the_bundle_learned_from_count_once(small_bundle, small_shards, tmp_path):
    counts = load_info(small_bundle).train_counts
    assert run("train", small_shards, "--from", small_bundle, "--out", tmp_path / "again", "--local", *options("train.epochs=1")) == 0
    assert load_info(str(tmp_path / "again" / "bundle")).train_counts == counts
    before = build_shards(tmp_path / "before", {"red": 20, "green": 20})
    grown = build_shards(tmp_path / "grown", {"red": 30, "green": 30}, earlier=[before])
    others = build_shards(tmp_path / "others", {"green": 20, "red": 20})
    assert run("train", before, "--recipe", "custom_cnn", "--out", tmp_path / "old", "--local", *options(*QUICK)) == 0
    learned = {}
    for name, shards in (("grown", grown), ("others", others)):
        assert run("train", shards, "--from", tmp_path / "old" / "bundle", "--out", tmp_path / name, "--local", *options("train.epochs=1")) == 0
        learned[name] = sum(load_info(str(tmp_path / name / "bundle")).train_counts)
    assert learned == {"grown": 36, "others": 48}


def test_new_labels_are_told_apart_and_frozen_layers_stay(small_bundle, more_shards, tmp_path, capsys):
    assert run("train", more_shards, "--from", small_bundle, "--freeze", 1, "--out", tmp_path / "run", "--local", *options("train.epochs=6")) == 0
    told = json.loads((tmp_path / "run" / "report" / "test.json").read_text())["old_new"]
    assert (told["known_labels"], told["same_data"]) == (4, False)
    assert told["known"]["n"] + told["new_labels"]["n"] == told["all"]["n"]
    assert told["known"]["old_top1"] > 0.7, "the old one knows its labels by name, whatever their order"
    assert told["new_labels"]["old_top1"] == 0
    summary, known, new = capsys.readouterr().out, told["known"], told["new_labels"]
    assert f"on the {known['n']} images of labels that it knew: top-1 {known['old_top1']:.1%} -> {known['new_top1']:.1%}" in summary
    assert f"new labels: top-1 {new['new_top1']:.1%} of {new['n']} images" in summary
    assert [row["label"] for row in told["per_class"] if row["new_label"]] == ["purple"]
    html = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Old against new" in html and "new label" in html
    before, after = load_file(f"{small_bundle}/model.safetensors"), load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    changed = {name for name in before if name.startswith("backbone.") and not torch.equal(before[name], after[name])}
    assert {name.split(".")[2] for name in changed} == {"1", "2"}
