"""Reference photos of labels: small JPEGs in one file beside shards or a bundle, read one by one.

photos.parquet    photo (its id, which `Label.photo` names: 16 hex digits of the sha256 of the JPEG), jpeg
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.files import Folder

PHOTOS = "photos.parquet"
# Longer side, pixels. 9,691 of them take about 50 MB. Source: docs/log.md 2026-11-28.
PHOTO_SIDE_PX = 128
# What is read for one photo: some 200 kB. Source: assumed.
_ROWS_AT_ONCE = 64
_SCHEMA = pa.schema([("photo", pa.string()), ("jpeg", pa.binary())])


def photo_id(jpeg: bytes) -> str:
    """By its content: so equal photos are one, and an address that holds it means the same photo for ever."""
    return hashlib.sha256(jpeg).hexdigest()[:16]


def packed_photos(jpegs: Mapping[str, bytes]) -> bytes:
    """The content of photos.parquet, b"" for no photo; equal photos give equal bytes."""
    if not jpegs:
        return b""
    sink = pa.BufferOutputStream()
    table = pa.table({"photo": sorted(jpegs), "jpeg": [jpegs[name] for name in sorted(jpegs)]}, schema=_SCHEMA)
    pq.write_table(table, sink, row_group_size=_ROWS_AT_ONCE, compression={"photo": "zstd", "jpeg": "none"}, use_dictionary=False)
    return bytes(sink.getvalue())


class LabelPhotos:
    """The photos beside a bundle or shards. Nothing is read before the first is asked for; a file that is missing or damaged holds none."""

    def __init__(self, folder: Folder | None = None) -> None:
        self._folder = folder

    def get(self, photo: str) -> bytes | None:
        """The JPEG of an id."""
        if (place := self._places.get(photo)) is None:
            return None
        group, row = place
        cell = self._read("jpeg", [group])[row].as_py()
        return cell if isinstance(cell, bytes) else None

    def chosen(self, photos: Iterable[str]) -> dict[str, bytes]:
        """Those of the ids that are there; each part of the file is read once."""
        found: dict[str, bytes] = {}
        by_group: dict[int, list[tuple[str, int]]] = {}
        for photo in photos:
            if (place := self._places.get(photo)) is not None:
                by_group.setdefault(place[0], []).append((photo, place[1]))
        for group, wanted in sorted(by_group.items()):
            column = self._read("jpeg", [group])
            found |= {photo: column[row].as_py() for photo, row in wanted}
        return found

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Row group and row in it, by id."""
        try:
            if self._folder is None or not self._folder.exists(PHOTOS):
                return {}
            with self._folder.filesystem.open_input_file(self._folder.within(PHOTOS)) as stream, pq.ParquetFile(stream) as file:
                sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                names = file.read(columns=["photo"])["photo"].to_pylist()
        except (OSError, pa.ArrowException, KeyError):
            return {}
        groups, rows = np.repeat(np.arange(len(sizes)), sizes).tolist(), [row for size in sizes for row in range(size)]
        return dict(zip(names, zip(groups, rows, strict=True), strict=True))

    def _read(self, column: str, groups: Sequence[int]) -> pa.ChunkedArray:
        """Where the file was taken away or damaged since: nulls."""
        assert self._folder is not None
        try:
            with self._folder.filesystem.open_input_file(self._folder.within(PHOTOS)) as stream, pq.ParquetFile(stream) as file:
                return file.read_row_groups(list(groups), columns=[column])[column]
        except (OSError, pa.ArrowException, KeyError):
            return pa.chunked_array([pa.nulls(_ROWS_AT_ONCE, pa.binary())])


def collected(photos: Iterable[str | None], places: Sequence[LabelPhotos]) -> bytes:
    """The content of a photos.parquet with all of the ids that one of the places has."""
    wanted, found = {photo for photo in photos if photo}, dict[str, bytes]()
    for place in places:
        found |= place.chosen(wanted - found.keys())
    return packed_photos(found)
