"""The one reader of tables against Python's csv, and what it makes of files as other programs leave them."""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources import tables
from prodrec.sources.tables import read_table

CELL = st.text(st.sampled_from('ab ,;\t|"\n\r\0é蓝\U0001f4a1'), max_size=8)
ROWS = st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=8))


def written(rows: list[list[str]], **dialect) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows([[f"h{number}" for number in range(len(rows[0]) if rows else 2)], *rows])
    return text.getvalue()


def read(folder, content: str | bytes, name: str = "t.csv") -> pa.Table:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(Folder(folder), name)


def rows_of(table: pa.Table) -> list[list[str]]:
    """Empty cells come as null."""
    return [[cell or "" for cell in row] for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(params=["one block", "through Python"])
def way(request, monkeypatch):
    """A file of over a gigabyte is read by another way, in small portions."""
    if request.param == "through Python":
        monkeypatch.setattr(tables, "ONE_BLOCK_BYTES", 0)
        monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 3)


@pytest.mark.usefixtures("way")
# With other line ends the writer leaves some line breaks in cells bare.
@given(ROWS, st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), *((end, csv.QUOTE_ALL) for end in ("\n", "\r\n", "\r"))]), st.sampled_from(",;\t|"))
def test_what_csv_writes_is_read(folder, rows, style, separator):
    text = written(rows, lineterminator=style[0], quoting=style[1], delimiter=separator)
    assert rows_of(read(folder, text)) == rows
    assert rows_of(read(folder, text.encode("utf-8-sig"))) == rows
    assert rows_of(read(folder, text.encode("utf-16"))) == rows


@pytest.mark.usefixtures("way")
@given(st.text(st.sampled_from('ab,"\n\r\0 é'), max_size=40))
@example('"x"y"z,",\n')
@example("a,b\r\r\n\n\rc,d")
def test_any_text_is_read_as_csv_reads_it_or_refused_with_its_line(folder, text):
    *expected, last = [row for row in csv.reader(io.StringIO(f"h0,h1\n{text}\nthe,end", newline="")) if row][1:]
    closed = last == ["the", "end"]
    try:
        found = rows_of(read(folder, "h0,h1\n" + text))
    except SourceError as error:
        uneven = any(len(row) != 2 for row in [*expected, last])
        assert "t.csv, line " in str(error) if uneven else "is not closed" in str(error)
        assert uneven or not closed
    else:
        assert closed
        assert found == [row[:2] for row in expected if "".join(row).strip() or len(row) >= 2]
