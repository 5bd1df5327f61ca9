"""Bulk runs over HTTP: what may be read, the state of a run, and decisions as CSV out of a real store."""

import asyncio
import csv
import io
import json
import threading
from contextlib import suppress

import pytest
from made_listings import RUN, batch
from pydantic import ValidationError

from prodrec.catalog import open_store
from prodrec.catalog.export import CSV_COLUMNS, decisions_csv
from prodrec.errors import Reject, RejectCode, SourceError
from prodrec.serving.bulk import LOST, SENT, BulkSettings, Progress, in_a_thread, state_of


def settings(**more) -> BulkSettings:
    return BulkSettings(**{"store": "sqlite:///tags.db", "uploads": "/srv/uploads", "inputs": ("s3://shop/manifests/", "/data/photos"), **more})


@pytest.mark.parametrize("uri", ["s3://shop/manifests/a.csv", "s3://shop/manifests/11/a.parquet", "s3://shop/manifests", "/data/photos/a.csv", "/data/photos/"])
def test_a_place_below_an_input(uri):
    assert settings().check_input(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://shop/manifests-evil/a.csv", "s3://shop/manifests/../secret/a.csv", "s3://shop/manifests//a.csv", "s3://shop/", "s3://shop"),
        *("s3://other/manifests/a.csv", "S3://shop/manifests/a.csv", "s3://SHOP/manifests/a.csv", "gs://shop/manifests/a.csv"),
        *("s3://key@shop/manifests/a.csv", "s3://shop/manifests/a.csv?endpoint_override=169.254.169.254", "s3://shop/manifests/a.csv?"),
        *("https://shop.example/a.csv", "file:///data/photos/a.csv", "FILE:///etc/passwd", "file:///etc/passwd", "postgresql://shop@db/shop"),
        *("/etc/passwd", "/data/photos/../../etc/passwd", "/data/photos-evil/a.csv", "data/photos/a.csv", "../x", "", "/", "~/x", "/data/photos/a\0.csv"),
        "/data/photos/x://%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_every_other_place_is_refused(uri):
    with pytest.raises(Reject) as raised:
        settings().check_input(uri)
    assert raised.value.code == RejectCode.NOT_ALLOWED
    assert "photos" not in raised.value.detail


def test_links_lead_nowhere_else(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "photos" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos" / "round")
    (tmp_path / "photos" / "in").symlink_to(tmp_path / "photos")
    (tmp_path / "also").symlink_to(tmp_path / "photos")
    allowed = settings(inputs=(str(tmp_path / "also"),))
    for good in ("also/a.csv", "photos/a.csv", "photos/in/a.csv"):
        allowed.check_input(str(tmp_path / good))
    for bad in ("photos/out/a.csv", "also/out", "photos/round", "secret/a.csv"):
        with pytest.raises(Reject):
            allowed.check_input(str(tmp_path / bad))


def test_without_inputs_no_place_is_read():
    with pytest.raises(Reject, match="send the manifest itself"):
        settings(inputs=()).check_input("/data/photos/a.csv")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"inputs": ("/",)}, "no folder to read from"),
        ({"inputs": ("photos",)}, "no folder to read from"),
        ({"inputs": ("/data/../etc/..",)}, "no folder to read from"),
        ({"inputs": ("file:///data",)}, "no folder to read from"),
        ({"inputs": ("https://shop.example/",)}, "no folder to read from"),
        ({"inputs": ("s3://shop/a/../b/",)}, "no folder to read from"),
        ({"inputs": ("/srv",)}, "overlap"),
        ({"inputs": ("/srv/uploads/photos",)}, "overlap"),
        ({"uploads": "s3://shop/uploads?region=x"}, "without a query"),
        ({"store": "/data/tags"}, "need a database"),
        ({"workers": (3, 2)}, "the first number is the least"),
        ({"fetch": {"hosts": ["https://x.example"]}}, "hosts"),
    ],
)
def test_settings_that_would_open_too_much_are_told(wrong, told):
    with pytest.raises(ValidationError, match=told):
        settings(**wrong)


def test_the_password_of_the_store_is_not_shown():
    assert "geheim" not in repr(settings(store="postgresql://me:geheim@db/tags"))


