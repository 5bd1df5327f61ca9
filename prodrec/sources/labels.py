"""What people call the labels of a source: `labels.csv` (.tsv, .parquet) beside it, or columns of its manifest.

Columns: `label`, and any of `title`, `group`, `group_title`, `link` (or `url`) and `photo` (a path or URI; in Parquet also bytes).
A file that names labels is strict: what is wrong in it is refused. A manifest's columns may be about its listings instead: one that
is not the same for all rows of a label is told and not used.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.labels import LONGEST_LINK, LONGEST_TITLE, clean_title, is_web_address, label_order
from prodrec.sources.columns import absolute_uris, refuse_twins, text
from prodrec.sources.headers import meant
from prodrec.sources.tables import PARQUET_SUFFIX, folded, read_table

LABEL_FILES = ("labels.csv", "labels.tsv", "labels.parquet")
# Of a manifest; `group` is there anyway.
NAME_COLUMNS = ("title", "group_title", "link", "url", "photo")
_TEXTS = ("title", "group", "group_title", "link")
_WORDS = {"title", "group_title", "link"}
_NAMED = 3  # labels or paths that a line names. Source: assumed


@dataclass(frozen=True)
class LabelText:
    """What a source says of one label; None where it says nothing.

    Attributes:
        photo: of its reference photo the URI, or the bytes themselves.
    """

    title: str | None = None
    group: str | None = None
    group_title: str | None = None
    link: str | None = None
    photo: str | bytes | None = field(default=None, repr=False)


def label_file(folder: Folder) -> str | None:
    """Name of the file in a folder that names labels: it has a column `label`, and words about it.

    Other tables of this name tell what each image shows (`photo,label`, `url,label`; `image,label,title` with labels that stand more than once).
    """
    for name in LABEL_FILES:
        if not folder.exists(name) or not _names_labels(columns := _columns(folder, name)):
            continue
        images = [column for column in columns if folded(column) != "photo"]  # which is the label's own
        if meant(images, "uri") is None or not _repeats(folder, name):
            return name
    return None


def read_label_file(folder: Folder, name: str) -> dict[str, LabelText]:
    """What a file says, by label.

    Raises:
        SourceError: it cannot be read, a row without a label, a label twice with different values, a title that is too long, or a
            link that is no http(s) address.
    """
    where, said = folder / name, dict[str, LabelText]()
    for number, row in enumerate(_rows(folder, name), start=2):
        label = row.pop("label")
        if label is None:
            if any(value is not None for value in row.values()):
                raise SourceError(f"{where}: row {number} has no label ({_short(next(filter(None, row.values())))}); name its label or remove the row")
            continue
        found = LabelText(**row)
        _check(found, label, where)
        said[label] = _merged(said[label], found, label, where) if label in said else found
    _check_group_titles(said, where)
    return said


def names_in_rows(table: pa.Table, folder: Folder, where: str) -> tuple[dict[str, LabelText], tuple[str, ...]]:
    """What the columns of a manifest say of its labels, and notes on those that are not used.

    Args:
        table: `label` and NAME_COLUMNS.
    """
    notes, columns = [], dict[str, dict[str, str]]()
    for column in NAME_COLUMNS:
        if table[column].null_count == len(table):
            continue
        name = "link" if column == "url" else column
        try:
            values = _of_labels(table["label"], table[column], _cleaning(name))
            for label, value in values.items():
                _check(LabelText(**{name: value}), label, where)
        except _Differs as told:
            notes.append(f"column {column} not used as the labels': {told} (labels.csv names labels)")
        except SourceError as error:
            notes.append(f"column {column} not used: {str(error).removeprefix(f'{where}: ')}")
        else:
            columns.setdefault(name, values)
    if "photo" in columns:
        placed = absolute_uris(folder, pa.array(list(columns["photo"].values()), pa.string()))
        columns["photo"] = dict(zip(columns["photo"], placed.to_pylist(), strict=True))
    labels = sorted({label for values in columns.values() for label in values}, key=label_order)
    return {label: LabelText(**{name: values.get(label) for name, values in columns.items()}) for label in labels}, tuple(notes)


def joined(said: Mapping[str, LabelText], groups: Mapping[str, str | None], where: str) -> tuple[dict[str, LabelText], list[str]]:
    """What is said of the labels that a source has, and notes: of labels that it has not, and of those without a word.

    Args:
        groups: by label, as the examples have them; a label's own group stays.

    Raises:
        SourceError: a label is in another group here, or one group has two titles.
    """
    known = {label: text for label, text in said.items() if label in groups}
    for label, one in known.items():
        group = groups[label]
        if group is not None and one.group not in (None, group):
            raise SourceError(f"{where}: label '{label}' is in group '{one.group}', and its examples are in '{group}'; give it one group")
        known[label] = replace(one, group=group or one.group)
    _check_group_titles(known, where)
    lines = [
        _told(said.keys() - groups.keys(), "has no examples", "have no examples"),
        _told(groups.keys() - said.keys(), "has no row in it", "have no row in it"),
        _told(
            [label for label, one in known.items() if one.group_title and not one.group], "has a group_title and no group", "have a group_title and no group"
        ),
    ]
    titles = {one.group: one.group_title for one in known.values() if one.group and one.group_title}
    for label, group in groups.items():
        one = known.get(label, LabelText(group=group))
        known[label] = replace(one, group_title=titles.get(one.group or "") or one.group_title)
    return known, [line for line in lines if line]


class _Differs(Exception):
    """A column has several values for one label."""


def _columns(folder: Folder, name: str) -> list[str]:
    if not name.endswith(PARQUET_SUFFIX):
        return list(read_table(folder, name).column_names)
    try:
        with folder.filesystem.open_input_file(folder.within(name)) as stream:
            return list(pq.read_schema(stream).names)
    except pa.ArrowInvalid as error:
        raise SourceError(f"cannot read {folder / name}: {' '.join(str(error).split())}; is it a whole Parquet file?") from error


def _names_labels(names: Iterable[str]) -> bool:
    lowered = {name.strip().lower() for name in names}
    return "label" in lowered and bool(lowered & _WORDS)


def _repeats(folder: Folder, name: str) -> bool:
    """Whether a label stands more than once."""
    table = read_table(folder, name)
    labels = table[next(column for column in table.column_names if column.strip().lower() == "label")].drop_null()
    return len(labels.unique()) < len(labels)


def _rows(folder: Folder, name: str) -> Iterable[dict[str, Any]]:
    """Rows with label, _TEXTS and photo, clean; None where there is nothing."""
    where, table = folder / name, read_table(folder, name)
    table = table.rename_columns([_lowered(column) for column in table.column_names])
    refuse_twins(table.column_names, where)
    columns: dict[str, list[Any]] = {column: [_cleaning(column)(value) for value in text(table, column, where).to_pylist()] for column in ("label", *_TEXTS)}
    columns["photo"] = _photos(folder, name, table, where)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _lowered(column: str) -> str:
    lowered = column.lower()
    return "link" if lowered == "url" else lowered


def _photos(folder: Folder, name: str, table: pa.Table, where: str) -> list[str | bytes | None]:
    """Paths, or in Parquet the bytes themselves, as Hugging Face's data sets have images too."""
    if "photo" in table.column_names or not name.endswith(PARQUET_SUFFIX):
        return list(absolute_uris(folder, text(table, "photo", where)).to_pylist())
    with folder.filesystem.open_input_file(folder.within(name)) as stream, pq.ParquetFile(stream) as file:
        column = next((column for column in file.schema_arrow.names if column.lower() == "photo"), None)
        found = file.read(columns=[column])[column].to_pylist() if column else [None] * len(table)
    cells: list[dict[str, Any]] = [cell if isinstance(cell, dict) else {"bytes": cell} for cell in found]
    if strange := next((cell for cell in cells if not isinstance(cell.get("bytes"), bytes | None)), None):
        raise SourceError(f"{where}: column 'photo' holds {type(strange['bytes']).__name__}s; store paths, or the files' bytes as binary")
    paths = absolute_uris(folder, pa.array([cell.get("path") or None for cell in cells], pa.string())).to_pylist()
    return [cell.get("bytes") or path for cell, path in zip(cells, paths, strict=True)]


