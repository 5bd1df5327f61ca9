"""Listings on Ray: two workers see every one once; by night its views are seen together."""

import json
import sqlite3

import pytest
from made import run

from prodrec.cluster.train import Workers, train
from prodrec.recipes import parse_recipe
from prodrec.scoring import Recognizer
from prodrec.shards.reading import open_shards
from prodrec.training.local import train_local
from prodrec.training.records import start_run


class Watcher:
    def progress(self, progress):
        pass

    def epoch(self, metrics):
        pass

    def note(self, text):
        pass


def history(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_workers_see_every_listing_once_and_learn_as_one_does(listing_shards, tmp_path):
    tree = {
        "name": "tiny",
        "model": {"arch": "vit_tiny16", "weights": "none", "fuse": "lstm", "args": {"depth": 1, "embed_dim": 48, "num_heads": 3}},
        "input": {"size": 32},
        "optim": {"name": "sgd", "lr": 0.05},
        "train": {"epochs": 2, "batch_size": 16, "precision": "fp32"},
        "data": {"lanes": 2, "threads": 1, "decode": "stream"},
    }
    chosen, shards = parse_recipe(tree, "test"), open_shards(listing_shards)
    train(chosen, shards, start_run(str(tmp_path / "two"), chosen, shards.uri, resume=False, launcher="ray"), Workers(2, 2, cpus=0.5), Watcher())
    train_local(chosen, shards, start_run(str(tmp_path / "one"), chosen, shards.uri, resume=False, launcher="local"), Watcher())
    two, one = (history(tmp_path / name) for name in ("two", "one"))
    assert [entry["images"] for entry in two] == [96, 96]
    for name in ("train_loss", "val_loss"):
        assert [entry[name] for entry in two] == pytest.approx([entry[name] for entry in one], rel=1e-3)
    assert json.loads((tmp_path / "two" / "report" / "test.json").read_text())["n"] == 32


def test_a_night_tells_a_listing_by_all_of_its_views(listing_source, listing_run, tmp_path, capsys):
    bundle, database = str(listing_run / "bundle"), tmp_path / "tags.db"
    command = ["tag", listing_source / "manifest.csv", "--to", f"sqlite:///{database}", "--classifier", bundle, "--limit", "20", "--json", "--workers", "1"]
    assert run(*command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["listings"] == 20
    assert summary["rows_in"] == summary["rows_tagged"]
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT listing_id, uri, product, probability FROM predictions").fetchall()
        decided = dict(connection.execute("SELECT listing_id, product FROM decisions").fetchall())
    assert len(rows) == summary["rows_in"]
    listing = next(listing for listing in decided if sum(row[0] == listing for row in rows) > 2)
    views = {}
    for line in (listing_source / "manifest.csv").read_text().splitlines()[1:]:
        uri, _, listing_id, view = line.split(",")
        if listing_id == listing:
            views[int(view)] = (listing_source / uri).read_bytes()
    [answers] = Recognizer.load(classifier=bundle).recognize_listings([[views[view] for view in sorted(views)]])
    own = [row for row in rows if row[0] == listing]
    assert {row[2] for row in own} == {decided[listing]} == {answers[0].products[0].label}
    assert [row[3] for row in own] == pytest.approx([answers[0].products[0].probability] * len(own), abs=1e-3)
