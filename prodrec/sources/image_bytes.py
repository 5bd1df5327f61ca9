"""Bytes of listed images, in order, with bounded memory; an image that cannot be had is a Reject in its place."""

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from prodrec import files
from prodrec.errors import Reject, RejectCode, SourceError
from prodrec.sources.embedded import embedded_column, leaf
from prodrec.sources.spelling import as_spelled, forms

# Reads in flight at once from an object store, and images held at once. Source: assumed; a request takes about 50 ms.
REMOTE_READS = 8
# Rows decoded at once from a Parquet row group. Source: assumed; at the 50 MB limit of an image that is 800 MB.
ROWS_AT_ONCE = 16
# Source: assumed; a Parquet page is about 1 MB.
PAGE_BUFFER_BYTES = 8 << 20

# What the system says of a name that no file has, tonight or ever. Source: open(2).
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}

_REMOTE = re.compile(r"(?P<root>[A-Za-z][A-Za-z0-9+.-]*://[^/]*)(?P<key>/[^?]*)(?P<query>\?.*)?")


class _Place(NamedTuple):
    uri: str | None
    row_group: int | None
    row: int
    offset: int | None
    size: int | None

    @property
    def run(self) -> tuple[str, str, int]:
        """Rows that follow each other and share this are read together."""
        if self.row_group is not None:
            return "embedded", self.uri or "", self.row_group
        if self.offset is not None:
            return "archived", "", 0
        return ("remote" if "://" in (self.uri or "") else "local"), "", 0


def read_images(listing: pa.Table, max_bytes: int) -> Iterator[bytes | Reject]:
    """Reads the images of a listing, one item a row, in order.

    Args:
        listing: of LISTING_SCHEMA; without `offset` none is in an archive.
        max_bytes: a larger file is not read but rejected as `too_large`.

    Yields:
        The image's bytes, or a Reject: `missing` (not there, no file, or no place that can be read), `fetch_failed` (the disk, the
        object store or the rights failed: it may be had tomorrow) or `too_large`.
    """
    missing = [name for name in ("offset", "size") if name not in listing.column_names]
    for name in missing:
        listing = listing.append_column(name, pa.nulls(len(listing), pa.int64()))
    columns = listing.select(_Place._fields)
    rows = chain.from_iterable(zip(*(column.to_pylist() for column in batch.columns), strict=True) for batch in columns.to_batches(max_chunksize=1024))
    for (kind, uri, row_group), run in groupby((_Place(*row) for row in rows), key=lambda place: place.run):
        if kind == "embedded":
            yield from (_checked(found, max_bytes) for found in _read_row_group(uri, row_group, (place.row for place in run)))
        elif kind == "archived":
            yield from _overlapped(run, lambda place: _attempt(partial(_read_member, place=place), place.uri or "", max_bytes))
        elif kind == "remote":
            yield from _overlapped(run, lambda place: _attempt(_read_remote, place.uri or "", max_bytes))
        else:
            yield from (_attempt(_read_local, place.uri or "", max_bytes) for place in run)


def lies_below(uri: str, folders: Iterable[str]) -> bool:
    """Whether a place is one of the folders or lies below one.

    Args:
        uri, folders: absolute paths, whose links are followed, or URIs, which must have the same scheme, user, host and query, letter
            by letter. What could be read in two ways (`..`, `//`, a relative path, in a URI any %) lies nowhere.
    """
    place = _names(uri)
    return place is not None and any(place[: len(names)] == names for names in map(_names, folders) if names)


def _names(uri: str) -> tuple[str, ...] | None:
    """Where a place is on its filesystem, from the outermost name to its own; None: it could be read in two ways."""
    if uri.startswith("/") and "://" not in uri:
        try:
            return Path(uri).resolve().parts
        except (OSError, ValueError, RuntimeError):  # links in a circle, or a NUL
            return None
    match = _REMOTE.fullmatch(uri)
    names = match["key"].removeprefix("/").removesuffix("/").split("/") if match else [".."]
    if match is None or "%" in uri or (names != [""] and {"", ".", ".."} & set(names)):
        return None
    return f"{match['root']}{match['query'] or ''}", *filter(None, names)


def _attempt(read: Callable[[str, int], bytes], uri: str, max_bytes: int) -> bytes | Reject:
    """A Reject as a value, whatever goes wrong while reading."""
    try:
        return read(uri, max_bytes)
    except Reject as reject:
        return reject
    except (OSError, pa.ArrowException, SourceError, ValueError) as error:
        return _unreadable(uri, error)


def _unreadable(uri: str, error: Exception) -> Reject:
    """A failure that says nothing of the image itself is `fetch_failed`: what is known of the image holds, and it is tried again."""
    cause = error.__cause__ if isinstance(error, SourceError) else error
    passing = isinstance(cause, OSError) and cause.errno not in _ABSENT
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else " ".join(str(error).split()) or "ends too early"
    return Reject(RejectCode.FETCH_FAILED if passing else RejectCode.MISSING, f"{uri}: {reason}")


