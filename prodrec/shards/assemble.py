"""Making shards: staged images are divided, distributed and described.

`prepare` stages images as they stream by, those of a listing together; only then are all labels, hashes and rejects known, so that the split can be
decided and the bytes distributed to the shards. Rows go to a shard by their hash, or their listing's, so each shard is a random sample.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prodrec.errors import OutputError, RejectCode, ShardsError
from prodrec.files import Folder, writing
from prodrec.images.boxes import BOX, object_lists
from prodrec.labels import label_order
from prodrec.shards.label_photos import PhotoPicker
from prodrec.shards.naming import Naming, named_labels
from prodrec.shards.reading import MANIFEST, Shards
from prodrec.shards.schema import REJECT_SCHEMA, SHARD_SCHEMA, BoxCounts, ShardFile, ShardsManifest
from prodrec.shards.split import Earlier, Fractions, assign_splits, split_origin
from prodrec.shards.writers import ShardWriters, compression
from prodrec.sources.schema import SPLITS

STAGING = ".staging"
_OURS = re.compile(r"(train|val|test)-\d{5}-of-\d{5}\.parquet|rejects\.parquet")

# A staged row is a prepared image or a reject: SHARD_SCHEMA with labels instead of their ids, plus what the source said of it.
_STAGED_OBJECTS = pa.list_(pa.struct([("label", pa.string()), ("box", BOX), ("crowd", pa.bool_())]))
STAGED_SCHEMA = pa.schema(
    [f for f in SHARD_SCHEMA if f.name not in {"label_id", "objects"}]
    + [("image_bytes", pa.int64())]
    + [(name, pa.string()) for name in ("label", "group", "split", "code", "detail")]
    + [("objects", _STAGED_OBJECTS), ("boxes_clipped", pa.int32()), ("boxes_rejected", pa.list_(pa.string())), ("boxes_on", pa.string())]
)


def start_output(uri: str) -> Folder:
    """Makes the output folder ready for staging; clears what a killed prepare left.

    Raises:
        OutputError: it already holds shards, or cannot be written.
    """
    out = Folder(uri).make()
    if out.exists(MANIFEST):
        raise OutputError(f"{out.uri} already holds shards; choose another folder or delete this one first")
    with writing(out.uri):
        for info in out.names():
            if info.base_name == STAGING or _OURS.fullmatch(info.base_name):
                out.delete(info.base_name)
        out.filesystem.create_dir(out.within(STAGING), recursive=True)
    return out


def stage(out: Folder, number: int, rows: list[dict[str, Any]]) -> None:
    """Writes staged rows as one file named by `number`: a task that runs twice replaces its file and adds nothing."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, STAGED_SCHEMA), sink, compression=compression(STAGED_SCHEMA))
    Folder(out / STAGING).write(f"{number:08d}.parquet", sink.getvalue().to_pybytes())


