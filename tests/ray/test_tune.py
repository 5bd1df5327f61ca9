"""Trials on Ray Tune, and the folds of a refit: runs side by side whose results decide."""

import csv
import json

import numpy as np
from made import run

TINY = ["--set", "input.size=32", "--set", "train.batch_size=16", "--set", "data.threads=1", "--set", "optim.lr=0.005"]


def test_val_decides_among_trials_and_test_judges_the_best_alone(small_shards, tmp_path, capsys):
    command = ["tune", small_shards, "--recipe", "custom_cnn", "--out", tmp_path, "--cpus-per-trial", "0.5", "--set", "train.epochs=4", *TINY]
    assert run(*command, "--trials", "3") == 0
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    by_number = {row["trial"]: row for row in rows}
    assert set(by_number) == {"0", "1", "2"}
    assert (by_number["0"]["status"], by_number["0"]["epochs"]) == ("finished", "4"), "the recipe as it is has its whole time"
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    assert float(rows[0]["val_top1"]) == max(float(row["val_top1"]) for row in rows if row["status"] == "finished")
    assert not list(tmp_path.glob("trials/*/report/test.json")), "no trial has seen test"
    metrics = json.loads((tmp_path / "test/metrics.json").read_text())
    info = json.loads((tmp_path / "bundle/bundle.json").read_text())
    assert metrics["split"] == "test" and info["metrics"]["top1"] == metrics["top1"]
    assert info["metrics"]["val_top1"] == float(rows[0]["val_top1"])
    out = capsys.readouterr().out
    assert f"best: trial {rows[0]['trial']}, val_top1" in out and "95 % interval" in out
    looked = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/metrics.jsonl")}
    assert run(*command, "--trials", "3") == 0
    assert looked == {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/metrics.jsonl")}, "what is over is not trained again"


def test_folds_train_side_by_side_before_their_refit(small_shards, tmp_path, capsys):
    before = ["train", small_shards, "--recipe", "custom_cnn", "--local", "--set", "train.epochs=4", *TINY, "--out", tmp_path / "before"]
    assert run(*before) == 0
    assert run("train", small_shards, "--refit", tmp_path / "before", "--folds", "2", "--out", tmp_path / "refit", "--cpus-per-worker", "0.5") == 0
    info = json.loads((tmp_path / "refit/bundle/bundle.json").read_text())
    assert info["val_learned"] and info["acceptance"]["split"] == "folds"
    rows = [np.load(tmp_path / f"refit/folds/{fold}/answers.npz")["rows"] for fold in (1, 2)]
    assert sorted(np.concatenate(rows)) == list(range(sum(info["train_counts"])))
    assert "folds: " in capsys.readouterr().out
