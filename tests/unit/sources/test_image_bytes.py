"""Images of a listing come in order, one answer a row."""

import os
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from prodrec import files
from prodrec.errors import Reject, RejectCode, SourceError
from prodrec.sources import image_bytes
from prodrec.sources.columns import listing
from prodrec.sources.image_bytes import lies_below, read_images
from prodrec.sources.source import open_source


def of(*uris: str | None) -> pa.Table:
    return listing(len(uris), {"uri": pa.array(uris, pa.string())})


def embedded(path: Path, places: list[tuple[int, int]]) -> pa.Table:
    groups, rows = (pa.array(column, pa.int32()) for column in zip(*places, strict=True))
    return listing(len(places), {"uri": pa.array([str(path)] * len(places)), "row_group": groups, "row": rows})


def answers(table: pa.Table, max_bytes: int = 1000) -> list[bytes | RejectCode]:
    return [found.code if isinstance(found, Reject) else found for found in read_images(table, max_bytes)]


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """`s3://bucket/` is a local folder; everything but the network is as for a real store."""
    (tmp_path / "bucket").mkdir()
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    real = files.resolve
    monkeypatch.setattr(files, "resolve", lambda uri: (store, uri.split("://")[1].split("?")[0].rstrip("/")) if uri.startswith("s3://") else real(uri))
    image_bytes._filesystem.cache_clear()
    return tmp_path / "bucket"


def test_local_files_and_what_is_none(tmp_path):
    (tmp_path / "a b%20.jpg").write_bytes(b"one")
    (tmp_path / "large").write_bytes(bytes(1001))
    (tmp_path / "largest").write_bytes(bytes(1000))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    names = ["a b%20.jpg", "large", "largest", "pipe", "absent", "", "a b%20.jpg/below", "nul\0", "circle", "a" * 300]
    expected = [b"one", RejectCode.TOO_LARGE, bytes(1000), *[RejectCode.MISSING] * 9]
    assert answers(of(*(f"{tmp_path}/{name}" for name in names), None, "/dev/zero")) == expected


def of_cause(cause: Exception) -> SourceError:
    error = SourceError("cannot open s3://bucket")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "x"), "fetch_failed"),
        (OSError(5, "x"), "fetch_failed"),
        (OSError(24, "too many files are open"), "fetch_failed"),
        (OSError("AWS Error\nACCESS_DENIED"), "fetch_failed"),
        (of_cause(OSError("no connection")), "fetch_failed"),
        (of_cause(pa.ArrowInvalid("no such scheme")), "missing"),
        (FileNotFoundError(2, "x"), "missing"),
        (pa.ArrowInvalid("x"), "missing"),
    ],
)
def test_what_goes_wrong_while_reading_is_not_the_images_fault_unless_it_is_not_there(monkeypatch, error, code):
    def fail(uri: str, max_bytes: int) -> bytes:
        raise error

    monkeypatch.setattr(image_bytes, "_read_local", fail)
    [found] = read_images(of("/a"), 10)
    assert isinstance(found, Reject)
    assert found.code == code
    assert found.detail.startswith("/a: ")
    assert "\n" not in found.detail


def test_a_large_file_is_refused_unread(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 36)
    assert answers(of(f"{tmp_path}/sparse")) == [RejectCode.TOO_LARGE]


def test_http_says_who_fetches_it():
    [found] = read_images(of("https://example.org/1.jpg"), 10)
    assert isinstance(found, Reject)
    assert found.code == RejectCode.MISSING
    assert "http is fetched by `prodrec tag`, not here" in found.detail


def test_unknown_schemes_are_missing():
    assert answers(of("gopher://a/b", "://")) == [RejectCode.MISSING] * 2


def test_remote_files_come_in_order_beside_local_ones(bucket, tmp_path):
    (tmp_path / "local").write_bytes(b"local")
    for i in range(30):
        (bucket / f"{i} %41.jpg").write_bytes(b"%d" % i)
    (bucket / "large").write_bytes(bytes(1001))
    uris = [f"s3://bucket/{i} %41.jpg?region=x" for i in range(30)] + ["s3://bucket/large", f"{tmp_path}/local", "s3://bucket/absent", "s3://bucket"]
    # A bucket is no file; stores say it in words alone.
    expected = [b"%d" % i for i in range(30)] + [RejectCode.TOO_LARGE, b"local", RejectCode.MISSING, RejectCode.FETCH_FAILED]
    assert answers(of(*uris)) == expected