def _cleaning(column: str) -> Callable[[str | None], str | None]:
    """Titles are for people; labels and groups are compared with those of the examples; addresses stay as they are."""
    if column in ("title", "group_title"):
        return lambda value: clean_title(value) or None if value else None
    if column in ("label", "group"):
        return lambda value: unicodedata.normalize("NFC", value) if value else None
    return lambda value: value or None


def _check(said: LabelText, label: str, where: str) -> None:
    for what, title in (("title", said.title), ("group_title", said.group_title)):
        if title and len(title) > LONGEST_TITLE:
            raise SourceError(f"{where}: the {what} of label '{label}' has {len(title):,} characters; {LONGEST_TITLE} at most are shown: shorten it")
    if said.link and not is_web_address(said.link):
        needed = f"write the whole address, http(s)://..., of at most {LONGEST_LINK:,} characters"
        raise SourceError(f"{where}: the link of label '{label}' is no http(s) address ({_short(said.link)}); {needed}")


def _merged(one: LabelText, other: LabelText, label: str, where: str) -> LabelText:
    values = {}
    for name in (*_TEXTS, "photo"):
        first, second = getattr(one, name), getattr(other, name)
        if first is not None and second is not None and first != second:
            what = "two photos" if name == "photo" else f"two different values of {name}, '{_short(first)}' and '{_short(second)}'"
            raise SourceError(f"{where}: label '{label}' stands twice, with {what}; keep one row a label")
        values[name] = second if first is None else first
    return LabelText(**values)


def _check_group_titles(said: Mapping[str, LabelText], where: str) -> None:
    titles: dict[str, str] = {}
    for one in said.values():
        if one.group and one.group_title and titles.setdefault(one.group, one.group_title) != one.group_title:
            raise SourceError(f"{where}: group '{one.group}' has two titles, '{_short(titles[one.group])}' and '{_short(one.group_title)}'; give it one")


def _of_labels(labels: pa.ChunkedArray, values: pa.ChunkedArray, clean: Callable[[str | None], str | None]) -> dict[str, str]:
    """The one value of each label. Raises: _Differs: there are two."""
    pairs = pa.table({"label": labels, "value": values}).group_by(["label", "value"], use_threads=False).aggregate([]).to_pylist()
    found: dict[str, str] = {}
    for pair in pairs:
        label, value = pair["label"], clean(pair["value"])
        if label is None or value is None:
            continue
        if found.setdefault(label, value) != value:
            raise _Differs(f"label '{label}' has several, such as '{_short(found[label])}' and '{_short(value)}'")
    return found


def _told(labels: Iterable[str], one: str, several: str) -> str:
    names = sorted(labels, key=label_order)
    listed = f"{', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
    return f"{len(names):,} label{'s' if len(names) > 1 else ''} {several if len(names) > 1 else one} ({listed})" if names else ""


def _short(value: object) -> str:
    told = value if isinstance(value, str) else f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return told if len(told) <= 60 else f"{told[:57]}..."
