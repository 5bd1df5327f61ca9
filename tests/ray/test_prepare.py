"""Preparing on Ray Data: every row accounted for, whatever the source holds and whatever dies."""

import json
import struct
import threading
import zlib
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import photo, run, write_image_folder
from PIL import Image

from prodrec.cluster import prepare as preparing
from prodrec.cluster.prepare import prepare
from prodrec.errors import ShardsError
from prodrec.images.decode import decode_rgb
from prodrec.shards.preparing import PrepareOptions
from prodrec.shards.reading import open_shards
from prodrec.shards.split import Fractions
from prodrec.sources.source import open_source


def prepared(source, out, **options):
    prepare(open_source(str(source)), str(out), PrepareOptions(short_side=40, **options))
    return open_shards(str(out))


def facts(shards):
    """(sha256, label, split) of every row, sorted."""
    names = [label.name for label in shards.manifest.labels]
    found = []
    for split in shards.manifest.splits:
        index = shards.split(split)
        ids = index.column("label_id").to_pylist()
        found += [(sha, names[i], split) for sha, i in zip(index.column("sha256").to_pylist(), ids, strict=True)]
    return sorted(found)


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def test_bad_images_are_rejects_with_reasons_and_the_rest_is_prepared(tmp_path):
    source = write_image_folder(tmp_path / "source", {"a": 12, "b": 9, "single": 1})
    bad = {
        "text.jpg": (b"no image at all", "not_an_image"),
        "empty.jpg": (b"", "not_an_image"),
        "cut.jpg": (photo(0, 999)[:900], "truncated"),
        "bomb.png": (png_header(60_000, 60_000), "too_many_pixels"),
        "layers.psd": (b"8BPS" + bytes(40), "unsupported_format"),
    }
    for name, (data, _) in bad.items():
        (source / "a" / name).write_bytes(data)
    shards = prepared(source, tmp_path / "out")
    manifest = shards.manifest
    assert manifest.rows_in == 22 + len(bad) == manifest.rows_ok + sum(manifest.rejects.values())
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert {Path(r["uri"]).name: r["code"] for r in rejects} == {name: code for name, (_, code) in bad.items()}
    assert all(r["detail"] for r in rejects)
    assert [sum(1 for _, label, _ in facts(shards) if label == name) for name in ("a", "b", "single")] == [12, 9, 1]
    assert ("single", "train") in {(label, split) for _, label, split in facts(shards)}


def test_the_order_of_the_source_changes_no_split_and_tasks_lose_no_row(tmp_path, monkeypatch):
    source = write_image_folder(tmp_path / "source", {"a": 30, "b": 20})
    uris = [(str(p), p.parent.name) for p in sorted(source.rglob("*.jpg"))]
    monkeypatch.setattr(preparing, "_SLICE_ROWS", 8)
    found = []
    for name, rows in (("one", uris), ("two", uris[::-1])):
        pq.write_table(pa.table({"uri": [u for u, _ in rows], "label": [label for _, label in rows]}), tmp_path / f"{name}.parquet")
        found.append(facts(prepared(tmp_path / f"{name}.parquet", tmp_path / name)))
    assert found[0] == found[1]
    assert len(found[0]) == 50


def test_images_that_are_added_move_none_of_those_before(tmp_path):
    source = write_image_folder(tmp_path / "source", {"a": 12, "b": 12})
    before = prepared(source, tmp_path / "before")
    more = write_image_folder(tmp_path / "more", {"a": 24, "b": 24, "c": 8})
    for name, keep in (("moved", []), ("kept", ["--keep-split", tmp_path / "before"])):
        assert run("prepare", more, tmp_path / name, "--short-side", 40, *keep) == 0
    moved, kept = (set(facts(open_shards(str(tmp_path / name)))) for name in ("moved", "kept"))
    assert len(moved) == len(kept) == 56
    assert set(facts(before)) <= kept
    assert not set(facts(before)) <= moved, "otherwise there was nothing to keep"
    assert {split for _, label, split in kept if label == "c"} == {"train", "val", "test"}
    assert str(tmp_path / "before") in open_shards(str(tmp_path / "kept")).manifest.split_rule


