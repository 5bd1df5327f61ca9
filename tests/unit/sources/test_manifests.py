"""Manifests as other programs leave them: names of columns, Hugging Face's Parquet, numbers that were text, names in two forms."""

import json
import unicodedata
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import photo

from prodrec.errors import SourceError
from prodrec.shards.listings import open_listings
from prodrec.sources.image_bytes import read_images
from prodrec.sources.source import open_source

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def listed(path, *columns: str) -> list[tuple]:
    source = open_source(str(path))
    return list(zip(*(source.listing[column].to_pylist() for column in columns), strict=True))


def pixels(path) -> list:
    return [found if isinstance(found, bytes) else found.code.value for found in read_images(open_source(str(path)).listing, 10**6)]


@pytest.mark.parametrize(
    "uri", ["uri", "URI", " Uri ", "url", "image", "image_path", "Image Path", "image-url", "path", "file", "filename", "file_name", "filepath"]
)
@pytest.mark.parametrize("label", ["label", "LABEL", "Label ", "class", "Class Name", "category", "product", "product_id", "sku"])
def test_usual_names_of_columns(tmp_path, uri, label):
    (tmp_path / "m.csv").write_text(f"{uri},price,{label}\na.jpg,3,mug\n")
    source = open_source(str(tmp_path / "m.csv"))
    assert (source.listing["uri"].to_pylist(), source.listing["label"].to_pylist()) == ([str(tmp_path / "a.jpg")], ["mug"])
    assert (f"column '{uri.strip()}' read as uri" in source.description) == (uri.strip().lower() != "uri")
    assert (f"column '{label.strip()}' read as label" in source.description) == (label.strip().lower() != "label")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("path,url,label", "the columns path and url could both be the uri; name one of them uri"),
        ("uri,class,product", "the columns class and product could both be the label; name one of them label"),
        ('"place\nof it",Label,x', "has no column uri, which a CSV manifest needs; found: place of it, Label, x;"),
        ("uri,Label,LABEL", "the columns Label and LABEL could both be the label"),
        ("uri,name,title", "has no column label, which a CSV manifest needs; found: uri, name, title; rename the columns, or add a header line"),
        ("img/1.jpg,mug,x", "has no column uri and no label, which a CSV manifest needs; found: img/1.jpg, mug, x"),
    ],
)
def test_what_could_be_two_columns_is_refused(tmp_path, header, said):
    (tmp_path / "m.csv").write_text(f"{header}\na,b,c\n")
    with pytest.raises(SourceError) as raised:
        open_source(str(tmp_path / "m.csv"))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_column_of_the_right_name_goes_before_all_others(tmp_path):
    (tmp_path / "m.csv").write_text("path,uri,Label,label,class\na,b,c,d,e\n")
    assert listed(tmp_path / "m.csv", "uri", "label") == [(str(tmp_path / "b"), "d")]


def hugging_face(names: list[str] | None = None, **columns) -> pa.Table:
    table = pa.table(columns)
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def images(*cells) -> pa.Array:
    return pa.array([cell if cell is None else {"bytes": cell[0], "path": cell[1]} for cell in cells], HF_IMAGE)


def test_hugging_faces_images_and_classes(tmp_path):
    cells = images((photo(0, 0), "a.jpg"), (photo(1, 0), None), (None, "beside.jpg"), None, (photo(2, 0), "b.jpg"))
    pq.write_table(hugging_face(["cup", "blue mug "], image=cells, label=[0, 1, 1, 0, -1]), tmp_path / "m.parquet", row_group_size=2)
    (tmp_path / "beside.jpg").write_bytes(photo(1, 1))
    assert [label for (label,) in listed(tmp_path / "m.parquet", "label")] == ["cup", "blue mug", "blue mug", "cup", None]
    assert pixels(tmp_path / "m.parquet") == [photo(0, 0), photo(1, 0), photo(1, 1), "missing", photo(2, 0)]
    found = open_listings(str(tmp_path / "m.parquet"))
    flat = pa.table({name: found.table[name].combine_chunks().flatten() for name in ("uri", "row_group", "row")})
    assert [image for image in read_images(flat, 10**6) if isinstance(image, bytes)] == [photo(0, 0), photo(1, 0), photo(1, 1), photo(2, 0)]
    assert found.images == 5


