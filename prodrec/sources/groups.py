"""The groups of labels: a label belongs to one at most."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from prodrec.errors import SourceError


def one_group(table: pa.Table, where: str) -> tuple[pa.Table, list[str]]:
    """A label belongs to one group at most: of several it has that of most of its images, which is told; where none has most, none.

    Raises:
        SourceError: most labels stand in several groups: they are names within their groups, and one name is several products.
    """
    grouped = table.filter(pc.and_(pc.is_valid(table["label"]), pc.is_valid(table["group"])))
    counts: dict[str, Counter[str]] = {}
    for row in grouped.group_by(["label", "group"]).aggregate([("uri", "count")]).to_pylist():
        counts.setdefault(row["label"], Counter())[row["group"]] = row["uri_count"]
    torn = sorted(label for label, found in counts.items() if len(found) > 1)
    if not torn:
        return table, []
    first = f"'{torn[0]}' ({', '.join(f'{count:,} in {group}' for group, count in sorted(counts[torn[0]].items(), key=lambda one: (-one[1], one[0])))})"
    if len(torn) * 2 > len(counts):
        told = f"label {first} stands in several groups, as do {len(torn):,} of {len(counts):,}"
        raise SourceError(f"{where}: {told}; give each label one group, or make it several labels, such as GROUP LABEL")
    chosen = {label: max(found, key=lambda group: found[group]) for label, found in counts.items()}
    chosen = {label: group for label, group in chosen.items() if counts[label][group] * 2 > counts[label].total()}
    known = pc.index_in(table["label"], value_set=pa.array(list(counts), pa.string()))
    groups = pc.if_else(pc.is_valid(known), pc.take(pa.array([chosen.get(label) for label in counts], pa.string()), known), table["group"])
    several = f"{len(torn):,} label{'s stand' if len(torn) > 1 else ' stands'} in several groups"
    note = f"WARNING: {several}, such as {first}; a label has one: that of most of its images, or none"
    return table.set_column(table.column_names.index("group"), table.schema.field("group"), groups), [note]


def groups_of(table: pa.Table) -> dict[str, str | None]:
    """The group of each label, None where it has none."""
    grouped = table.filter(pc.is_valid(table["group"])).group_by("label").aggregate([("group", "min")])
    groups = dict(zip(grouped["label"].to_pylist(), grouped["group_min"].to_pylist(), strict=True))
    return {label: groups.get(label) for label in pc.drop_null(_label_names(table).unique()).to_pylist()}


def _label_names(table: pa.Table) -> pa.ChunkedArray:
    """Labels of the images, or of the objects on them."""
    if table["objects"].null_count == len(table):
        return table["label"]
    return pc.struct_field(pc.list_flatten(table["objects"]), "label")
