"""What a source is taken for, what it lists, and what is said when it is none. The images are never opened: here they are no images."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.errors import SourceError
from prodrec.sources.schema import LISTING_SCHEMA
from prodrec.sources.source import Source, open_source

GROCERY = Path("/work/shared/data/grocery")


def write(folder: Path, *names: str, **texts: str) -> None:
    """Files of one byte at `names`; `texts` holds CSV files by their stem."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for stem, text in texts.items():
        (folder / f"{stem}.csv").write_text(text)


def rows(source: Source, *columns: str) -> list[tuple]:
    return list(zip(*(source.listing[column].to_pylist() for column in columns), strict=True))


def products10k(folder: Path) -> None:
    write(folder, "train/1.jpg", train="name,class,group\n1.jpg,7,3\n2.jpg,007,4\n", test="name,class,group\n1.jpg,7,3\n")


def imagefolder(folder: Path) -> None:
    write(folder, "apple/1.jpg", "apple/more/2.JPG", "pear/noending", "pear/notes.txt", "pear/.hidden.jpg", "LICENSE", "top.jpg")


def manifest(folder: Path) -> None:
    write(folder, manifest="uri,label,split\na/1.jpg, apple ,Train\n/abs/2.jpg,,\ns3://b/3.jpg,pear,validation\n")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_products10k(tmp_path, prefix):
    products10k(tmp_path)
    source = open_source(f"{prefix}{tmp_path}")
    assert source.listing.schema == LISTING_SCHEMA
    counts = "3 examples, 2 classes in 2 groups, publisher's split 2 train, 1 test"
    assert source.description == f"Products-10K: train.csv + test.csv, {counts}; nearly equal labels are kept apart: '007' = '7'"
    train, test = tmp_path / "train", tmp_path / "test"
    assert rows(source, "uri", "label", "group", "split") == [
        (f"{train}/1.jpg", "7", "3", "train"),
        (f"{train}/2.jpg", "007", "4", "train"),
        (f"{test}/1.jpg", "7", "3", "test"),
    ]


@pytest.mark.parametrize(
    ("files", "said", "found"),
    [
        ({}, "Products-10K: train.csv, 1 examples", [None]),
        ({"test": "id\n9.jpg\n"}, "test.csv left out: it has no labels", [None]),
        ({"test": "id\n9.jpg\n", "test_kaggletest": "name,class,group,Usage\n9.jpg,1,1,Public\n"}, "train.csv + test_kaggletest.csv", ["train", "test"]),
    ],
)
def test_products10k_test_files(tmp_path, files, said, found):
    write(tmp_path, train="name,class,group\n1.jpg,1,1\n", **files)
    source = open_source(str(tmp_path))
    assert said in source.description
    assert source.listing["split"].to_pylist() == found


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_imagefolder(tmp_path, prefix, end):
    imagefolder(tmp_path)
    source = open_source(f"{prefix}{tmp_path}{end}")
    assert rows(source, "uri", "label", "split", "group") == [
        (f"{tmp_path}/apple/1.jpg", "apple", None, None),
        (f"{tmp_path}/apple/more/2.JPG", "apple", None, None),
        (f"{tmp_path}/pear/noending", "pear", None, None),
    ]
    left_out = "1 hidden or system files left out; 2 text or other files left out, such as LICENSE; 1 files outside label folders left out"
    assert f"3 examples, 2 classes; {left_out}" in source.description


def test_imagefolder_with_the_publishers_split(tmp_path):
    write(tmp_path, "train/a/1.jpg", "valid/a/deep/2.jpg", "Test/b/3.jpg", "train/stray.jpg", "iconic/a.jpg")
    source = open_source(str(tmp_path))
    assert sorted(rows(source, "label", "split"), key=str) == [("a", "train"), ("a", "val"), ("b", "test"), (None, "train")]
    assert "1 files outside train, val and test left out (iconic: not known as names of splits)" in source.description


def test_a_label_called_train_is_no_split(tmp_path):
    write(tmp_path, "train/1.jpg", "car/2.jpg")
    assert rows(open_source(str(tmp_path)), "label", "split") == [("car", None), ("train", None)]