def test_a_class_without_a_name_is_refused(tmp_path):
    pq.write_table(hugging_face(["cup"], image=images((b"x", None)), label=[1]), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match="column 'label' holds the class 1, and only 1 have names"):
        open_source(str(tmp_path / "m.parquet"))


def test_classes_without_names_are_numbers(tmp_path):
    """The case unclear_hints/huggingface.parquet."""
    pq.write_table(pa.table({"image": images((photo(0, 0), "0.jpg")), "label": pa.array([3])}), tmp_path / "m.parquet")
    assert listed(tmp_path / "m.parquet", "label", "row_group", "row") == [("3", 0, 0)]
    assert pixels(tmp_path / "m.parquet") == [photo(0, 0)]


@pytest.mark.parametrize("place", ["{split}-0000{number}-of-00002.parquet", "data/{split}-0000{number}-of-00002.parquet", "{split}/000{number}.parquet"])
def test_the_names_of_shards_tell_their_split(tmp_path, place):
    (tmp_path / "README.md").write_text("---")
    (tmp_path / ".gitattributes").write_text("x")
    (tmp_path / "dataset_infos.json").write_text("{}")
    for split, number in (("train", 0), ("train", 1), ("validation", 0), ("test", 0)):
        path = tmp_path / place.format(split=split, number=number)
        path.parent.mkdir(exist_ok=True)
        pq.write_table(hugging_face(["cup", "mug"], image=images((photo(number, 0), None)), label=[number]), path)
    assert sorted(listed(tmp_path, "split", "label")) == [("test", "cup"), ("train", "cup"), ("train", "mug"), ("val", "cup")]
    assert all(isinstance(image, bytes) for image in pixels(tmp_path))


