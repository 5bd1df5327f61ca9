"""The one reader of tables against Python's csv, and what it makes of files as other programs leave them."""

import csv
import gzip
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from prodrec.errors import SourceError
from prodrec.files import Folder
from prodrec.sources import tables
from prodrec.sources.tables import notes_of, read_table

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
@given(
    ROWS,
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), *((end, csv.QUOTE_ALL) for end in ("\n", "\r\n", "\r"))]),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read(folder, rows, style, separator, encoding):
    text = written(rows, lineterminator=style[0], quoting=style[1], delimiter=separator)
    assert rows_of(read(folder, text.encode(encoding))) == rows


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


@settings(max_examples=2, phases=[Phase.generate])
@given(st.integers(0, 2**32), st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]))
def test_tables_of_over_10_mb_with_line_breaks_at_every_place(folder, seed, style):
    """A block of pyarrow's is 1 MB: here cells span lines, in pieces of a few bytes, so that some stand across each end."""
    rng = random.Random(seed)
    pieces = ["\r\n", "\r\n", "\n", '"', '""', ",", "Material: steel, glass, wood", "a\r", "é", "\n\n"]
    cells = ["".join(rng.choices(pieces, k=rng.randrange(200))) for _ in range(200)]
    rows = [[f"{number}.jpg", rng.choice(cells), rng.choice(cells)] for number in range(16_000)]
    text = written(rows, lineterminator=style[0], quoting=style[1])
    assert len(text) > 10_000_000
    assert rows_of(read(folder, text)) == rows == list(csv.reader(io.StringIO(text, newline="")))[1:]


@pytest.mark.usefixtures("way")
def test_a_catalogue_with_line_breaks_in_its_cells(folder):
    """The case csv_multiline: pyarrow's blocks made 414 rows of the 320."""
    rows = [["a.jpg", f"p{number % 2}", "\n".join(["Material: steel, glass, wood"] * 146)] for number in range(320)]
    assert rows_of(read(folder, written(rows))) == rows


ONE = [["a.jpg", "mug"], ["b.jpg", "cup"]]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"uri,label\na.jpg,mug\nb.jpg,cup\n", "t.csv"),
        (b"uri,label\r\na.jpg,mug\r\nb.jpg,cup", "t.CSV"),
        (b"uri,label\ra.jpg,mug\rb.jpg,cup\r", "t.csv"),
        (b"\r\n\nuri,label\n\na.jpg,mug\n\n\nb.jpg,cup\n\n", "t.csv"),
        (b"\xef\xbb\xbfuri,label\na.jpg,mug\nb.jpg,cup\n", "t.csv"),
        (b'\xef\xbb\xbf"uri","label"\n"a.jpg","mug"\n"b.jpg","cup"\n', "t.csv"),
        ("uri,label\na.jpg,mug\nb.jpg,cup\n".encode("utf-16"), "t.csv"),
        ("\ufeffuri\tlabel\r\na.jpg\tmug\r\nb.jpg\tcup\r\n".encode("utf-16-le"), "t.csv"),
        ("\ufeffuri,label\na.jpg,mug\nb.jpg,cup\n".encode("utf-16-be"), "t.csv"),
        ("uri,label\na.jpg,mug\nb.jpg,cup\n".encode("utf-16-le"), "t.csv"),
        ("uri,label\na.jpg,mug\nb.jpg,cup\n".encode("utf-32"), "t.csv"),
        (b"uri\tlabel\na.jpg\tmug\nb.jpg\tcup\n", "t.csv"),
        (b"uri,label\na.jpg,mug\nb.jpg,cup\n", "t.tsv"),
        (b"uri;label\na.jpg;mug\nb.jpg;cup\n", "t.csv"),
        (b"uri|label\na.jpg|mug\nb.jpg|cup\n", "t.csv"),
        (b"sep=;\r\nuri;label\r\na.jpg;mug\r\nb.jpg;cup\r\n", "t.csv"),
        (b'\xef\xbb\xbf"sep=,"\nuri,label\na.jpg,mug\nb.jpg,cup\n', "t.csv"),
        (b"sep=\t\nuri\tlabel\na.jpg\tmug\nb.jpg\tcup\n", "t.csv"),
        (b" uri , label \na.jpg,mug\nb.jpg,cup\n", "t.csv"),
        ("\u200buri\u00a0,label\na.jpg,mug\nb.jpg,cup\n".encode(), "t.csv"),
        (b",uri,label\n0,a.jpg,mug\n1,b.jpg,cup\n", "t.csv"),
        (b"uri,label,,\na.jpg,mug,,\nb.jpg,cup,,\n", "t.csv"),
        (b"uri,label\na.jpg,mug,\nb.jpg,cup,,\n", "t.csv"),
        (b"uri,label\na.jpg,mug\n   \nb.jpg,cup\n", "t.csv"),
        (gzip.compress(b"uri,label\na.jpg,mug\nb.jpg,cup\n", mtime=0), "t.csv.gz"),
        (gzip.compress(b"uri\tlabel\na.jpg\tmug\nb.jpg\tcup\n", mtime=0), "t.tsv.gz"),
        (gzip.compress(b"uri,label\na.jpg,mug\nb.jpg,cup\n", mtime=0), "t.csv"),
    ],
)
def test_one_table_as_many_programs_write_it(folder, content, name):
    table = read(folder, content, name)
    assert (table.column_names, rows_of(table)) == (["uri", "label"], ONE)
    assert notes_of(table) == ()


