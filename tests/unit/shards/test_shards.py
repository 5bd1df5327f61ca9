import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made import build_shards, photo

from prodrec.errors import OutputError, ShardsError
from prodrec.images.decode import decode_rgb
from prodrec.labels import Label
from prodrec.shards import plan
from prodrec.shards.assemble import assemble
from prodrec.shards.order import Window
from prodrec.shards.reading import open_shards
from prodrec.shards.split import Fractions
from prodrec.shards.staging import stage, start_output

PROVENANCE = {"source": "test", "source_format": "test", "code_version": "test", "short_side": 48, "jpeg_quality": 90}


def staged(number, *, image=None, label="a", split=None, code=None):
    row = {"uri": f"{number}.jpg", "label": label, "split": split, "code": code, "detail": code}
    if code:
        return row
    data = image or photo(0, number)
    return row | {"image": data, "width": 48, "height": 48, "sha256": f"{number:064x}", "phash": number}


def test_what_is_staged_comes_out_once_with_its_label_and_in_its_split(small_shards):
    shards = open_shards(small_shards)
    assert shards.manifest.rows_in == shards.manifest.rows_ok == 120
    assert [label.name for label in shards.manifest.labels] == ["blue", "green", "red", "yellow"]
    uris = []
    for name in ("train", "val", "test"):
        split = shards.split(name)
        ids, rows = split.column("label_id").to_pylist(), split.column("uri").to_pylist()
        assert [shards.manifest.labels[i].name for i in ids] == [uri.split("/")[0] for uri in rows]
        assert split.rows == len(rows) == shards.class_counts(name).sum()
        uris += rows
    assert len(set(uris)) == len(uris) == 120


def test_a_window_reads_any_rows_in_any_order(small_shards, monkeypatch):
    split = open_shards(small_shards).split("train")
    rows = np.random.default_rng(0).integers(0, split.rows, 50)
    table = split.read(Window(3, rows, np.arange(50)))
    images, labels = split.column("image"), split.column("label_id")
    assert table["image"].to_pylist() == [images[int(r)].as_py() for r in rows]
    assert table["label_id"].to_pylist() == [labels[int(r)].as_py() for r in rows]
    assert set(table["lane"].to_pylist()) == {3}
    assert table["occurrence"].to_pylist() == list(range(50))


