"""What is known of every image of a data set, in columns: as it was staged, or as shards tell it. Pixels are not kept.

About 800 bytes a row while they are searched (docs/log.md, 2026-11-28), as in `assemble`: 10 million rows fit one process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prodrec.files import Folder
from prodrec.labels import shown
from prodrec.shards.reading import Shards
from prodrec.sources.schema import SPLITS

# Of an image that no publisher put into a split: `prepare` will.
UNDIVIDED = "undivided"

_NO_BAD_BOXES = pd.DataFrame({"uri": [], "detail": []}, dtype=object)
_BOX_EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Facts:
    """A row for each row of the source; positions in `images` name them everywhere.

    Attributes:
        images: uri, listing_id, label, group, split (None: not divided yet), sha256, phash (0 for a reject), width, height,
            source_width, source_height, and code and detail of those that cannot be used; further scores where they were measured.
        objects: of sets with boxes: image (position), label, left, top, right, bottom (pixels of the prepared image), crowd. None: no boxes.
        bad_boxes: uri and detail of each box that could not be used; clipped: number of those that reached beyond their picture.
        titles: what people call the labels, by name.
    """

    images: pd.DataFrame
    objects: pd.DataFrame | None = None
    bad_boxes: pd.DataFrame = field(default_factory=lambda: _NO_BAD_BOXES)
    clipped: int = 0
    titles: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def usable(self) -> pd.DataFrame:
        return self.images[self.images["code"].isna()]

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """What counts for a label: image (position), label and split of each usable image, or of each box on one, crowds left out."""
        split = self.usable["split"].fillna(UNDIVIDED)
        if self.objects is None:
            return pd.DataFrame({"image": self.usable.index, "label": self.usable["label"].array, "split": split.array})
        objects = self.objects[~self.objects["crowd"] & self.objects["image"].isin(self.usable.index)]
        return pd.DataFrame({"image": objects["image"], "label": objects["label"], "split": objects["image"].map(split)})

    @cached_property
    def counts(self) -> pd.DataFrame:
        """By label: how often it stands in train, val, test, undivided, and in all (`total`); images, or boxes of sets with boxes."""
        by_split = self.labelled.groupby(["label", "split"]).size().unstack(fill_value=0)
        counts = by_split.reindex(columns=[*SPLITS, UNDIVIDED], fill_value=0)
        return counts.assign(total=counts.sum(axis=1))

    @property
    def to_learn(self) -> pd.Series:
        """Of each label what may be trained on: `train`, or what is not divided yet."""
        return self.counts["train"] + self.counts[UNDIVIDED]

    def objects_on(self, position: int) -> pd.DataFrame:
        """Those of one image; they stand in the order of the images."""
        assert self.objects is not None
        start, stop = np.searchsorted(self.objects["image"], [position, position + 1])
        return self.objects.iloc[start:stop]

    def shown(self, label: str) -> str:
        """A label for people."""
        return shown(label, self.titles.get(label))


def facts_of(table: pa.Table, titles: Mapping[str, str]) -> Facts:
    """Facts of staged rows.

    Args:
        table: the columns of STAGED_SCHEMA but the image, and scores.
    """
    nested = {"objects", "boxes_rejected", "boxes_clipped"}
    images = table.select([name for name in table.column_names if name not in nested | {"phash"}]).to_pandas()
    rejected = pc.list_flatten(table["boxes_rejected"])
    of_image = table["uri"].take(pc.list_parent_indices(table["boxes_rejected"]))
    bad_boxes = pd.DataFrame({"uri": of_image.to_pandas(), "detail": rejected.to_pandas()})
    return Facts(
        images=images.assign(phash=phashes(table["phash"])),
        objects=objects_of(table["objects"], "label"),
        bad_boxes=bad_boxes,
        clipped=pc.sum(table["boxes_clipped"]).as_py() or 0,
        titles=titles,
    )


def shards_facts(shards: Shards) -> Facts:
    """Facts of prepared shards: their images split by split, with `row` in their split, then the rejects."""
    manifest = shards.manifest
    names = pa.array([label.name for label in manifest.labels], pa.string())
    groups = pa.array([label.group for label in manifest.labels], pa.string())
    plain = ("uri", "listing_id", "width", "height", "source_width", "source_height", "sha256", "phash")
    tables, objects = [], []
    for split in [name for name in SPLITS if name in manifest.splits]:
        index = shards.split(split)
        columns = {name: index.column(name) for name in plain}
        ids = index.column("label_id")
        told = {"label": pc.take(names, ids), "group": pc.take(groups, ids), "split": pa.repeat(split, index.rows), "row": np.arange(index.rows)}
        tables.append(pa.table(columns | told))
        objects.append(index.column("objects"))
    rejects, bad_boxes = _rejects(shards)
    table = pa.concat_tables([*tables, rejects], promote_options="default")
    nested = pa.chunked_array([chunk for column in objects for chunk in column.chunks], objects[0].type)
    return Facts(
        images=table.drop_columns(["phash"]).to_pandas().assign(phash=phashes(table["phash"])),
        objects=_named(objects_of(nested, "label_id"), [label.name for label in manifest.labels]),
        bad_boxes=bad_boxes,
        clipped=manifest.boxes.clipped if manifest.boxes else 0,
        titles={label.name: label.title for label in manifest.labels if label.title},
    )


def phashes(column: pa.ChunkedArray) -> np.ndarray:
    """uint64 [N]; 0 where there is none. Through pandas a column with nulls would lose its last bits as floats."""
    hashes: np.ndarray = pc.fill_null(column, pa.scalar(0, pa.uint64())).to_numpy()
    return hashes


def objects_of(column: pa.ChunkedArray, label: str) -> pd.DataFrame | None:
    """Lists of objects as one row an object; None where no row has a list."""
    if column.null_count == len(column):
        return None
    lists = column.combine_chunks()
    flat = lists.flatten()
    edges_N4 = pc.struct_field(flat, "box").flatten().to_numpy().reshape(-1, 4)
    parts = {"image": pc.list_parent_indices(lists).to_numpy(), "label": pc.struct_field(flat, label).to_pandas()}
    crowd = pc.struct_field(flat, "crowd").to_numpy(zero_copy_only=False)
    return pd.DataFrame(parts | dict(zip(_BOX_EDGES, edges_N4.T, strict=True)) | {"crowd": crowd.astype(bool)})


def _named(objects: pd.DataFrame | None, names: Sequence[str]) -> pd.DataFrame | None:
    return None if objects is None else objects.assign(label=np.array(names, dtype=object)[objects["label"]])


def _rejects(shards: Shards) -> tuple[pa.Table, pd.DataFrame]:
    """Rejected images, and rejected boxes of images that are used, which stand behind them."""
    folder = Folder(shards.uri)
    with folder.filesystem.open_input_file(folder.within("rejects.parquet")) as source:
        table = pq.read_table(source)
    boxes = shards.manifest.boxes.rejected if shards.manifest.boxes else 0
    return table.slice(0, len(table) - boxes), table.slice(len(table) - boxes).select(["uri", "detail"]).to_pandas()