@pytest.mark.parametrize("place", ["folder", "folder uri", "file", "file uri"])
def test_csv_manifest(tmp_path, place):
    folder = tmp_path / "with blank"
    folder.mkdir()
    manifest(folder)
    path = folder / "manifest.csv" if "file" in place else folder
    source = open_source(path.as_uri() if "uri" in place else str(path))
    assert source.format == "manifest"
    assert rows(source, "uri", "label", "split") == [
        (f"{folder}/a/1.jpg", "apple", "train"),
        ("/abs/2.jpg", None, None),
        ("s3://b/3.jpg", "pear", "val"),
    ]


@given(st.lists(st.text(st.characters(blacklist_categories=["C", "Z"], blacklist_characters='"'), min_size=1), min_size=1))
def test_any_label_survives_a_csv(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("labels")
    write(folder, manifest="uri,label\n" + "".join(f'{i}.jpg,"{label}"\n' for i, label in enumerate(labels)))
    assert open_source(str(folder)).listing["label"].to_pylist() == labels


def test_uris_are_resolved_and_listing_ids_kept(tmp_path):
    text = "uri\tlabel\tlisting_id\n./a.jpg\tx\t1\n../b.jpg\tx\t2\nfile:///c%20d.jpg\tx\t3\nhttps://e/f.jpg\tx\t\n\tx\t5\n"
    (tmp_path / "m.tsv").write_text(text)
    assert rows(open_source(f"{tmp_path}/m.tsv"), "uri", "listing_id") == [
        (f"{tmp_path}/a.jpg", "1"),
        (f"{tmp_path.parent}/b.jpg", "2"),
        ("/c d.jpg", "3"),
        ("https://e/f.jpg", None),
        (None, "5"),
    ]


@pytest.mark.parametrize(
    "labels", [pa.array([1, 2, None]), pa.array([1.0, 2.0, None]), pa.array(["1", "2 ", ""]), pa.array(["1", "2", None]).dictionary_encode()]
)
def test_parquet_labels_of_any_scalar_type_become_text(tmp_path, labels):
    pq.write_table(pa.table({"uri": ["a", "b", "c"], "label": labels}), tmp_path / "any.parquet")
    assert rows(open_source(str(tmp_path)), "uri", "label") == [(f"{tmp_path}/{uri}", label) for uri, label in (("a", "1"), ("b", "2"), ("c", None))]


def test_embedded_bytes_are_located_and_not_read(tmp_path):
    for name, count in (("b.parquet", 5), ("a.parquet", 3)):
        table = pa.table(
            {"bytes": pa.array([b"image" * 1000] * count, pa.large_binary()), "label": ["x", "y", *["x"] * (count - 2)], "uri": ["where it was"] * count}
        )
        pq.write_table(table, tmp_path / name, row_group_size=2, use_dictionary=False, compression="none")
        damaged = bytearray((tmp_path / name).read_bytes())
        # The bytes column stands first in each row group: reading it would fail or be slow, listing must not notice.
        damaged[4:1000] = bytes(996)
        (tmp_path / name).write_bytes(damaged)
    source = open_source(str(tmp_path))
    assert source.description == "manifest: 2 Parquet files, 8 examples, 2 classes"
    places = [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("b", 0, 1), ("b", 1, 0), ("b", 1, 1), ("b", 2, 0)]
    assert rows(source, "uri", "row_group", "row") == [(f"{tmp_path}/{name}.parquet", group, row) for name, group, row in places]


def parquet(**columns: pa.Array | list) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(pa.table(columns), folder / "m.parquet")


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content) and None


