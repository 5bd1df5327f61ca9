"""Making shards: staged images are divided, distributed and described.

`prepare` stages images as they stream by, those of a listing together; only then are all labels, hashes and rejects known, so that the split can be
decided and the bytes distributed to the shards. One process plans; each shard is then a piece of work for whoever there is.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prodrec.errors import RejectCode, ShardsError
from prodrec.files import Folder, writing
from prodrec.images.boxes import object_lists
from prodrec.labels import label_order
from prodrec.shards.facts import Facts, objects_of, phashes
from prodrec.shards.findings import findings, worst_lines
from prodrec.shards.image_findings import TURNED
from prodrec.shards.label_photos import PhotoPicker
from prodrec.shards.naming import Naming, named_labels
from prodrec.shards.plan import plan_shards
from prodrec.shards.reading import MANIFEST, Shards
from prodrec.shards.schema import INDEX_SCHEMA, REJECT_SCHEMA, SHARD_SCHEMA, BoxCounts, ShardFile, ShardsManifest
from prodrec.shards.split import Earlier, Fractions, assign_splits, split_origin
from prodrec.shards.staging import STAGING, Staged
from prodrec.shards.writers import IndexWriter, ShardTask, WrittenShard, write_shard
from prodrec.sources.schema import SPLITS

Each = Callable[[Callable[[ShardTask], WrittenShard], Iterable[ShardTask]], Iterable[WrittenShard]]


def assemble(
    out: Folder,
    fractions: Fractions,
    provenance: dict[str, Any],
    rows_in: int,
    earlier: Sequence[Shards] = (),
    naming: Naming = Naming(),
    each: Each = map,
) -> ShardsManifest:
    """Turns the staged rows into shards, rejects and, last, the manifest.

    Args:
        provenance: the manifest's fields on source, preparation and code.
        rows_in: rows that the source listed; all of them must have been staged.
        earlier: shards whose images keep the split that they had there.
        each: applies a function to each item, here or elsewhere, and gives the results in any order.

    Raises:
        ShardsError: not one usable image, or rows were lost on the way (never expected).
        OutputError: the folder cannot be written.
    """
    staged = Staged(out)
    rows = staged.frame
    has_boxes = _check(rows, rows_in, out)
    before = _earlier(earlier)
    kept = _divided(rows, fractions, before)
    names = _object_labels(kept["objects"]) if has_boxes else sorted(kept["label"].unique(), key=label_order)
    picker = PhotoPicker(kept, naming.photos, naming.fills)
    ids = {name: number for number, name in enumerate(names)}
    written = _write_shards(out, staged, kept, ids, picker, each)
    labels = named_labels(names, kept, naming, picker.jpegs)
    picker.write(out)
    rejects, bad_boxes = rows[rows["code"].notna()], _bad_boxes(kept)
    _write_rejects(out, pd.concat([rejects, bad_boxes]))
    manifest = ShardsManifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split_rule=_split_rule(fractions, earlier),
        content_sha256=_content_sha256(kept),
        labels=labels,
        splits=written.files,
        index={split: [file] for split, file in written.indexes.items()},
        label_counts=_label_counts(kept, ids, has_boxes),
        rows_in=rows_in,
        rows_ok=len(kept),
        rejects=dict(sorted(Counter(rejects["code"]).items())),
        boxes=_box_counts(kept, len(bad_boxes)) if has_boxes else None,
        earlier=[shards.manifest_sha256 for shards in earlier],
        listings=int(kept["listing_id"].nunique()) or None,
        photos=picker.counts(),
        findings=worst_lines([one for one in findings(_facts(staged, rows, bad_boxes, naming)) if one.code != TURNED]),
        split_origin=split_origin(kept, before),
        **provenance,
    )
    out.write(MANIFEST, json.dumps(manifest.model_dump(mode="json"), indent=1).encode())
    out.delete(STAGING)
    return manifest


def _check(rows: pd.DataFrame, rows_in: int, out: Folder) -> bool:
    """Whether the rows are of pictures with boxes. Raises: ShardsError: rows were lost, or not one is usable."""
    if len(rows) != rows_in:
        raise ShardsError(f"{rows_in} rows went in but {len(rows)} were staged in {out / STAGING}; run prepare again")
    if rows["code"].notna().all():
        out.delete(STAGING)
        raise _nothing_usable(rows, out.uri)
    return bool(rows["objects"].notna().any())


def _divided(rows: pd.DataFrame, fractions: Fractions, before: Earlier) -> pd.DataFrame:
    """The rows that stand in a split. All get the columns split and given_split; those that can be in none get the code of a reject."""
    if rows["objects"].notna().any():
        rows["label"] = _rarest_labels(rows["objects"])
    good = rows["code"].isna()
    usable = rows[good]
    split = assign_splits(usable["sha256"], usable["label"], usable["split"], fractions, usable["listing_id"], before)
    rows["given_split"] = rows["split"]
    rows["split"] = split.reindex(rows.index)
    dropped = good & rows["split"].isna()
    kept = rows[good & ~dropped]
    _mark_dropped(rows, dropped, kept)
    return kept


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


def _mark_dropped(rows: pd.DataFrame, dropped: pd.Series, kept: pd.DataFrame) -> None:
    """Those that cannot be in any split become rejects."""
    twins = rows["sha256"].isin(kept["sha256"])
    for which, code, detail in (
        (dropped & twins, RejectCode.DUPLICATE_ACROSS_SPLITS, "the same bytes stand in a split that is held out"),
        (dropped & ~twins, RejectCode.LISTING_ACROSS_SPLITS, "other images of its listing stand in a split that is held out"),
    ):
        rows.loc[which, ["code", "detail"]] = code.value, detail


def _facts(staged: Staged, rows: pd.DataFrame, bad_boxes: pd.DataFrame, naming: Naming) -> Facts:
    titles = {label: said.title for label, said in naming.texts.items() if said.title}
    objects = objects_of(staged.table["objects"], "label")
    return Facts(rows.assign(phash=phashes(staged.table["phash"])), objects, bad_boxes, int(rows["boxes_clipped"].sum()), titles)


class _Shards(NamedTuple):
    """What was written: the shards and the index of each split."""

    files: dict[str, list[ShardFile]]
    indexes: dict[str, ShardFile]


def _write_shards(out: Folder, staged: Staged, kept: pd.DataFrame, ids: dict[str, int], picker: PhotoPicker, each: Each) -> _Shards:
    planned, files, index = plan_shards(kept), dict[str, ShardFile](), dict[str, ShardFile]()

    def tasks() -> Iterator[ShardTask]:
        for split, shards in groupby(planned, lambda shard: shard.split):
            with IndexWriter(out, split) as writer:
                for shard in shards:
                    facts = _with_ids(staged.table.take(pa.array(shard.rows)), ids).select(INDEX_SCHEMA.names)
                    writer.add(facts)
                    yield ShardTask(out.uri, shard.name, facts, staged.images(shard.rows), shard.row_groups, picker.wanted_of(shard.rows))
                index[split] = writer.close()

    with writing(out.uri):
        for written in each(write_shard, tasks()):
            files[written.file.name] = written.file
            picker.take(written.photos)
    splits = dict.fromkeys(shard.split for shard in planned)
    return _Shards({split: [files[shard.name] for shard in planned if shard.split == split] for split in splits}, index)


def _label_counts(kept: pd.DataFrame, ids: dict[str, int], has_boxes: bool) -> dict[str, list[int]]:
    """Images of each label, or boxes without crowds, by split."""
    counts = {}
    for split, part in kept.groupby("split"):
        shown = (item["label"] for items in part["objects"] for item in items if not item["crowd"]) if has_boxes else part["label"]
        found = Counter(shown)
        counts[str(split)] = [found[name] for name in ids]
    return {split: counts[split] for split in SPLITS if split in counts}


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
