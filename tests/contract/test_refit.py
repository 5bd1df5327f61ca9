"""`prodrec train --refit RUN`, with and without folds: learns from train and val, and everything after knows it."""

import json
import shutil

import numpy as np
import pytest
from made import run

from prodrec.models.bundle_files import load_info

TINY = ["--set", "train.epochs=6", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "optim.lr=0.01", "--set", "data.threads=1"]


def train(shards, out, *more):
    return run("train", shards, "--out", out, "--local", *more)


@pytest.fixture(scope="module")
def before(small_shards, tmp_path_factory):
    """A run that val chose the epoch of, with thresholds that promise little: there are few images."""
    folder = tmp_path_factory.mktemp("runs") / "before"
    assert train(small_shards, folder, "--recipe", "custom_cnn", *TINY, "--set", "balance.class_weights=none", "--set", "train.average_best=2") == 0
    run("calibrate", folder / "bundle", small_shards, "--precision", "0.6", "--confidence", "0.6")
    return folder


@pytest.fixture(scope="module")
def refitted(before, small_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "refit"
    assert train(small_shards, folder, "--refit", before, "--folds", "2") == 0
    return folder


def test_a_refit_learns_from_train_and_val_as_long_as_val_found_best(before, refitted, small_shards):
    from prodrec.shards.reading import open_shards

    shards, info, earlier = open_shards(small_shards), load_info(refitted / "bundle"), load_info(before / "bundle")
    assert sum(info.train_counts) == sum(shards.split(split).rows for split in ("train", "val"))
    history = [json.loads(line) for line in (refitted / "metrics.jsonl").read_text().splitlines()]
    epochs = info.recipe["refit"]["epochs"]
    assert len(history) == max(epochs) and "val_top1" not in history[-1]
    there = [json.loads(line) for line in (before / "metrics.jsonl").read_text().splitlines()]
    assert history[0]["lr"] == pytest.approx(there[0]["lr"], rel=0.1), "the schedule is that of all epochs, not of those few"
    best = sorted(there, key=lambda entry: (entry["val_top1"], entry["epoch"]))[-2:]
    taken = best if there[-1]["average_val_top1"] >= best[-1]["val_top1"] else best[-1:]
    assert epochs == sorted(entry["epoch"] for entry in taken)
    assert info.val_learned and not earlier.val_learned


def test_folds_answer_for_every_image_that_is_learned_from_and_choose_the_thresholds(before, refitted, small_shards, tmp_path, capsys):
    from prodrec.evaluation.folds import read_answers
    from prodrec.files import Folder
    from prodrec.shards.reading import open_shards

    shards, info, earlier = open_shards(small_shards), load_info(refitted / "bundle"), load_info(before / "bundle")
    answers = read_answers(Folder(refitted), 2)
    truth = np.concatenate([shards.split(split).column("label_id").to_numpy() for split in ("train", "val")])
    assert np.array_equal(answers.rows, np.arange(len(truth))) and np.array_equal(answers.labels, truth)
    assert answers.hits.mean() > 0.6, "labels of four: it has learned"
    assert info.acceptance.split == "folds" and info.acceptance.n == len(truth)
    assert (info.acceptance.target_precision, info.acceptance.confidence) == (earlier.acceptance.target_precision, earlier.acceptance.confidence)
    assert not (refitted / "folds/1/bundle").exists(), "test was not looked at"
    report = json.loads((refitted / "report/folds.json").read_text())
    assert report["n"] == len(truth) and report["accepted"]["accepted"] == info.acceptance.accepted
    bundle = shutil.copytree(refitted, tmp_path / "copy") / "bundle"
    capsys.readouterr()
    assert run("calibrate", bundle, small_shards, "--precision", "0.7", "--confidence", "0.6", "--split", "folds") == 0
    assert "on folds, before the rules on photos and categories: " in capsys.readouterr().out
    assert load_info(bundle).acceptance.target_precision == 0.7
    assert load_info(bundle).temperature == info.temperature


def test_val_is_no_judge_of_a_refit(refitted, before, small_shards, tmp_path, capsys):
    assert run("calibrate", refitted / "bundle", small_shards) == 2
    assert "has learned from val as well" in capsys.readouterr().err
    assert run("evaluate", refitted / "bundle", small_shards, "--split", "val", "--out", tmp_path / "val") == 0
    assert "note: the bundle has learned from val" in capsys.readouterr().out
    assert run("evaluate", refitted / "bundle", small_shards, "--split", "test", "--out", tmp_path / "test") == 0
    assert "note:" not in capsys.readouterr().out
    registry = tmp_path / "registry"
    assert run("registry", "promote", before / "bundle", "--registry", registry, "--force", "first") == 0
    run("registry", "promote", refitted / "bundle", small_shards, "--registry", registry)
    assert "val compares it with nothing" in "".join(capsys.readouterr())
    assert train(small_shards, tmp_path / "on", "--from", refitted / "bundle", "--set", "train.epochs=1") == 0
    assert "note: the bundle has learned from val" in capsys.readouterr().out
    assert load_info(tmp_path / "on/bundle").val_learned


def test_without_folds_temperature_and_thresholds_are_those_of_the_run_before(before, small_shards, tmp_path, capsys):
    assert train(small_shards, tmp_path / "r", "--refit", before) == 0
    info, earlier = load_info(tmp_path / "r/bundle"), load_info(before / "bundle")
    assert info.temperature == earlier.temperature
    assert info.acceptance == earlier.acceptance.model_copy(update={"carried_over": info.acceptance.carried_over})
    out = capsys.readouterr().out
    assert "as the run before chose; train and val learned from" in out
    assert "thresholds: those of the run before, as there are no folds" in out


def test_what_cannot_be_refitted_is_told_in_one_line(before, refitted, small_shards, box_shards, tmp_path, capsys):
    from made import build_shards

    others = build_shards(tmp_path / "others", {"red": 20, "green": 20})
    for arguments, told in (
        ((small_shards, "--refit", tmp_path / "none"), "no finished run is there"),
        ((small_shards, "--refit", refitted), "is a refit itself"),
        ((others, "--refit", before), "learned from other shards"),
        ((small_shards, "--refit", before, "--recipe", "demo"), "leave out --recipe"),
        ((small_shards, "--refit", before, "--folds", "1"), "folds 1 would hold out everything"),
        ((small_shards, "--recipe", "demo", "--folds", "3"), "--folds belong to --refit RUN"),
    ):
        assert run("train", *arguments, "--out", tmp_path / "x", "--local") == 2, arguments
        error = capsys.readouterr().err.strip()
        assert told in error and len(error.splitlines()) == 1


def test_heads_on_features_are_refitted_with_folds_in_one_go(small_shards, small_bundle, tmp_path, capsys):
    shards = shutil.copytree(small_shards, tmp_path / "shards")
    # None of these is the default of `fit`, which a refit would take if the settings kept were forgotten.
    fast = ["--set", "fit.heads=[lda]", "--set", "fit.shrinkages=[0.9, 0.7]", "--set", "fit.powers=[0.8]"]
    assert train(shards, tmp_path / "b", "--recipe", "embed_then_fit", "--from", small_bundle, *fast, "--set", "data.threads=1") == 0
    assert train(shards, tmp_path / "r", "--refit", tmp_path / "b", "--folds", "4") == 0
    info, history = load_info(tmp_path / "r/bundle"), json.loads((tmp_path / "r/metrics.jsonl").read_text())
    kept = next(entry for entry in map(json.loads, (tmp_path / "b/metrics.jsonl").read_text().splitlines()) if entry["kept"])
    assert [history[name] for name in ("head", "shrinkage", "power")] == [kept[name] for name in ("head", "shrinkage", "power")]
    assert info.val_learned and info.acceptance.split == "folds" and info.acceptance.n == sum(info.train_counts)
    assert "folds: " in capsys.readouterr().out
