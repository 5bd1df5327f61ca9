"""What people call labels: labels.csv beside a source, and columns of its manifest."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import photo, write_image_folder

from prodrec.errors import SourceError
from prodrec.labels import Label, clean_title, is_web_address, shown, with_words
from prodrec.sources.labels import LabelText
from prodrec.sources.source import open_source


@pytest.fixture
def folder(tmp_path):
    return write_image_folder(tmp_path / "photos", {"mug": 1, "6": 1, "Käse": 1})


def written(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return open_source(str(folder))


def test_a_file_beside_the_source_names_labels_and_groups(folder):
    (folder / "shots").mkdir()
    source = written(
        folder,
        "Label,Title,group,group_title,URL,photo\n6,  Blue \n striped   mug ,m1,Mugs,https://shop.example/6?a=b,/shots/6.jpg\n".replace(" \n ", " ")
        + "mug,Red mug,m1,,,mug/000.jpg\n\n"
        + "Ka\u0308se,Käse am Stück,,,,\n",
    )
    assert source.labels == {
        "6": LabelText("Blue striped mug", "m1", "Mugs", "https://shop.example/6?a=b", "/shots/6.jpg"),
        "mug": LabelText("Red mug", "m1", "Mugs", None, str(folder / "mug" / "000.jpg")),
        "Käse": LabelText("Käse am Stück"),
    }
    assert "3 classes in 1 groups; labels.csv names 3 of them" in source.description
    assert source.format == "imagefolder"


def test_a_list_of_images_with_titles_is_no_file_of_names(tmp_path):
    (tmp_path / "images").mkdir()
    rows = [f"{number}.jpg,{number % 2},Title {number % 2}\n" for number in range(4)]
    for number in range(4):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(photo(number, number))
    source = written(tmp_path, "image,label,title\n" + "".join(rows))
    assert sorted(source.listing["label"].to_pylist()) == ["0", "0", "1", "1"]
    assert source.format != "imagefolder"


def test_a_column_for_people_that_sounds_like_an_image_does_not_hide_names(folder):
    assert written(folder, "label,title,id\nmug,Red mug,1\n6,Blue mug,2\n").labels["6"] == LabelText("Blue mug")


def test_labels_without_examples_and_examples_without_a_row_are_told(folder):
    description = written(folder, "label,title\nmug,Red mug\nMug,Red\n7,Seven\n8,Eight\n9,Nine\n10,Ten\n").description
    assert "labels.csv names 1 of them; 5 labels have no examples (7, 8, 9, ...); 2 labels have no row in it (6, Käse)" in description


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("mug,A,,\nmug,B,,", "label 'mug' stands twice, with two different values of title, 'A' and 'B'; keep one row a label"),
        (",A,,", r"row 2 has no label \(A\)"),
        ("mug,A,javascript:alert(1),", r"the link of label 'mug' is no http\(s\) address \(javascript:alert\(1\)\)"),
        ("mug,A,www.shop.example/1,", r"write the whole address, http\(s\)://"),
        (f"mug,{'A' * 401},,", "the title of label 'mug' has 401 characters; 400 at most"),
        ("mug,A,,\n6,B,,\nmug,,https://a.example/1,\nmug,,https://a.example/2,", "two different values of link"),
        ("mug,A,,a.jpg\nmug,A,,b.jpg", "two photos"),
    ],
)
def test_what_is_wrong_in_a_file_is_refused_with_its_label(folder, rows, told):
    with pytest.raises(SourceError, match=told) as caught:
        written(folder, f"label,title,link,photo\n{rows}\n")
    assert "labels.csv" in str(caught.value)


def test_rows_that_say_the_same_or_complete_each_other_are_one(folder):
    source = written(folder, "label,title,link\nmug,A,\nmug,A,https://a.example/\nmug,,\n")
    assert source.labels["mug"] == LabelText("A", link="https://a.example/")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label,group,title\nmug,g2,A\n", "label 'mug' is in group 'g2', and its examples are in 'g1'"),
        ("label,group_title\nmug,Mugs\n6,Cups\n", "group 'g1' has two titles, 'Mugs' and 'Cups'"),
    ],
)
def test_groups_are_those_of_the_examples(tmp_path, text, told):
    (tmp_path / "manifest.csv").write_text("uri,label,group\na.jpg,mug,g1\nb.jpg,6,g1\n")
    with pytest.raises(SourceError, match=told):
        written(tmp_path, text)


def test_a_table_of_something_else_is_no_names(folder):
    """Many data sets have a labels.csv: which image shows what, or the numbers of classes."""
    for text in ("image,label\nmug/000.jpg,mug\n", "id,name\n0,mug\n", "label,breed\nmug,x\n", "photo,label\nmug/000.jpg,mug\n"):
        assert written(folder, text).labels == {}


def test_a_folder_of_reference_photos_is_no_label(folder):
    (folder / "packshots").mkdir()
    for label in ("6", "mug"):
        (folder / "packshots" / f"{label}.jpg").write_bytes(photo(0, 1))
    source = written(folder, "label,title,photo\n6,Six,packshots/6.jpg\nmug,A mug,packshots/mug.jpg\nKäse,Cheese,Käse/000.jpg\n")
    assert source.format == "imagefolder"
    assert sorted(source.listing["label"].to_pylist()) == ["6", "Käse", "mug"]
    assert "2 reference photos of labels in packshots are no examples" in source.description


def test_photos_may_be_bytes_in_parquet_in_both_ways(folder):
    struct = pa.array([{"bytes": b"jpeg", "path": None}, {"bytes": None, "path": "mug/000.jpg"}, None])
    for photos, found in ((pa.array([b"jpeg", None, None]), [b"jpeg", None, None]), (struct, [b"jpeg", str(folder / "mug" / "000.jpg"), None])):
        pq.write_table(pa.table({"label": [6.0, None, 7.0], "title": ["A", None, "B"], "photo": photos}).slice(0, 1), folder / "labels.parquet")
        assert open_source(str(folder)).labels["6"] == LabelText("A", photo=b"jpeg")
        pq.write_table(pa.table({"label": ["6", "mug", "Käse"], "title": ["A", "B", "C"], "photo": photos}), folder / "labels.parquet")
        assert [open_source(str(folder)).labels[label].photo for label in ("6", "mug", "Käse")] == found
    pq.write_table(pa.table({"label": ["6"], "title": ["A"], "photo": [[1, 2]]}), folder / "labels.parquet")
    with pytest.raises(SourceError, match="column 'photo' holds lists; store paths, or the files' bytes"):
        open_source(str(folder))


def test_columns_of_a_manifest_name_labels_where_they_are_about_labels(tmp_path):
    (tmp_path / "manifest.csv").write_text(
        "uri,label,group,title,group_title,url,photo\n"
        "a.jpg,6,g,Blue mug,Mugs,https://shop.example/listing/1,shots/6.jpg\n"
        "b.jpg,6,g,Blue  mug,Mugs,https://shop.example/listing/2,\n"
        "c.jpg,7,g,,Mugs,,\n"
    )
    source = open_source(str(tmp_path))
    assert source.labels == {"6": LabelText("Blue mug", "g", "Mugs", None, str(tmp_path / "shots" / "6.jpg")), "7": LabelText(None, "g", "Mugs")}
    assert "the manifest names 1 of them" in source.description
    assert "column url not used as the labels': label '6' has several" in source.description


@pytest.mark.parametrize("value", ["javascript:alert(1)", "/listing/1", "a" * 401])
def test_a_manifest_that_means_something_else_by_a_column_is_read_as_before(tmp_path, value):
    (tmp_path / "manifest.csv").write_text(f"uri,label,link,title\na.jpg,6,{value[:50]},{value}\n")
    source = open_source(str(tmp_path))
    assert len(source.listing) == 1
    assert not source.labels or source.labels["6"].link is None
    assert "column link not used: the link of label '6'" in source.description


def test_a_labels_file_goes_before_columns_and_stands_beside_a_manifest_file(tmp_path):
    (tmp_path / "photos.csv").write_text("uri,label,title\na.jpg,6,Old\n")
    (tmp_path / "labels.tsv").write_text("label\ttitle\n6\tNew\n")
    assert open_source(str(tmp_path / "photos.csv")).labels["6"].title == "New"


@given(st.text(max_size=60))
def test_a_title_is_one_clean_line_that_stays_as_it_is(text):
    title = clean_title(text)
    assert clean_title(title) == title == title.strip()
    assert not set(title) & set("\n\r\t\0\x1b\u202e\u2066\u2028")


@pytest.mark.parametrize("link", ["https://a.example", "HTTP://a.example:8080/ü?x=1#y", "https://[2001:db8::1]/x"])
def test_web_addresses(link):
    assert is_web_address(link)
    assert Label(name="6", link=link).link == link


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", " https://a.example", "https://", "//a.example", "data:text/html,x", "https://a b", 'https://a"b', "ftp://a"]
)
def test_other_addresses_stand_in_no_label(link):
    assert not is_web_address(link)
    with pytest.raises(ValueError, match="no http"):
        Label(name="6", link=link)


def test_a_newer_data_set_names_what_it_knows_and_the_rest_stays():
    old = [Label(name="a", group="g", title="A", group_title="G", link="https://a.example/", photo="1" * 16), Label(name="b"), Label(name="c", title="C")]
    new = [Label(name="a", group="g", title="Better A", photo="2" * 16), Label(name="b", group="h", title="B", group_title="H", photo="3" * 16)]
    assert with_words(old, new) == [
        Label(name="a", group="g", title="Better A", group_title="G", link="https://a.example/", photo="1" * 16),
        Label(name="b", group="h", title="B", group_title="H", photo="3" * 16),
        Label(name="c", title="C"),
    ]


def test_what_has_no_title_is_written_as_before():
    assert Label(name="6", group="g").model_dump_json() == '{"name":"6","group":"g"}'
    assert Label(name="6", title="T").model_dump_json() == '{"name":"6","group":null,"title":"T"}'
    assert (shown("6", "Blue mug"), shown("6", None)) == ("Blue mug (6)", "6")