@pytest.mark.parametrize("column", ["bytes", "image", "img", "Image Bytes", "jpg"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_in_a_column_of_any_usual_name(tmp_path, column, kind):
    pq.write_table(pa.table({column: pa.array([photo(0, 0), None], kind), "label": ["mug", "cup"], "uri": ["x.jpg", "beside.jpg"]}), tmp_path / "m.parquet")
    (tmp_path / "beside.jpg").write_bytes(photo(1, 1))
    assert pixels(tmp_path / "m.parquet") == [photo(0, 0), photo(1, 1)]


def test_two_columns_of_bytes_are_refused(tmp_path):
    pq.write_table(pa.table({"image": [b"x"], "jpg": [b"y"], "label": ["mug"]}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match="the columns image and jpg hold bytes of images; name the one that is meant 'bytes'"):
        open_source(str(tmp_path / "m.parquet"))


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_numbers_of_13_digits_that_pandas_made_floats_of(tmp_path, form):
    frame = pd.DataFrame({"uri": ["a.jpg", "b.jpg", "c.jpg"], "label": [4006381333931, None, 4006381333948], "listing_id": ["007", "0042", None]})
    frame["listing_id"] = frame["listing_id"].astype("string")
    frame.to_parquet(tmp_path / "m.parquet") if form == "parquet" else frame.to_csv(tmp_path / "m.csv")
    expected = [("4006381333931", "007"), (None, "0042"), ("4006381333948", None)]
    assert listed(tmp_path / f"m.{form}", "label", "listing_id") == expected
    (tmp_path / "t.csv").write_text("uri,listing_id\na.jpg,4006381333931.0\nb.jpg,\nc.jpg,4006381333948.0\n")
    assert open_listings(str(tmp_path / "t.csv")).table["listing_id"].to_pylist() == ["4006381333931", str(tmp_path / "b.jpg"), "4006381333948"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([float(2**53 + 2)]),
        pa.array([float(2**53)]),
        pa.array([16_777_216.0], pa.float32()),
        pa.array(["4.00638E+12"]),
        pa.array(["4,00638E+12"]),
        pa.array(["4E+12"]),
    ],
)
@pytest.mark.parametrize("column", ["label", "listing_id"])
def test_numbers_that_have_lost_digits_are_refused(tmp_path, values, column):
    pq.write_table(pa.table({"uri": ["a.jpg"], "label": ["x"], "listing_id": ["y"]} | {column: values}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match=f"m.parquet: {column} '.*' is a long number that has lost digits; store the column as text"):
        open_source(str(tmp_path / "m.parquet"))
    if column == "listing_id":
        with pytest.raises(SourceError, match=r"listing_id '.*' is a long number that has lost digits"):
            open_listings(str(tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([b"mug", b"cup"]), ["mug", "cup"]),
        (pa.array(["mug", "cup"], pa.large_string()), ["mug", "cup"]),
        (pa.array(["mug", "cup"], pa.string_view()), ["mug", "cup"]),
        (pa.array(["mug", "cup"]).dictionary_encode(), ["mug", "cup"]),
        (pa.array([1.0, 2.0]).dictionary_encode(), ["1", "2"]),
        (pa.array([Decimal("4006381333931.00"), None]), ["4006381333931", None]),
        (pa.array([2**64 - 1, 7], pa.uint64()), ["18446744073709551615", "7"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([0.5, 3.0]), ["0.5", "3"]),
    ],
)
def test_labels_of_any_type_that_parquet_has(tmp_path, values, text):
    pq.write_table(pa.table({"uri": ["a.jpg", "b.jpg"], "label": values}), tmp_path / "m.parquet")
    assert [label for (label,) in listed(tmp_path / "m.parquet", "label")] == text


def test_labels_and_ids_are_stripped_and_composed(tmp_path):
    nfd = unicodedata.normalize("NFD", "Café crème")
    (tmp_path / "m.csv").write_text(
        f"uri,label,group,listing_id\na.jpg,{nfd},\u00a0{nfd}\u200b,\ufeffé1 \nb.jpg,Café crème\t,Café crème, é1\n", encoding="utf-8"
    )
    assert listed(tmp_path / "m.csv", "label", "group", "listing_id") == [("Café crème", "Café crème", "é1")] * 2
    found = open_listings(str(tmp_path / "m.csv"))
    assert found.table["listing_id"].to_pylist() == ["é1"]


def test_an_image_folder_of_a_mac(tmp_path):
    """The case nfd_labels: class folders of train composed, those of test decomposed."""
    for split, form, count in (("train", "NFC", 4), ("test", "NFD", 2)):
        for label in ("Apfel", "Café crème", "Müsli"):
            folder = tmp_path / split / unicodedata.normalize(form, label)
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_bytes(photo(0, number))
    source = open_source(str(tmp_path))
    assert source.listing["label"].unique().to_pylist() == ["Apfel", "Café crème", "Müsli"]
    assert "18 examples, 3 classes" in source.description
    assert all(isinstance(image, bytes) for image in pixels(tmp_path))


def test_the_names_of_boxes_too(tmp_path):
    nfd = unicodedata.normalize("NFD", " Müsli ")
    tree = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}, {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9]}],
        "categories": [{"id": 1, "name": nfd}, {"id": 2, "name": "Müsli"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(tree))
    [(objects,)] = listed(tmp_path / "instances.json", "objects")
    assert [item["label"] for item in objects] == ["Müsli", "Müsli"]


def test_nearly_equal_labels_are_told(tmp_path):
    (tmp_path / "m.csv").write_text("uri,label\na.jpg,Blue Mug\nb.jpg,blue mug\nc.jpg,cup\nd.jpg,blue_mug\n")
    assert "nearly equal labels are kept apart: 'Blue Mug' = 'blue mug' = 'blue_mug'" in open_source(str(tmp_path / "m.csv")).description


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("folder", ["NFC", "NFD"])
@pytest.mark.parametrize("file", ["NFC", "NFD"])
@pytest.mark.parametrize("slash", ["/", "\\", "./"])
def test_a_path_is_found_as_the_disk_spells_it(tmp_path, written, folder, file, slash):
    place = tmp_path / unicodedata.normalize(folder, "Müsli") / unicodedata.normalize(file, "Café.jpg")
    place.parent.mkdir()
    place.write_bytes(photo(0, 0))
    path = unicodedata.normalize(written, f"Müsli{slash}Café.jpg" if slash != "./" else ".\\Müsli\\Café.jpg")
    (tmp_path / "m.csv").write_text(f"uri,label\n{path},mug\nMüsli/gone.jpg,mug\nno\\such.jpg,mug\n", encoding="utf-8")
    assert pixels(tmp_path / "m.csv") == [photo(0, 0), "missing", "missing"]


def test_a_file_with_a_backslash_in_its_name_goes_first(tmp_path):
    (tmp_path / "a\\b.jpg").write_bytes(photo(0, 0))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").write_bytes(photo(1, 0))
    (tmp_path / "m.csv").write_text("uri,label\na\\b.jpg,mug\n")
    assert pixels(tmp_path / "m.csv") == [photo(0, 0)]
