"""COCO and Pascal-VOC: listed whole, or refused in one line that names file and id."""

import json

import pytest
from made import coco_tree, write_coco

from prodrec.errors import SourceError
from prodrec.sources.source import open_source

VOC = """<annotation><filename>{name}.jpg</filename><size><width>80</width><height>64</height></size>{objects}</annotation>"""
OBJECT = "<object><name>{label}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"


def write_voc(folder, files):
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for name, objects in files.items():
        text = VOC.format(name=name, objects="".join(OBJECT.format(*box, label=label) for label, box in objects))
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(b"not opened here")
    return folder


def rows(source):
    return {row["uri"].rpartition("/")[2]: row for row in source.listing.to_pylist()}


@pytest.mark.parametrize("whole", [True, False])
def test_coco_is_recognised_and_listed_whole(tmp_path, whole):
    folder = write_coco(tmp_path / "set", 6)
    source = open_source(str(folder if whole else folder / "annotations" / "instances.json"))
    assert source.format == "coco"
    assert "6 examples, 2 classes" in source.description
    listed = rows(source)
    tree = coco_tree(6)
    for image in tree["images"]:
        row, said = listed[image["file_name"]], [a for a in tree["annotations"] if a["image_id"] == image["id"]]
        assert row["uri"] == str(folder / "images" / image["file_name"])
        assert (row["width"], row["height"], row["label"]) == (80, 64, None)
        assert [item["id"] for item in row["objects"]] == [str(a["id"]) for a in said]
        for item, a in zip(row["objects"], said, strict=True):
            x, y, w, h = a["bbox"]
            assert item["box"] == pytest.approx([x, y, x + w, y + h], rel=1e-6)
            assert item["label"] == {10: "red", 11: "green"}[a["category_id"]]
    assert listed["000.jpg"]["objects"] == [], "a picture that shows nothing is an example too"


def test_the_split_of_coco_files_is_told_by_their_names(tmp_path):
    write_coco(tmp_path, 2)
    (tmp_path / "annotations" / "instances.json").rename(tmp_path / "annotations" / "instances_train2017.json")
    other = coco_tree(1)
    other["images"][0]["file_name"] = "100.jpg"
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(other))
    assert [row["split"] for row in open_source(str(tmp_path)).listing.to_pylist()] == ["train", "train", "val"]


def test_crowds_are_marked(tmp_path):
    tree = coco_tree(2)
    tree["annotations"][0]["iscrowd"] = 1
    (tmp_path / "a.json").write_text(json.dumps(tree))
    assert [item["crowd"] for row in open_source(str(tmp_path / "a.json")).listing.to_pylist() for item in row["objects"]] == [True]


def test_voc_is_recognised_and_its_pixels_are_counted_from_one(tmp_path):
    write_voc(tmp_path, {"a": [("cup", (1, 1, 10, 20))], "b": [], "c": [("cup", (0, 0, 5, 5)), ("bowl", (3, 4, 90, 70))]})
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("a\nc 1\n")
    source = open_source(str(tmp_path))
    assert source.format == "voc"
    listed = rows(source)
    assert listed["a.jpg"]["uri"] == str(tmp_path / "JPEGImages" / "a.jpg")
    assert listed["a.jpg"]["objects"] == [{"id": "1", "label": "cup", "box": [0, 0, 10, 20], "crowd": False}]
    assert listed["b.jpg"]["objects"] == []
    assert [item["box"] for item in listed["c.jpg"]["objects"]] == [[0, 0, 5, 5], [2, 3, 90, 70]]
    assert [listed[f"{name}.jpg"]["split"] for name in "abc"] == ["test", None, "test"]


def test_a_missing_image_does_not_hide_where_the_others_are(tmp_path):
    coco = write_coco(tmp_path / "coco", 6)
    (coco / "images" / "000.jpg").unlink()
    assert {row["uri"].rpartition("/")[0] for row in open_source(str(coco)).listing.to_pylist()} == {str(coco / "images")}
    voc = write_voc(tmp_path / "voc", {name: [("cup", (1, 1, 9, 9))] for name in "abc"})
    (voc / "JPEGImages").rename(voc / "images")
    (voc / "images" / "a.jpg").unlink()
    assert {row["uri"].rpartition("/")[0] for row in open_source(str(voc)).listing.to_pylist()} == {str(voc / "images")}


def test_a_picture_that_is_annotated_twice_is_refused(tmp_path):
    coco = write_coco(tmp_path / "coco", 6)
    (coco / "annotations" / "instances_train.json").write_text(json.dumps(coco_tree(4)))
    with pytest.raises(SourceError, match=r"00\d.jpg is annotated more than once"):
        open_source(str(coco))
    voc = write_voc(tmp_path / "voc", {"a": [], "b": []})
    (voc / "Annotations" / "again.xml").write_text(VOC.format(name="a", objects=""))
    with pytest.raises(SourceError, match=r"a.jpg is annotated more than once"):
        open_source(str(voc))


def broken(change):
    tree = coco_tree(4)
    change(tree)
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "no list 'images'"),
        (broken(lambda t: t.pop("categories")), "no list 'categories'"),
        (broken(lambda t: t["annotations"][2].update(category_id=99)), "annotation id 3 names category_id 99"),
        (broken(lambda t: t["annotations"][1].update(image_id=77)), "annotation id 2 names image_id 77"),
        (broken(lambda t: t["annotations"][1].update(bbox=[1, 2, 3])), "annotation id 2 has the bbox"),
        (broken(lambda t: t["annotations"][1].pop("bbox")), "id 2 of 'annotations' has no 'bbox'"),
        (broken(lambda t: t["images"][1].pop("file_name")), "id 1 of 'images' has no 'file_name'"),
        (broken(lambda t: t["images"][1].update(id=0)), "'images' has the id 0 more than once"),
        (broken(lambda t: t["categories"][1].update(id=10)), "'categories' has the id 10 more than once"),
        (broken(lambda t: t["images"][1].update(id={})), "'images' has the id {}; expected a number"),
        (broken(lambda t: t["annotations"][1].update(category_id=[1])), r"annotation id 2 names category_id \[1\]"),
        (broken(lambda t: t["annotations"][1].update(bbox="1234")), "annotation id 2 has the bbox 1234"),
        (broken(lambda t: t["annotations"][1].update(iscrowd="0")), "annotation id 2 has the iscrowd '0'"),
    ],
)
def test_broken_coco_is_one_line_that_names_file_and_id(tmp_path, text, words):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(SourceError, match=words) as raised:
        open_source(str(tmp_path / "boxes.json"))
    assert "boxes.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation><object>", "is not XML"),
        ("<annotation/>", "no <filename>"),
        (VOC.format(name="a", objects="<object><name>cup</name></object>"), "object 1: the corners"),
        (VOC.format(name="a", objects=OBJECT.format(1, 2, "x", 4, label="cup")), "object 1: the corners"),
        (VOC.format(name="a", objects=OBJECT.format(1, 2, 3, 4, label="")), "object 1 has no <name>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "XML entities"),
    ],
)
def test_broken_voc_is_one_line_that_names_the_file(tmp_path, text, words):
    write_voc(tmp_path, {"good": []})
    (tmp_path / "Annotations" / "odd.xml").write_text(text)
    with pytest.raises(SourceError, match=words) as raised:
        open_source(str(tmp_path))
    assert "odd.xml" in str(raised.value)
