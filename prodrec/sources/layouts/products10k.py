"""Products-10K: `train.csv` and `test.csv` (name, class, group); images in `train/` and `test/`."""

import pyarrow as pa
import pyarrow.compute as pc

from prodrec.sources.columns import absolute_uris, identifiers, listing, require_columns, text
from prodrec.sources.layouts.listed import Listed
from prodrec.sources.layouts.tree import Tree

_NEEDED = {"name", "class"}


def find_products10k(tree: Tree) -> list[str]:
    """`train.csv` with the columns of Products-10K."""
    if "train.csv" not in {info.base_name for info in tree.tops} or not set(tree.table("train.csv").column_names) >= _NEEDED:
        return []
    return ["train.csv"]


def list_products10k(tree: Tree, names: list[str]) -> Listed:
    """`train.csv` and, with labels, `test.csv` or `test_kaggletest.csv`.

    Raises:
        SourceError: a file lacks a column.
    """
    train = _rows(tree, "train.csv", "train")
    tests = [name for name in ("test.csv", "test_kaggletest.csv") if tree.folder.exists(name)]
    for name in tests:
        if set(tree.table(name).column_names) >= _NEEDED:
            both = pa.concat_tables([_with_split(train, "train"), _with_split(_rows(tree, name, "test"), "test")])
            return Listed(f"Products-10K: train.csv + {name}", both, tuple(tree.guesses))
    return Listed("Products-10K: train.csv", train, (*tree.guesses, *(f"{name} left out: it has no labels" for name in tests)))


def _rows(tree: Tree, name: str, images: str) -> pa.Table:
    table, where = tree.table(name), tree.where(name)
    require_columns(table.column_names, [("name",), ("class",)], where, "Products-10K")
    uris = pc.binary_join_element_wise(f"{images}/", text(table, "name", where), "")
    named = {name: identifiers(text(table, column, where), column, where) for name, column in (("label", "class"), ("group", "group"))}
    return listing(len(table), {"uri": absolute_uris(tree.folder, uris), **named})


def _with_split(table: pa.Table, split: str) -> pa.Table:
    return table.set_column(table.schema.get_field_index("split"), table.schema.field("split"), pa.repeat(split, len(table)))