def _read_local(path: str, max_bytes: int) -> bytes:
    if not path:
        raise Reject(RejectCode.MISSING, "the source gives no URI")
    try:
        found = Path(path).stat()
    except OSError as error:
        spelled = as_spelled(path) if error.errno in _ABSENT else None
        if spelled is None:
            raise
        path, found = spelled, Path(spelled).stat()
    # A pipe or a device would block or never end.
    if not stat.S_ISREG(found.st_mode):
        raise Reject(RejectCode.MISSING, f"{path} is {'a folder' if stat.S_ISDIR(found.st_mode) else 'no regular file'}")
    _check_size(found.st_size, max_bytes)
    with open(path, "rb") as file:
        return file.read()


def _read_remote(uri: str, max_bytes: int) -> bytes:
    if uri.startswith(("http://", "https://")):
        raise Reject(RejectCode.MISSING, f"{uri}: http is fetched by `prodrec tag`, not here")
    filesystem, path = _locate(uri)
    try:
        return _read_object(filesystem, path, max_bytes)
    except FileNotFoundError:
        slashed = path.replace("\\", "/")
        for spelling in {**forms(path), **({} if ".." in slashed.split("/") else forms(slashed))}:
            if spelling != path:
                with suppress(FileNotFoundError):
                    return _read_object(filesystem, spelling, max_bytes)
        raise


def _read_object(filesystem: fs.FileSystem, path: str, max_bytes: int) -> bytes:
    with filesystem.open_input_file(path) as file:
        _check_size(file.size(), max_bytes)
        return bytes(file.read())


def _read_member(uri: str, max_bytes: int, place: _Place) -> bytes:
    """A file within a tar archive, which `uri` names before its last #."""
    size = place.size or 0
    _check_size(size, max_bytes)
    filesystem, path = _locate(uri.rpartition("#")[0])
    with filesystem.open_input_file(path) as file:
        data = bytes(file.read_at(size, place.offset))
    if len(data) < size:
        raise Reject(RejectCode.MISSING, f"{uri}: the archive ends too early")
    return data


def _locate(uri: str) -> tuple[fs.FileSystem, str]:
    match = _REMOTE.fullmatch(uri)
    if match is None:
        return files.resolve(uri)
    filesystem, root = _filesystem(f"{match['root']}/{match['query'] or ''}")
    return filesystem, root.rstrip("/") + match["key"]


@lru_cache(maxsize=16)
def _filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """Setting up an object store takes a request or more: once a bucket, not once an image."""
    return files.resolve(root)


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise Reject(RejectCode.TOO_LARGE, f"{size_bytes:,} bytes; at most {max_bytes:,} are read")


def _overlapped(places: Iterable[_Place], read: Callable[[_Place], bytes | Reject]) -> Iterator[bytes | Reject]:
    """Reads ahead in threads, in order, at most REMOTE_READS images at once."""
    pending: deque[Future[bytes | Reject]] = deque()
    pool = ThreadPoolExecutor(REMOTE_READS)
    try:
        for place in places:
            pending.append(pool.submit(read, place))
            if len(pending) == REMOTE_READS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_row_group(uri: str, row_group: int, rows: Iterator[int]) -> Iterator[bytes | Reject | None]:
    """Cells of the bytes column of one row group, which is read once if rows ascend; where it breaks off, the rows left get a Reject."""
    start, batch, batches = 0, pa.array([]), _batches(uri, row_group)
    broken: Reject | None = None
    for row in rows:
        cell = None
        try:
            if row < start:
                start, batch, batches = 0, pa.array([]), _batches(uri, row_group)
            while not broken and row >= start + len(batch):
                start, batch = start + len(batch), next(batches)
            cell = None if broken else batch[row - start].as_py()
        except (OSError, pa.ArrowException, SourceError, StopIteration, LookupError) as error:
            broken = _unreadable(uri, error)
        yield broken or cell


def _batches(uri: str, row_group: int) -> Iterator[pa.Array]:
    filesystem, path = _locate(uri)
    # So pages are read one by one: 20 MB instead of 300 MB held for a row group of 300 MB (measured).
    with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream, buffer_size=PAGE_BUFFER_BYTES, pre_buffer=False) as file:
        column = embedded_column(file.schema_arrow, uri)
        if column is None:
            raise SourceError(f"{uri} holds no bytes of images any more")
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[row_group], columns=[column]):
            yield leaf(batch.column(0))


def _checked(found: bytes | Reject | None, max_bytes: int) -> bytes | Reject:
    if isinstance(found, Reject):
        return found
    if found is None:
        return Reject(RejectCode.MISSING, "the manifest's row holds no bytes")
    return Reject(RejectCode.TOO_LARGE, f"{len(found):,} bytes; at most {max_bytes:,} are read") if len(found) > max_bytes else found
