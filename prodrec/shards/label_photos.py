"""The reference photo of each label: the one that the source gives, else one that is learned from.

Of an image that is learned from the rule is: the lowest view, then the lowest sha256, so it is the same in every prepare. Of photos
with boxes, the largest box of the label, cut out. What is held out is never shown.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from prodrec.errors import Reject
from prodrec.files import Folder
from prodrec.images.formats import ImageLimits
from prodrec.images.thumbnails import thumbnail
from prodrec.label_photos import PHOTO_SIDE_PX, PHOTOS, packed_photos, photo_id
from prodrec.machine import usable_cores
from prodrec.shards.order import Ints
from prodrec.shards.schema import LabelPhotoCounts
from prodrec.shards.writers import WantedPhoto
from prodrec.sources.image_bytes import read_images
from prodrec.sources.labels import LabelText

# Photos that are held at once, and refused ones that the manifest names. Source: assumed.
_AT_ONCE, _NAMED = 64, 20


class GivenPhotos(NamedTuple):
    """Photos that a source gives, by label, and a line for each that cannot be used."""

    jpegs: Mapping[str, bytes]
    refused: tuple[tuple[str, str], ...] = ()
    """(reason code, what is wrong)"""


NO_PHOTOS = GivenPhotos({})


def read_given(labels: Mapping[str, LabelText], limits: ImageLimits = ImageLimits()) -> GivenPhotos:
    """Reads and shrinks the photos that a source gives; one that cannot be used costs itself only."""
    wanted = [(label, text.photo) for label, text in labels.items() if text.photo]
    jpegs, refused = dict[str, bytes](), list[tuple[str, str]]()
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = _bytes_of([photo for _, photo in wanted], limits.max_bytes)
        names = iter(label for label, _ in wanted)
        while chunk := list(islice(found, _AT_ONCE)):
            for label, shrunk in zip(islice(names, len(chunk)), pool.map(lambda data: _shrunk(data, limits), chunk), strict=True):
                if isinstance(shrunk, Reject):
                    refused.append((shrunk.code.value, f"the photo of label '{label}': {shrunk.detail}"))
                else:
                    jpegs[label] = shrunk
    return GivenPhotos(jpegs, tuple(refused))


class PhotoPicker:
    """Chooses the photos of labels, and gathers them as shards are written.

    Args:
        kept: the rows of the shards, with split, label, view, sha256 and, of photos with boxes, objects.
        fills: whether labels without a given photo get one that is learned from.
    """

    def __init__(self, kept: pd.DataFrame, given: GivenPhotos, fills: bool) -> None:
        self._given, self._taken = given, dict[str, bytes]()
        chosen = _largest_boxes(kept) if kept["objects"].notna().any() else _first_images(kept)
        missing = [(label, row, box) for label, row, box in chosen if label not in given.jpegs] if fills else []
        self._wanted = sorted(missing, key=lambda wanted: wanted[1])
        self._rows = np.array([row for _, row, _ in self._wanted], dtype=np.int64)

    def wanted_of(self, rows: Ints) -> list[WantedPhoto]:
        """What is to be made of a shard with these rows of `kept`."""
        order = np.argsort(rows)
        place = np.searchsorted(rows, self._rows, sorter=order).clip(max=len(rows) - 1)
        here = np.flatnonzero(rows[order[place]] == self._rows)
        return [WantedPhoto(self._wanted[one][0], int(order[place[one]]), self._wanted[one][2]) for one in here]

    def take(self, photos: Mapping[str, bytes]) -> None:
        """Keeps what was made of a shard."""
        self._taken |= photos

    @property
    def jpegs(self) -> dict[str, bytes]:
        """By label."""
        return {**self._taken, **self._given.jpegs}

    def write(self, out: Folder) -> None:
        """Writes photos.parquet, if there is a photo."""
        if photos := packed_photos({photo_id(jpeg): jpeg for jpeg in self.jpegs.values()}):
            out.write(PHOTOS, photos)

    def counts(self) -> LabelPhotoCounts:
        codes = Counter(code for code, _ in self._given.refused)
        return LabelPhotoCounts(
            given=len(self._given.jpegs), taken=len(self._taken), refused=dict(sorted(codes.items())), named=[line for _, line in self._given.refused[:_NAMED]]
        )


def _bytes_of(photos: list[str | bytes], max_bytes: int) -> Iterator[bytes | Reject]:
    places = [photo for photo in photos if isinstance(photo, str)]
    nowhere = pa.nulls(len(places), pa.int32())
    read = read_images(pa.table({"uri": pa.array(places, pa.string()), "row_group": nowhere, "row": nowhere}), max_bytes)
    for photo in photos:
        yield next(read) if isinstance(photo, str) else photo


def _shrunk(data: bytes | Reject, limits: ImageLimits) -> bytes | Reject:
    if isinstance(data, Reject):
        return data
    try:
        return thumbnail(data, PHOTO_SIDE_PX, limits=limits)
    except Reject as reject:
        return reject


def _first_images(kept: pd.DataFrame) -> Iterator[tuple[str, int, None]]:
    train = kept[kept["split"] == "train"]
    ordered = train.assign(view=train["view"].fillna(0)).sort_values(["view", "sha256"], kind="stable")
    for row, label in ordered.drop_duplicates("label")["label"].items():
        yield label, int(row), None


def _largest_boxes(kept: pd.DataFrame) -> Iterator[tuple[str, int, list[float]]]:
    best: dict[str, tuple[float, str, int, list[float]]] = {}
    train = kept[kept["split"] == "train"]
    for row, sha256, objects in zip(train.index, train["sha256"], train["objects"], strict=True):
        for item in objects:
            box = [float(edge) for edge in item["box"]]
            found = ((box[2] - box[0]) * (box[3] - box[1]), sha256, int(row), box)
            if not item["crowd"] and (item["label"] not in best or found > best[item["label"]]):
                best[item["label"]] = found
    for label, (_, _, row, box) in best.items():
        yield label, row, box