def test_a_separator_stands_in_the_header_and_holds_for_the_rows(folder):
    assert rows_of(read(folder, "uri;label\na,1.jpg;mug, blue\nb,2.jpg;cup, red\n")) == [["a,1.jpg", "mug, blue"], ["b,2.jpg", "cup, red"]]
    assert read(folder, '"size; cm",label\n1,a\n').column_names == ["size; cm", "label"]
    assert read(folder, "size; cm,label,uri\n1,a,b\n").column_names == ["size; cm", "label", "uri"]
    assert rows_of(read(folder, "uri\na.jpg\nb;c.jpg\n")) == [["a.jpg"], ["b;c.jpg"]]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("uri,label\na.jpg,mug\nb.jpg\n", "t.csv, line 3 has 1 cell, beginning with 'b.jpg', and the header has 2 (uri, label)"),
        ('uri,label\n"a\n\n.jpg",mug\nb.jpg,blue, cup\n', "t.csv, line 5 has 3 cells, beginning with 'b.jpg'"),
        ('"uri\nof",label\n"a\nb",c,d\n', "t.csv, line 3 has 3 cells, beginning with 'a b', and the header has 2 (uri of, label)"),
        ("sep=;\nuri;label\na;b;c\n", "t.csv, line 3 has 3 cells, beginning with 'a', and the header has 2 (uri, label); text with semicolons"),
        ('uri,label\na.jpg,mug\nb.jpg,"cup\nc.jpg,mug\n', "a quote that is opened in line 3 or below is not closed"),
        ('uri,label\na.jpg,mug\nb.jpg,"cup', "a quote that is opened in line 3 or below is not closed"),
        ("", "t.csv is empty; give it a header line, such as uri,label"),
        ("\n\n", "t.csv is empty"),
        (",,\n", "t.csv is empty"),
        ("uri,label,uri \na,b,c\n", "has the column 'uri' twice"),
        (b"PAR1xx", "t.csv is no CSV but a Parquet file; name it .parquet"),
        (b"PK\x03\x04xx", "is no CSV but a zip or an Excel workbook; save it as CSV"),
        (b"\x1f\x8bxx", "is a damaged gzip file"),
        (gzip.compress(b"uri,label\n" * 99, mtime=0)[:-9], "is a damaged gzip file"),
        ("uri,label\na.jpg,Käse\nb.jpg,Käse Brötchen\nc.jpg,Müsli\n".encode() + b"d.jpg,Caf\xe9\n", "t.csv, line 5: bytes that are no UTF-8, though the rest"),
        (b"\xef\xbb\xbfuri,label\na.jpg,Caf\xe9\n", "t.csv, line 2: bytes that are no UTF-8"),
        (b"\xff\xfeu\0r\0i\0,\0l\0\x0a\0x", "is damaged UTF-16-LE text"),
    ],
)
def test_what_is_no_table_is_one_clear_line(folder, content, said):
    with pytest.raises(SourceError) as raised:
        read(folder, content)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("way")
def test_a_cell_may_be_larger_than_csv_takes_by_itself(folder):
    cell = "Lorem ipsum\n" * 30_000
    assert rows_of(read(folder, written([["a.jpg", cell]]))) == [["a.jpg", cell]]