def test_a_manifest_is_kept_by_its_content():
    limits = settings(max_manifest_bytes=100)
    names = [limits.check_manifest(data, name) for data, name in ((b"uri\n", "a.CSV"), (b"uri\n", "../b.csv"), (b"uri\n\n", "a.csv"), (b"PAR1", "blob"))]
    assert all(SENT.fullmatch(name) for name in names)
    assert names[0] == names[1] != names[2]
    assert names[3].endswith(".parquet")
    with pytest.raises(SourceError, match=r"photo.jpg is no manifest: its name must end in .csv"):
        limits.check_manifest(b"uri\n", "photo.jpg")
    with pytest.raises(Reject, match="at most 100 are read") as raised:
        limits.check_manifest(b"x" * 101, "a.csv")
    assert raised.value.code == RejectCode.TOO_LARGE


def test_the_truth_about_a_run():
    counts = {"rows_in": 9, "rows_tagged": 5, "rows_skipped": 3, "rows_rejected": 1, "listings": 8, "accepted": 4, "reviewed": 3, "refused": 1}
    on = state_of(RUN, Progress(3, 9, 1.26))
    assert (on.status, on.images_done, on.images, on.images_per_s, on.rows_in, on.detail) == ("running", 3, 9, 1.3, None, None)
    lost = state_of(RUN, None)
    assert (lost.status, lost.detail) == ("failed", LOST)
    done = state_of(RUN.model_copy(update={"status": "finished", "finished": "2026-11-20T02:00:00Z", **counts}), None)
    assert (done.status, done.images_done, done.images, done.finished) == ("finished", 9, 9, "2026-11-20T02:00:00Z")
    assert {name: getattr(done, name) for name in counts} == counts
    cancelled = state_of(RUN.model_copy(update={"status": "cancelled", "detail": "after 3"}), None)
    assert (cancelled.status, cancelled.detail) == ("cancelled", "after 3")


def test_decisions_as_csv(tmp_path):
    formula = '=HYPERLINK("http://evil.example")'
    with open_store(f"sqlite:///{tmp_path}/tags.db") as store:
        store.start(RUN)
        ids = [f"listing-{number:05d}" for number in range(2100)]
        store.write(batch([*ids, formula, "\t@x", "ü;\"'\n"]))
        store.write(batch(["of another"], RUN.model_copy(update={"run_id": "run-2"})))
        other = batch(["hidden"])
        uris = other["rejects"].column_names.index("uri")
        other["rejects"] = other["rejects"].set_column(uris, "uri", [["/srv/uploads/x.jpg"]])
        store.write(other)

    async def collect() -> list[bytes]:
        return [piece async for piece in in_a_thread(decisions_csv(store.url, RUN, "/srv/uploads"))]

    pieces = asyncio.run(collect())
    assert len(pieces) == 1 + 3
    rows = list(csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    found = {row["listing_id"]: row for row in rows}
    assert list(found) == sorted(found, key=lambda name: name.removeprefix("'"))
    assert set(found) == {*ids, f"'{formula}", "'\t@x", "ü;\"'\n", "hidden"}
    row = found["listing-00000"]
    assert (row["decision"], row["product"], row["product_group"], row["probability"], row["reasons"]) == ("accept", "mug", "kitchen", "0.75", '["low"]')
    assert json.loads(row["uris"]) == [f"s3://shop/listing-00000/{name}.jpg" for name in ("0", "1", "broken")]
    assert json.loads(found["hidden"]["uris"]) == ["x.jpg", "s3://shop/hidden/0.jpg", "s3://shop/hidden/1.jpg"]


def test_a_caller_who_hangs_up_ends_the_reading(tmp_path):
    ended, go_on, is_slow = threading.Event(), threading.Event(), threading.Event()

    def pieces():
        try:
            yield b"x"
            is_slow.set()
            assert go_on.wait(30)
            yield b"y"
        finally:
            ended.set()

    async def hang_up() -> None:
        reading = in_a_thread(pieces())
        assert await anext(reading) == b"x"
        second = asyncio.create_task(anext(reading))
        await asyncio.to_thread(is_slow.wait, 30)
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second
        # Here the event loop has not waited for the piece that is still being made.
        assert not ended.is_set()

    asyncio.run(hang_up())
    go_on.set()
    assert ended.wait(30)