def assemble(
    out: Folder, fractions: Fractions, provenance: dict[str, Any], rows_in: int, earlier: Sequence[Shards] = (), naming: Naming = Naming()
) -> ShardsManifest:
    """Turns the staged rows into shards, rejects and, last, the manifest.

    Args:
        provenance: the manifest's fields on source, preparation and code.
        rows_in: rows that the source listed; all of them must have been staged.
        earlier: shards whose images keep the split that they had there.

    Raises:
        ShardsError: not one usable image, or rows were lost on the way (never expected).
        OutputError: the folder cannot be written.
    """
    staged = _Staged(out)
    rows = staged.frame
    if len(rows) != rows_in:
        raise ShardsError(f"{rows_in} rows went in but {len(rows)} were staged in {out / STAGING}; run prepare again")
    good = rows["code"].isna()
    if not good.any():
        out.delete(STAGING)
        raise _nothing_usable(rows, out.uri)
    has_boxes = bool(rows["objects"].notna().any())
    if has_boxes:
        rows["label"] = _rarest_labels(rows["objects"])
    usable = rows[good]
    before = _earlier(earlier)
    split = assign_splits(usable["sha256"], usable["label"], usable["split"], fractions, usable["listing_id"], before)
    rows["given_split"] = rows["split"]
    rows["split"] = split.reindex(rows.index)
    dropped = good & rows["split"].isna()
    kept = rows[good & ~dropped]
    twins = rows["sha256"].isin(kept["sha256"])
    for which, code, detail in (
        (dropped & twins, RejectCode.DUPLICATE_ACROSS_SPLITS, "the same bytes stand in a split that is held out"),
        (dropped & ~twins, RejectCode.LISTING_ACROSS_SPLITS, "other images of its listing stand in a split that is held out"),
    ):
        rows.loc[which, ["code", "detail"]] = code.value, detail
    names = _object_labels(kept["objects"]) if has_boxes else sorted(kept["label"].unique(), key=label_order)
    picker = PhotoPicker(kept, naming.photos, naming.fills)
    files = _write_shards(out, staged, kept, {name: number for number, name in enumerate(names)}, picker)
    labels = named_labels(names, kept, naming, picker.jpegs)
    picker.write(out)
    rejects = rows[rows["code"].notna()]
    bad_boxes = _bad_boxes(kept)
    _write_rejects(out, pd.concat([rejects, bad_boxes]))
    manifest = ShardsManifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split_rule=_split_rule(fractions, earlier),
        content_sha256=_content_sha256(kept),
        labels=labels,
        splits=files,
        rows_in=rows_in,
        rows_ok=len(kept),
        rejects=dict(sorted(Counter(rejects["code"]).items())),
        boxes=_box_counts(kept, len(bad_boxes)) if has_boxes else None,
        earlier=[shards.manifest_sha256 for shards in earlier],
        listings=int(kept["listing_id"].nunique()) or None,
        photos=picker.counts(),
        split_origin=split_origin(kept, before),
        **provenance,
    )
    out.write(MANIFEST, json.dumps(manifest.model_dump(mode="json"), indent=1).encode())
    out.delete(STAGING)
    return manifest


def _nothing_usable(rows: pd.DataFrame, out: str) -> ShardsError:
    reasons = ", ".join(f"{n} {code}" for code, n in Counter(rows["code"]).most_common())
    uri, detail = (str(rows[name].iloc[0]) for name in ("uri", "detail"))
    first = f"the first: {detail if uri in detail else f'{uri}: {detail}'}"
    return ShardsError(f"not one of {len(rows)} rows of the source is a usable image ({reasons}; {first}); nothing was written to {out}")


def _earlier(earlier: Sequence[Shards]) -> Earlier:
    """Of shards that disagree the split nearer to training: what was learned from anywhere is not held out."""
    kept = Earlier({}, {})
    for shards in earlier:
        for known, found in zip(kept, _splits(shards), strict=True):
            known |= {value: min(name, known.get(value, name), key=SPLITS.index) for value, name in found.items()}
    return kept


def _splits(shards: Shards) -> Earlier:
    """Its listings by name only where it names them. Of one that stands in two splits, which a publisher's may, the furthest from training."""

    def of(column: str) -> dict[str, str]:
        return {value: name for name in SPLITS for value in shards.split(name).column(column).to_pylist()}

    return Earlier(of("sha256"), of("listing_id") if shards.manifest.listings is not None else {})


def _split_rule(fractions: Fractions, earlier: Sequence[Shards]) -> str:
    before = "".join(f"that of {shards.uri} (manifest {shards.manifest_sha256[:12]}) for its images, " for shards in earlier)
    return f"{before}publisher's where given, else {fractions.train:g}/{fractions.val:g}/{fractions.test:g} by class and sha256, listings whole"


