"""Shards seen by listing: the unit that orders shuffle, batches count and metrics judge is a listing with its views. No torch here.

A listing is here a sequence as `prodrec.shards.listing_order` leaves it: neighbouring rows with one listing_id and one label. Where
it has more views than a model takes, those spread evenly over it are shown.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prodrec.errors import ShardsError
from prodrec.shards.listing_order import sequence_ends
from prodrec.shards.order import Ints, Window
from prodrec.shards.reading import Shards, SplitIndex


@dataclass(frozen=True)
class ListingSplit(SplitIndex):
    """A split whose rows are its listings.

    Attributes:
        max_views: shown of a listing at most.
        ends: [L], where each listing ends among the images of the split.
    """

    max_views: int = 1
    ends: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @cached_property
    def row_group_sizes(self) -> list[int]:
        """Listings of each row group."""
        edges = np.cumsum([0, *(rows for file in self.files for rows in file.row_groups)])
        return np.diff(np.searchsorted(self.ends, edges, side="right")).tolist()

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of the first image of each listing, [L]."""
        return self._images.column(name).take(pa.array(self._starts))

    def image(self, row: int) -> bytes:
        """The JPEG of a listing's first view."""
        return self._images.image(int(self._starts[row]))

    def read(self, window: Window) -> pa.Table:
        """The listings of a window in its order: `columns` (of the first view, but `image` a list of all shown), lane, row, occurrence.

        The list `image_row` has the numbers of the images in the split.
        """
        starts, ends = self._starts[window.rows], self.ends[window.rows]
        shown = [start + evenly(int(end - start), self.max_views) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        offsets = np.cumsum([0, *map(len, shown)])
        image_rows = np.concatenate([*shown, np.empty(0, dtype=np.int64)])
        images = self._images.read(Window(window.lane, image_rows, np.zeros_like(image_rows)))
        columns = {name: images[name].take(pa.array(offsets[:-1])) for name in self.columns}
        within = pa.array(offsets.astype(np.int32))
        columns["image"] = pa.ListArray.from_arrays(within, pc.cast(images["image"], pa.large_binary()).combine_chunks())
        columns["image_row"] = pa.ListArray.from_arrays(within, pa.array(image_rows))
        columns |= {"lane": pa.array(np.full(len(shown), window.lane)), "row": pa.array(window.rows), "occurrence": pa.array(window.occurrence)}
        return pa.table(columns)

    @property
    def _images(self) -> SplitIndex:
        return SplitIndex(self.uri, self.files, self.columns, self.label_ids, self.index)

    @cached_property
    def _starts(self) -> Ints:
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int64)[: len(self.ends)]


@dataclass(frozen=True)
class ListingShards(Shards):
    """Shards whose splits are `ListingSplit`s.

    Attributes:
        ends: of each split, as `ListingSplit.ends`.
    """

    max_views: int = 1
    ends: dict[str, Ints] = field(default_factory=dict)

    def split(self, name: str) -> ListingSplit:
        images, ends = super().split(name), self.ends.get(name, np.empty(0, dtype=np.int64))
        return ListingSplit(images.uri, images.files, images.columns, images.label_ids, images.index, self.max_views, ends)


def by_listing(shards: Shards, max_views: int) -> ListingShards:
    """The same shards, seen by listing.

    Raises:
        ShardsError: they name no listings, or an older prepare left the images of a listing apart.
    """
    if shards.manifest.listings is None:
        raise ShardsError(
            f"{shards.uri} names no listings, and this model fuses the views of one (model.fuse); "
            "prepare a manifest with a column listing_id (and view), or choose a model of single images"
        )
    ends = {name: _listing_ends(shards.split(name)) for name in shards.manifest.splits}
    manifest = shards.manifest.model_copy(update={"label_counts": {}})  # they count images
    return ListingShards(shards.uri, manifest, shards.manifest_sha256, shards.label_ids, max_views, ends)


def seen_by(shards: Shards, max_views: int) -> Shards:
    """Shards seen by listing as a model of so many views sees them; others as they are."""
    return replace(shards, max_views=max_views) if isinstance(shards, ListingShards) else shards


def views_shown(shards: Shards, max_views: int, split: str) -> float:
    """Images that a model of so many views sees of a row of a split, on average: 1 where shards are not seen by listing."""
    if not isinstance(shards, ListingShards):
        return 1.0
    return float(np.diff(shards.ends[split], prepend=0).clip(max=max_views).mean())


def evenly(count: int, most: int) -> Ints:
    """Numbers of `count` views, or of `most` of them spread evenly: around a product, or through a film."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)


def _listing_ends(split: SplitIndex) -> Ints:
    """A row group's end is a listing's end: it is never cut but where it is longer than one."""
    plain = replace(split, label_ids=None)
    groups = np.cumsum(split.row_group_sizes).astype(np.int64)
    return np.union1d(sequence_ends(plain.column("listing_id"), plain.column("label_id")), groups)