def test_a_cell_without_an_end_is_not_read_for_ever(folder, monkeypatch):
    monkeypatch.setattr(tables, "ONE_BLOCK_BYTES", 0)
    limit = csv.field_size_limit(1_000)
    try:
        with pytest.raises(SourceError, match=r"line 2: field larger than field limit.*is there a quote that is not closed"):
            read(folder, 'uri,label\n"a,b\n' + "c,d\n" * 1_000)
    finally:
        csv.field_size_limit(limit)


TEXTS = {
    "cp1252": ["Käse Brötchen", "Crème brûlée", "Piña", "Rødgrød med fløde", "Men’s mug – 5 €", "Caffè", "Maçã"],
    "gb18030": ["蓝色马克杯", "不锈钢锅", "台灯", "苹果", "香蕉"],
    "cp932": ["マグカップ 青", "フライパン", "紅茶", "緑茶ペットボトル"],
    "euc_jp": ["マグカップ 青", "フライパン"],
    "big5": ["藍色馬克杯", "不鏽鋼鍋", "檯燈"],
    "euc_kr": ["머그컵", "홍차", "프라이팬", "파란색 컵"],
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("repeated", [1, 40])
def test_an_encoding_that_can_be_told_is_read_and_told(folder, encoding, repeated):
    labels = TEXTS[encoding] * repeated
    table = read(folder, "".join(["uri,label\n", *(f"img/{number}.jpg,{label}\n" for number, label in enumerate(labels))]).encode(encoding))
    assert table["label"].to_pylist() == labels
    [note] = notes_of(table)
    assert labels[0] in note
    assert "as it is no UTF-8" in note


@pytest.mark.parametrize(
    ("encoding", "labels"),
    [
        ("cp1251", ["Кружка синяя", "Чай"]),
        ("koi8-r", ["Кружка синяя", "Чай"]),
        ("cp1253", ["Κούπα", "Τσάι"]),
        ("cp1254", ["Kupa şişe", "Ağaç", "Işık"]),
        ("cp1255", ["כוס", "תה"]),
        ("cp1256", ["كوب", "شاي"]),
        ("cp874", ["แก้ว", "ชา"]),
        ("cp1250", ["Kubek żółty", "Łyżka"]),
        ("cp437", ["Müsli", "Käse"]),
        ("mac_roman", ["Müsli", "Käse"]),
        ("gb18030", ["红茶"]),
    ],
)
def test_an_encoding_that_cannot_be_told_is_refused(folder, encoding, labels):
    with pytest.raises(SourceError, match=r"the encoding of its text cannot be told .*save it as UTF-8, or convert it: iconv") as raised:
        read(folder, "".join(["uri,label\n", *(f"img/{number}.jpg,{label}\n" for number, label in enumerate(labels))]).encode(encoding))
    assert "UTF-8" in str(raised.value)


def test_parquet_as_text(folder):
    pq.write_table(
        pa.table(
            {
                " ean ": pa.array([4006381333931.0, None, 4006381333948.0]),
                "id": pa.array(["007", "8", ""], pa.large_string()),
                "view": pa.array([1, None, 2], pa.int8()),
                "share": pa.array([0.5, 2.0, None], pa.float32()),
                "label": pa.array(["mug", None, "cup"]).dictionary_encode(),
                "seen": pa.array(["a", "b", None], pa.string_view()),
                "image": pa.array([{"bytes": b"x", "path": "a"}] * 3),
                "box": pa.array([[1, 2]] * 3),
                "data": pa.array([b"\xff"] * 3),
            }
        ),
        folder / "t.parquet",
    )
    assert read_table(Folder(folder), "t.parquet").to_pydict() == {
        "ean": ["4006381333931", None, "4006381333948"],
        "id": ["007", "8", ""],
        "view": ["1", None, "2"],
        "share": ["0.5", "2", None],
        "label": ["mug", None, "cup"],
        "seen": ["a", "b", None],
    }


def test_a_file_of_two_encodings_is_refused(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"uri,label\n1.jpg,Caf\xc3\xa9\n2.jpg,Th\xe9 vert\n3.jpg,Cr\xe8me\n")
    with pytest.raises(SourceError, match=r"m.csv: some lines are UTF-8, others are not, such as line 3; save the whole file as UTF-8"):
        read_table(Folder(str(tmp_path)), "m.csv")
