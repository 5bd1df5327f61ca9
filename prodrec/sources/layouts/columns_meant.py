"""Columns of tables beside images that are several in one: the corners of boxes, and the splits of rows."""

from collections.abc import Iterable, Sequence

from prodrec.errors import SourceError
from prodrec.sources.headers import meant
from prodrec.sources.splits import split_named
from prodrec.sources.tables import folded

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"),
    ("bboxx1", "bboxy1", "bboxx2", "bboxy2"),
)
_FLAGS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "istest": "test", "istesting": "test"}
_YES, _NO = {"1", "true", "yes", "1.0", "t"}, {"0", "false", "no", "0.0", "f", ""}


def corners(names: Iterable[str]) -> list[str] | None:
    """Columns of left, top, right and bottom."""
    by_folded = {folded(name): name for name in names}
    return next(([by_folded[name] for name in sides] for sides in _CORNERS if all(name in by_folded for name in sides)), None)


def split_column(names: Iterable[str]) -> str | None:
    """The column that may tell the split of each row."""
    names = [*names]
    return next((name for name in names if folded(name) in _FLAGS), None) or meant(names, "split")


def row_splits(names: Sequence[str], rows: Sequence[dict[str, str | None]], where: str, notes: list[str]) -> list[str | None] | None:
    """The split of each row by a column of splits (`split`, `subset`, `is_valid`, ...); None: there is none.

    Raises:
        SourceError: a column `split` with a name that is not known.
    """
    flag = next((name for name in names if folded(name) in _FLAGS), None)
    if flag and {str(row[flag] or "").lower() for row in rows} <= _YES | _NO:
        held_out = _FLAGS[folded(flag)]
        return [held_out if str(row[flag] or "").lower() in _YES else "train" for row in rows]
    column = meant(names, "split")
    if column is None:
        return None
    known = {value: split_named(value) for row in rows if (value := row[column])}
    mostly = sum(split is not None for split in known.values()) * 2 >= len(known)  # a `usage` may be Training, Running and Walking
    strange = next((value for value, split in known.items() if split is None), None)
    if strange is not None and (folded(column) in {"split", "splits"} or mostly):
        raise SourceError(f"{where}: {column} '{strange}' is no known name of a split; use train, val, test (or leave it empty)")
    if strange is not None or not known:
        notes.append(f"{where}: the column {column} is not used as a split: it holds '{strange}'")
        return None
    return [known.get(row[column] or "") for row in rows]