def test_many_small_shards_hold_the_same_rows(tmp_path, monkeypatch):
    sizes = {"a": 60, "b": 40}
    whole = open_shards(build_shards(tmp_path / "whole", sizes))
    monkeypatch.setattr(plan, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(plan, "ROW_GROUP_ROWS", 16)
    cut = open_shards(build_shards(tmp_path / "cut", sizes))
    assert len(cut.manifest.splits["train"]) > 1
    assert max(len(f.row_groups) for f in cut.manifest.splits["train"]) > 1
    assert cut.manifest.content_sha256 == whole.manifest.content_sha256
    split = cut.split("train")
    table = split.read(Window(0, np.arange(split.rows)[::-1], np.zeros(split.rows, dtype=np.int64)))
    assert table["image"].to_pylist() == split.column("image").to_pylist()[::-1]
    assert decode_rgb(table["image"][0].as_py()).shape == (3, 48, 48)


def test_each_shard_and_row_group_is_full_but_the_last_and_holds_no_neighbours_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_BYTES", 30_000)
    monkeypatch.setattr(plan, "ROW_GROUP_ROWS", 8)
    shards = open_shards(build_shards(tmp_path / "s", {"a": 150, "b": 150}, (1.0, 0.0, 0.0)))
    files = shards.manifest.splits["train"]
    assert len(files) > 5
    sizes = [rows for file in files for rows in file.row_groups]
    assert set(sizes[:-1]) == {8}
    assert len({file.rows for file in files[:-1]}) == 1
    numbers = [int(uri.partition("/")[2]) for uri in shards.split("train").column("uri").to_pylist()]
    assert abs(np.corrcoef(np.arange(len(numbers)), numbers)[0, 1]) < 0.2
    assert not (tmp_path / "s" / ".staging").exists()


def test_the_index_says_what_the_shards_say(small_shards, box_shards, tmp_path):
    for uri in (small_shards, box_shards):
        shards = open_shards(uri)
        assert set(shards.manifest.index) == set(shards.manifest.splits)
        for name, files in shards.manifest.splits.items():
            split, whole = shards.split(name), pq.read_table([f"{uri}/{file.name}" for file in files])
            for column in set(whole.column_names) - {"image"}:
                assert split.column(column).to_pylist() == whole[column].to_pylist(), column
            counted = replace(shards, manifest=shards.manifest.model_copy(update={"label_counts": {}}))
            assert shards.class_counts(name).tolist() == counted.class_counts(name).tolist()
        few = shards.limited(20)
        ids = [label for label in few.split("train").column("label_id").to_pylist() if label is not None]
        assert shards.manifest.boxes or few.class_counts("train").tolist() == np.bincount(ids, minlength=len(few.manifest.labels)).tolist()
        assert few.split("train").column("sha256").to_pylist() == shards.split("train").column("sha256").to_pylist()[: few.split("train").rows]
        assert few.class_counts("train").sum() < shards.class_counts("train").sum()


def test_rejects_are_counted_and_explained(tmp_path):
    out = start_output(str(tmp_path / "out"))
    stage(out, 0, [staged(0), staged(1, split="train"), staged(2, code="truncated")])
    stage(out, 1, [staged(1, split="test"), staged(3, label="b"), staged(4, code="missing")])
    manifest = assemble(out, Fractions(0.8, 0.1, 0.1), PROVENANCE, 6)
    assert manifest.rejects == {"duplicate_across_splits": 1, "missing": 1, "truncated": 1}
    assert manifest.rows_in == manifest.rows_ok + sum(manifest.rejects.values()) == 6
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert sorted((r["uri"], r["code"]) for r in rejects) == [("1.jpg", "duplicate_across_splits"), ("2.jpg", "truncated"), ("4.jpg", "missing")]
    assert not (tmp_path / "out" / ".staging").exists()


def test_a_task_that_runs_twice_adds_nothing(tmp_path):
    out = start_output(str(tmp_path))
    for _ in range(2):
        stage(out, 7, [staged(0), staged(1)])
    assert assemble(out, Fractions(0.8, 0.1, 0.1), PROVENANCE, 2).rows_ok == 2


def test_lost_rows_and_no_good_row_are_errors_and_leave_no_manifest(tmp_path):
    out = start_output(str(tmp_path))
    stage(out, 0, [staged(0, code="not_an_image")])
    with pytest.raises(ShardsError, match="2 rows went in but 1"):
        assemble(out, Fractions(0.8, 0.1, 0.1), PROVENANCE, 2)
    with pytest.raises(ShardsError, match="1 not_an_image"):
        assemble(out, Fractions(0.8, 0.1, 0.1), PROVENANCE, 1)
    with pytest.raises(ShardsError, match="no complete shards"):
        open_shards(str(tmp_path))


def test_an_output_folder_is_taken_once_and_cleared_of_a_killed_prepare_only(tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"x")
    for leftover in ("train-00000-of-00001.parquet", "rejects.parquet"):
        (tmp_path / leftover).write_bytes(b"x")
    start_output(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".staging", "mine.parquet"]
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(OutputError, match="already holds shards"):
        start_output(str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no complete shards"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: .*prepare the source again"),
        (lambda folder: next(folder.glob("train-*")).unlink(), "is missing"),
        (lambda folder: next(folder.glob("test-*")).write_bytes(b"x"), "has 1 bytes"),
        (lambda folder: (folder / "index-val.parquet").unlink(), "index-val.parquet is missing"),
    ],
)
def test_a_damaged_data_set_is_named(tmp_path, damage, message):
    folder = Path(build_shards(tmp_path / "s", {"a": 12, "b": 12}))
    damage(folder)
    with pytest.raises(ShardsError, match=message):
        open_shards(str(folder))


def test_another_version_of_the_manifest_is_refused(tmp_path):
    folder = Path(build_shards(tmp_path / "s", {"a": 6}))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 2}))
    with pytest.raises(ShardsError, match="schema_version"):
        open_shards(str(folder))


def test_other_labels_change_the_ids_and_nothing_else(small_shards, box_shards):
    names = ["violet", "red", "green", "yellow"]
    for uri in (small_shards, box_shards):
        shards = open_shards(uri)
        other = shards.relabelled([Label(name=name) for name in names])
        split, now, column = shards.split("train"), other.split("train"), "objects" if shards.manifest.boxes else "label_id"

        def told(labels, value):
            if not isinstance(value, list):
                return labels[value].name if value >= 0 else None
            return [(labels[item["label_id"]].name if item["label_id"] >= 0 else None, item["box"], item["crowd"]) for item in value]

        before = [told(shards.manifest.labels, value) for value in split.column(column).to_pylist()]
        after = [told(other.manifest.labels, value) for value in now.column(column).to_pylist()]
        assert [None if name == "blue" else name for name in before] == after
        rows = np.array([5, 0, 7, 7, split.rows - 1])
        read = now.read(Window(0, rows, rows))
        assert [told(other.manifest.labels, value) for value in read[column].to_pylist()] == [after[row] for row in rows]
        assert read["image"].to_pylist() == split.read(Window(0, rows, rows))["image"].to_pylist()
        back = other.relabelled(shards.manifest.labels)
        assert [told(shards.manifest.labels, value) for value in back.split("train").column(column).to_pylist()] == after
        assert shards.relabelled(shards.manifest.labels) is shards