@pytest.mark.parametrize(
    ("make", "name", "format", "said"),
    [
        (lambda folder: None, "absent", "auto", "absent does not exist"),
        (lambda folder: None, "", "auto", "is empty"),
        (lambda folder: None, "", "excel", "unknown format 'excel'; use auto, products10k, manifest, "),
        (text("1.jpg", "x"), "", "auto", "is no source. 1 images are there, but nothing tells their labels. prodrec looked for products10k, "),
        (text("1.jpg", "x"), "1.jpg", "auto", "looked for a file ending in .csv, "),
        (text("1.jpg", "x"), "", "imagefolder", "looked for a folder of images for each label"),
        (text("1.jpg", "x"), "", "products10k", "looked for train.csv (name, class, group)"),
        (text("1.jpg", "x"), "", "manifest", "looked for manifest.csv"),
        (manifest, "manifest.csv", "imagefolder", "is a file; the format imagefolder is a folder"),
        (text("manifest.json", "{}"), "", "auto", "is prepared already"),
        (text("m.csv", ""), "m.csv", "auto", "is empty; give it a header line"),
        (text("m.csv", "uri,label\n"), "m.csv", "auto", "lists no examples"),
        (text("m.csv", "place,label\na,b\n"), "m.csv", "auto", "no column uri, which a CSV manifest needs; found: place, label"),
        (text("m.csv", "uri,label,label\na,b,c\n"), "m.csv", "auto", "the column 'label' twice"),
        (text("m.csv", "uri,label\na,b,c\n"), "m.csv", "auto", "m.csv, line 2 has 3 cells"),
        (text("m.csv", b"uri,label\na,\xff\n"), "m.csv", "auto", "the encoding of its text cannot be told"),
        (text("m.csv", "uri,label,split\na,b,fold 3\n"), "m.csv", "auto", "split 'fold 3' is unknown; use train, val, test"),
        (
            text("m.csv", "uri,label,group\na,b,c\nd,b,e\n"),
            "m.csv",
            "auto",
            "label 'b' (1 in c, 1 in e) stands in several groups, as do 1 of 1; give each label one group",
        ),
        (text("train.csv", "uri,label\na,b\n"), "", "auto", "is no source. prodrec looked for"),
        (text("m.parquet", "PAR1 not"), "", "auto", "cannot read"),
        (parquet(place=["a"]), "", "auto", "no column uri or bytes and no label"),
        (parquet(bytes=["a"], label=["b"]), "", "auto", "store the files' bytes as binary"),
        (parquet(uri=["a"], label=[["b"]]), "", "auto", "column 'label' of type list"),
    ],
)
def test_what_is_no_source_is_one_clear_line(tmp_path, make, name, format, said):
    make(tmp_path)
    with pytest.raises(SourceError) as raised:
        open_source(str(tmp_path / name), format)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("makers", "format"),
    [
        ([products10k, imagefolder, manifest], "products10k"),
        ([imagefolder, manifest], "manifest"),
        ([imagefolder, parquet(uri=["a"], label=["b"])], "imagefolder"),
        ([parquet(uri=["a"], label=["b"])], "manifest"),
    ],
)
def test_auto_takes_the_first_that_fits(tmp_path, makers, format):
    for make in makers:
        make(tmp_path)
    source = open_source(str(tmp_path))
    assert source.format == format
    assert ("manifest.csv beside it not used" in source.description) == (manifest in makers and format != "manifest")


def test_a_file_of_another_format_may_be_forced(tmp_path):
    imagefolder(tmp_path)
    manifest(tmp_path)
    assert open_source(str(tmp_path), "imagefolder").listing["label"].to_pylist() == ["apple", "apple", "pear"]


@pytest.mark.skipif(not GROCERY.exists(), reason="real photos are not here: /work/shared/data/grocery")
def test_grocery_is_listed_with_the_publishers_split():
    source = open_source(str(GROCERY))
    assert source.description == "manifest: manifest.csv, 5,421 examples, 81 classes in 43 groups, publisher's split 2,640 train, 296 val, 2,485 test"
    assert {name: source.listing["split"].to_pylist().count(name) for name in ("train", "val", "test")} == {"train": 2640, "val": 296, "test": 2485}
    assert all(Path(uri).exists() for uri in source.listing["uri"].to_pylist()[::500])


def test_a_label_in_several_groups_has_that_of_most_of_its_images(tmp_path):
    rows = [("cup", "Kitchen")] * 3 + [("cup", "Office")] + [("mug", "Office"), ("mug", "Kitchen")] + [("pen", "Office"), ("pan", "Kitchen"), ("pot", "")]
    (tmp_path / "manifest.csv").write_text("uri,label,group\n" + "".join(f"{i}.jpg,{label},{group}\n" for i, (label, group) in enumerate(rows)))
    source = open_source(str(tmp_path))
    found = {(row["label"], row["group"]) for row in source.listing.to_pylist()}
    assert found == {("cup", "Kitchen"), ("mug", None), ("pen", "Office"), ("pan", "Kitchen"), ("pot", None)}
    assert "WARNING: 2 labels stand in several groups, such as 'cup' (3 in Kitchen, 1 in Office); a label has one" in source.description
