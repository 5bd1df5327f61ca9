"""Reference photos of labels: small JPEGs in one file beside shards or a bundle, read one by one.

photos.parquet    photo (its id, which `Label.photo` names: 16 hex digits of the sha256 of the JPEG), jpeg
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

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
    """The photos beside bundles and shards. Nothing is read before the first is asked for; a file that is missing or damaged holds none."""

    def __init__(self, *folders: Folder) -> None:
        self._folders = folders

    def get(self, photo: str) -> bytes | None:
        """The JPEG of an id."""
        return self.chosen([photo]).get(photo)

    def chosen(self, photos: Iterable[str | None]) -> dict[str, bytes]:
        """Those of the ids that are there; each part of a file is read once."""
        found: dict[str, bytes] = {}
        by_part: dict[tuple[int, int], set[str]] = {}
        for photo in photos:
            if photo in self._places:
                by_part.setdefault(self._places[photo], set()).add(photo)
        for (folder, group), wanted in sorted(by_part.items()):
            try:
                with _opened(self._folders[folder]) as file:
                    part = file.read_row_group(group)
                # By name: another bundle may have been written here since.
                found |= {photo: jpeg.as_py() for photo, jpeg in zip(part["photo"].to_pylist(), part["jpeg"], strict=True) if photo in wanted}
            except _LOST:
                continue
        return found

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Folder and row group, by id; of the first folder that has it."""
        places: dict[str, tuple[int, int]] = {}
        for number, folder in enumerate(self._folders):
            try:
                with _opened(folder) as file:
                    names = [file.read_row_group(group, columns=["photo"])["photo"].to_pylist() for group in range(file.num_row_groups)]
            except _LOST:
                continue
            places = {name: (number, group) for group, part in enumerate(names) for name in part} | places
        return places


# Missing, taken away since, damaged, or another file of that name.
_LOST = (OSError, pa.ArrowException, LookupError)


@contextmanager
def _opened(folder: Folder) -> Iterator[pq.ParquetFile]:
    with folder.filesystem.open_input_file(folder.within(PHOTOS)) as stream, pq.ParquetFile(stream) as file:
        yield file
