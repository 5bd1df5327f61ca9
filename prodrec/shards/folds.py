"""Train and val as one: all of it to learn from, or in folds of which one is held out.

Rows of both are numbered through, those of train first. What `prodrec prepare` keeps in one split stays in one fold: the images of a
listing, and the same bytes. Not covered: shards seen by listing (`prodrec.shards.listing_shards`).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from prodrec.shards.order import Ints, Window
from prodrec.shards.reading import Shards, SplitIndex
from prodrec.shards.split import units

LEARNED = ("train", "val")
# Numbers in names are compared as numbers, up to so many digits. Source: assumed.
_DIGITS = 12
HELD_OUT = "held_out"


def joined(shards: Shards) -> Shards:
    """The same shards, whose train is train and val together; they have no val."""
    splits = {name: files for name, files in shards.manifest.splits.items() if name not in LEARNED}
    both = [file for name in LEARNED for file in shards.manifest.splits.get(name, [])]
    return replace(shards, manifest=shards.manifest.model_copy(update={"splits": {"train": both} | splits}))


def fold_numbers(shards: Shards, folds: int) -> Ints:
    """[N] the fold of each row of train, 1 to `folds`: of each label stretches of its images in the order of their names.

    Neighbours by name were mostly taken one after the other. Dealt out one by one they answer for each other: on grocery's val such
    folds were right on 88 %, stretches on 76 %, and a training without val on 73 % (docs/log.md 2026-11-28).

    Args:
        shards: `joined`.
    """
    split = shards.split("train")
    rows = pd.DataFrame({name: split.column(name).to_pandas() for name in ("label_id", "sha256", "listing_id", "uri")})
    rows["unit"] = units(rows["sha256"], rows["listing_id"])
    rows["name"] = rows["uri"].fillna("").str.replace(r"\d+", lambda digits: digits.group().zfill(_DIGITS), regex=True)
    first = rows.groupby("unit").agg(label_id=("label_id", "min"), name=("name", "min")).sort_values(["label_id", "name"])
    by_label = first.groupby("label_id")["name"]
    # Turned from label to label: else the first fold would have all labels of one image.
    stretch = by_label.cumcount() * folds // by_label.transform("size") + first["label_id"]
    return rows["unit"].map(stretch % folds + 1).to_numpy(np.int64)


@dataclass(frozen=True)
class RowsOf(SplitIndex):
    """Some rows of a split, numbered anew.

    Attributes:
        chosen: [n] their numbers in the split, ascending.
    """

    chosen: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @cached_property
    def row_group_sizes(self) -> list[int]:
        """Chosen rows of each row group."""
        edges = np.cumsum([0, *self._whole.row_group_sizes])
        return np.diff(np.searchsorted(self.chosen, edges)).tolist()

    def column(self, name: str) -> pa.ChunkedArray:
        return self._whole.column(name).take(pa.array(self.chosen))

    def read(self, window: Window) -> pa.Table:
        table = self._whole.read(replace(window, rows=self.chosen[window.rows]))
        return table.set_column(table.column_names.index("row"), "row", pa.array(window.rows))

    @property
    def _whole(self) -> SplitIndex:
        return SplitIndex(self.uri, self.files, self.columns, self.label_ids)


@dataclass(frozen=True)
class FoldShards(Shards):
    """Train and val but for one fold, which is the split HELD_OUT; nothing else.

    Attributes:
        rows: of the two splits, numbers in `joined` shards' train.
    """

    rows: dict[str, Ints] = field(default_factory=dict)

    @property
    def held_out(self) -> Ints:
        """[n], rows of the fold among those of `joined` shards' train."""
        return self.rows[HELD_OUT]

    def split(self, name: str) -> SplitIndex:
        whole = super().split("train")
        return RowsOf(whole.uri, whole.files, whole.columns, whole.label_ids, self.rows.get(name, np.empty(0, dtype=np.int64)))


def without_fold(shards: Shards, folds: int, fold: int) -> FoldShards:
    """`joined` shards without one fold."""
    numbers = fold_numbers(shards, folds)
    rows = {"train": np.flatnonzero(numbers != fold), HELD_OUT: np.flatnonzero(numbers == fold)}
    return FoldShards(shards.uri, shards.manifest, shards.manifest_sha256, shards.label_ids, rows)


def without_test(shards: Shards) -> Shards:
    """The same shards for those who choose among many: they have no test to look at."""
    return replace(
        shards, manifest=shards.manifest.model_copy(update={"splits": {name: files for name, files in shards.manifest.splits.items() if name != "test"}})
    )