def test_remote_reads_overlap_and_stay_bounded(monkeypatch):
    lock, running, peak, started = threading.Lock(), 0, 0, 0
    overlapped = threading.Event()

    def slow(uri: str, max_bytes: int) -> bytes:
        nonlocal running, peak, started
        with lock:
            running, started = running + 1, started + 1
            peak = max(peak, running)
            if running > 1:
                overlapped.set()
        overlapped.wait(timeout=10)  # the first read ends only when a second has begun
        with lock:
            running -= 1
        return uri.encode()

    monkeypatch.setattr(image_bytes, "_read_remote", slow)
    reader = read_images(of(*(f"s3://b/{i}" for i in range(40))), 10)
    assert next(reader) == b"s3://b/0"
    assert started <= image_bytes.REMOTE_READS
    assert list(reader) == [f"s3://b/{i}".encode() for i in range(1, 40)]
    assert 2 <= peak <= image_bytes.REMOTE_READS


def test_a_remote_source_is_listed_and_read(bucket):
    for name in ("apple/1 a.jpg", "pear/2.jpg"):
        (bucket / name).parent.mkdir()
        (bucket / name).write_bytes(name.encode())
    source = open_source("s3://bucket")
    assert source.listing["uri"].to_pylist() == ["s3://bucket/apple/1 a.jpg", "s3://bucket/pear/2.jpg"]
    assert answers(source.listing) == [b"apple/1 a.jpg", b"pear/2.jpg"]


def image(index: int) -> bytes:
    return b"%d" % index * 20


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("embedded") / "m.parquet"
    pq.write_table(pa.table({"bytes": [image(i) for i in range(100)], "label": ["x"] * 100}), path, row_group_size=40)
    return path


@settings(max_examples=50, deadline=None)
@given(indices=st.lists(st.integers(0, 99), min_size=1, max_size=50))
def test_embedded_images_in_any_order(parquet, indices):
    assert answers(embedded(parquet, [divmod(i, 40) for i in indices])) == [image(i) for i in indices]


def test_each_row_group_is_read_once(parquet, monkeypatch):
    read = []
    real = image_bytes._batches
    monkeypatch.setattr(image_bytes, "_batches", lambda uri, row_group: read.append(row_group) or real(uri, row_group))
    assert answers(open_source(str(parquet)).listing) == [image(i) for i in range(100)]
    assert read == [0, 1, 2]


def test_embedded_rejects_stand_in_their_place(tmp_path):
    pq.write_table(pa.table({"bytes": [b"a", None, bytes(1001), b""], "label": ["x"] * 4}), tmp_path / "m.parquet")
    table = open_source(str(tmp_path)).listing
    assert answers(table) == [b"a", RejectCode.MISSING, RejectCode.TOO_LARGE, b""]
    (tmp_path / "m.parquet").unlink()
    assert answers(table) == [RejectCode.MISSING] * 4


def test_a_changed_file_is_missing_from_where_it_differs(parquet):
    assert answers(embedded(parquet, [(2, 19), (2, 20), (2, 21), (9, 0), (0, 1)])) == [image(99), *[RejectCode.MISSING] * 3, image(1)]


def test_a_row_group_is_not_held_in_memory(tmp_path):
    table = pa.table({"bytes": [os.urandom(100_000) for _ in range(400)], "label": ["x"] * 400})
    pq.write_table(table, tmp_path / "m.parquet", use_dictionary=False, compression="none", write_batch_size=8)
    del table
    source, before, peak = open_source(str(tmp_path)), pa.total_allocated_bytes(), 0
    for _ in read_images(source.listing, 1_000_000):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 20_000_000


@pytest.mark.parametrize("escape", ["%2e%2e", "..%2f..%2fother", "%2E%2e/x", "a%20b"])
def test_what_is_escaped_in_a_uri_lies_nowhere(escape):
    """Filesystems unescape it: it would be another place than the one that was looked at."""
    assert not lies_below(f"s3://bucket/manifests/{escape}/x.csv", ["s3://bucket/manifests/"])