class _Staged:
    """The staged files: their small columns as one frame, their images one file at a time in the frame's order."""

    def __init__(self, out: Folder) -> None:
        self.folder = Folder(out / STAGING)
        self.paths = [info.path for info in self.folder.names() if info.base_name.endswith(".parquet")]
        small = [name for name in STAGED_SCHEMA.names if name != "image"]
        tables = [pq.read_table(path, columns=small, filesystem=self.folder.filesystem) for path in self.paths]
        frame = pa.concat_tables(tables, promote_options="none") if tables else STAGED_SCHEMA.empty_table().select(small)
        self.frame: pd.DataFrame = frame.to_pandas()

    def batches(self) -> Iterator[pa.Table]:
        for path in self.paths:
            with self.folder.filesystem.open_input_file(path) as source:
                yield pq.ParquetFile(source).read()


def _write_shards(out: Folder, staged: _Staged, kept: pd.DataFrame, ids: dict[str, int], picker: PhotoPicker) -> dict[str, list[ShardFile]]:
    writers = ShardWriters(out, kept)
    start = 0
    with writing(out.uri):
        for table in staged.batches():
            stop = start + table.num_rows
            part = kept.loc[start : stop - 1]
            if len(part):
                table = table.take(pa.array(part.index.to_numpy() - start))
                picker.look(table, part.index)
                table = _with_ids(table, ids)
                writers.add(table.select(SHARD_SCHEMA.names), part)
            start = stop
        return writers.close()


def _with_ids(table: pa.Table, ids: dict[str, int]) -> pa.Table:
    """Staged rows with label ids instead of labels; a row with objects has no label of its own."""
    objects = table["objects"].combine_chunks()
    own = pc.if_else(pc.is_valid(objects), pa.scalar(None, pa.string()), table["label"].combine_chunks())
    flat = objects.flatten()
    counts = pc.fill_null(pc.list_value_length(objects), 0).to_numpy()
    nested = object_lists(_ids_of(flat.field("label"), ids), flat.field("box"), flat.field("crowd"), counts, pc.is_null(objects))
    table = table.drop_columns(["objects"]).append_column("objects", nested.cast(SHARD_SCHEMA.field("objects").type))
    return table.append_column("label_id", _ids_of(own, ids))


def _ids_of(names: pa.Array, ids: dict[str, int]) -> pa.Array:
    """Positions of names in `ids`, whose values count from 0 in their order."""
    return pc.index_in(names, value_set=pa.array(list(ids), pa.string()))


def _object_labels(objects: pd.Series) -> list[str]:
    return sorted({item["label"] for items in objects for item in items}, key=label_order)


def _rarest_labels(objects: pd.Series) -> list[str]:
    """Of each image's labels the one that the fewest images show; "" where there are no objects. Images are divided class by class by it."""
    shown = [{item["label"] for item in items} if items is not None else set() for items in objects]
    counts = Counter(label for labels in shown for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default="") for labels in shown]


def _bad_boxes(kept: pd.DataFrame) -> pd.DataFrame:
    told = kept[["uri", "listing_id", "boxes_rejected"]].explode("boxes_rejected").dropna(subset="boxes_rejected")
    return told.rename(columns={"boxes_rejected": "detail"}).assign(code=RejectCode.BAD_BOX.value, label=None)


def _box_counts(kept: pd.DataFrame, rejected: int) -> BoxCounts:
    turned = {str(on): int(n) for on, n in kept["boxes_on"].value_counts().sort_index().items()}
    return BoxCounts(ok=int(kept["objects"].map(len).sum()), clipped=int(kept["boxes_clipped"].sum()), rejected=rejected, turned=turned)


def _write_rejects(out: Folder, rejects: pd.DataFrame) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(rejects[REJECT_SCHEMA.names], REJECT_SCHEMA, preserve_index=False), sink)
    out.write("rejects.parquet", sink.getvalue().to_pybytes())


def _content_sha256(kept: pd.DataFrame) -> str:
    objects = kept["objects"].map(lambda items: "" if items is None else " " + json.dumps([[o["label"], o["box"].tolist(), o["crowd"]] for o in items]))
    lines = sorted(kept["sha256"] + " " + kept["label"] + " " + kept["split"] + objects)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