def test_embedded_images_are_read_from_their_row_groups(tmp_path):
    said = [{"label": f"label {i % 3}", "group": "g", "split": "train" if i % 4 else "test", "listing_id": f"L{i}"} for i in range(40)]
    rows = [row | {"bytes": photo(i % 3, i)} for i, row in enumerate(said)]
    rows[7]["label"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet", row_group_size=16)
    shards = prepared(tmp_path / "m.parquet", tmp_path / "out")
    assert shards.manifest.rejects == {"unlabelled": 1}
    assert shards.manifest.rows("test") == 10
    ids = [listing for split in shards.manifest.splits for listing in shards.split(split).column("listing_id").to_pylist()]
    assert sorted(ids) == sorted(f"L{i}" for i in range(40) if i != 7)


def test_every_mode_becomes_rgb_of_the_size_asked_for_and_small_ones_stay(tmp_path):
    folder = tmp_path / "source" / "a"
    folder.mkdir(parents=True)
    for mode in ("RGB", "CMYK", "P", "RGBA", "L", "I;16", "1", "LA"):
        Image.new(mode, (90, 60)).save(folder / f"{mode.replace(';', '')}.{'tif' if mode in ('CMYK', 'I;16') else 'png'}")
    Image.new("RGB", (20, 10)).save(folder / "small.jpg")
    turned = Image.new("RGB", (90, 60))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    shards = prepared(folder.parent, tmp_path / "out", fractions=Fractions(1.0, 0.0, 0.0))
    split = shards.split("train")
    sizes = {Path(uri).stem: tuple(decode_rgb(split.image(row)).shape) for row, uri in enumerate(split.column("uri").to_pylist())}
    assert sizes.pop("small") == (3, 10, 20)
    assert sizes.pop("turned") == (3, 60, 40)
    assert set(sizes.values()) == {(3, 40, 60)}
    assert len(sizes) == 8


def test_a_killed_task_is_done_again_and_leaves_no_row_twice(tmp_path, monkeypatch):
    source = write_image_folder(tmp_path / "source", {"a": 60, "b": 40})
    expected = facts(prepared(source, tmp_path / "whole"))
    monkeypatch.setattr(preparing, "_SLICE_ROWS", 10)
    killed = threading.Event()

    def kill_one(done, rejected, total):
        if done < total and not killed.is_set():
            tasks = [p for p in psutil.Process().children(recursive=True) if "ray::prepare" in "".join(p.cmdline()[:1])]
            for task in tasks[:1]:
                task.kill()
                killed.set()

    out = tmp_path / "out"
    prepare(open_source(str(source)), str(out), PrepareOptions(short_side=40), kill_one)
    assert killed.is_set()
    assert facts(open_shards(str(out))) == expected


def test_a_source_without_a_usable_image_leaves_nothing_that_looks_complete(tmp_path):
    (tmp_path / "source" / "a").mkdir(parents=True)
    (tmp_path / "source" / "a" / "x.jpg").write_bytes(b"text")
    with pytest.raises(ShardsError, match="not one of 1 rows"):
        prepared(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_sample_catalogue_prepares_with_its_broken_files_named(tmp_path):
    from prodrec.sample import write_sample

    made = write_sample(tmp_path / "sample", products=6, images=60)
    shards = prepared(tmp_path / "sample", tmp_path / "out")
    assert shards.manifest.source_format == "products10k"
    assert sum(shards.manifest.rejects.values()) == made.broken
    assert shards.manifest.rows("test") == made.test
    assert shards.manifest.rows("train") + shards.manifest.rows("val") == made.train
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rows_in"] == 60 + made.broken
    assert shards.split("test").image(0)[:2] == b"\xff\xd8"
