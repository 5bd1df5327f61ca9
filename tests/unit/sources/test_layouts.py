"""Layouts of people's sets: each is taken for what it is, with its labels, boxes and splits, or refused by name. No image is opened."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prodrec.errors import SourceError
from prodrec.sources.image_bytes import read_images
from prodrec.sources.listings import read_listings
from prodrec.sources.source import open_source


def put(folder: Path, **files) -> Path:
    """Files by their paths; a dict or list is JSON, None an image."""
    return put_all(folder, files)


def put_all(folder: Path, files: dict) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "image" if content is None else content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def listed(folder: Path, format: str = "auto"):
    """The source, and by the path of each image (label, split, [(label of object, box)])."""
    source = open_source(str(folder), format)
    found = {}
    for row in source.listing.to_pylist():
        boxes = None if row["objects"] is None else [(item["label"], [round(side, 4) for side in item["box"]]) for item in row["objects"]]
        found[row["uri"].removeprefix(f"{folder}/")] = (row["label"], row["split"], boxes)
    return source, found


def coco(*names, box=(1, 2, 10, 20), label="cup"):
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)]
    annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": list(box)} for i in range(len(names))]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": label}]}


CUP = [("cup", [1, 2, 11, 22])]
BEFORE = "/home/me/set"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # COCO: the place of the file, the folder of the images, the way that they are named
        (
            {"annotations/train.json": coco("1.jpg"), "annotations/val.json": coco("1.jpg"), "train/1.jpg": 0, "val/1.jpg": 0},
            {"train/1.jpg": "train", "val/1.jpg": "val"},
        ),
        (
            {
                "annotations/instances_train2017.json": coco("1.jpg"),
                "annotations/instances_val2017.json": coco("2.jpg"),
                "train2017/1.jpg": 0,
                "val2017/2.jpg": 0,
            },
            {"train2017/1.jpg": "train", "val2017/2.jpg": "val"},
        ),
        ({"annotations/instances_minival.json": coco("1.jpg"), "minival/1.jpg": 0}, {"minival/1.jpg": "val"}),
        ({"annotations/instances_default.json": coco("1.jpg"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"annotations/instances_test-dev2017.json": coco("1.jpg"), "images/test2017/1.jpg": 0}, {"images/test2017/1.jpg": "test"}),
        ({"annotations/train_annotations.json": coco("a/1.jpg"), "images/a/1.jpg": 0}, {"images/a/1.jpg": "train"}),
        (
            {"train/_annotations.coco.json": coco("1.jpg"), "valid/_annotations.coco.json": coco("1.jpg"), "train/1.jpg": 0, "valid/1.jpg": 0},
            {"train/1.jpg": "train", "valid/1.jpg": "val"},
        ),
        ({"labels.json": coco("1.jpg"), "data/1.jpg": 0}, {"data/1.jpg": None}),
        (
            {"train/labels.json": coco("1.jpg"), "train/data/1.jpg": 0, "test/labels.json": coco("1.jpg"), "test/data/1.jpg": 0},
            {"train/data/1.jpg": "train", "test/data/1.jpg": "test"},
        ),
        ({"result.json": coco("images\\1.jpg"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"result.json": coco("../images/1.jpg"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"train.json": coco("1.jpg"), "val.json": coco("2.jpg"), "images/1.jpg": 0, "images/2.jpg": 0}, {"images/1.jpg": "train", "images/2.jpg": "val"}),
        ({"boxes.json": coco("1.JPG"), "1.jpg": 0}, {"1.jpg": None}),
        ({"boxes.json": coco("cafe\u0301.jpg"), "imgs/caf\u00e9.jpg": 0}, {"imgs/caf\u00e9.jpg": None}),
        ({"boxes.json": coco(f"{BEFORE}/images/1.jpg"), "images/1.jpg": 0, "thumbs/1.jpg": 0}, {"images/1.jpg": None}),
        ({"boxes.json": coco("C:\\set\\images\\1.jpg"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"boxes.json": b"\xef\xbb\xbf" + json.dumps(coco("1.jpg")).encode(), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"boxes.json": coco("https://e/1.jpg"), "images/1.jpg": 0}, {"https://e/1.jpg": None}),
        (
            {
                "annotations/trainval.json": coco("1.jpg", "2.jpg"),
                "annotations/train.json": coco("1.jpg"),
                "annotations/val.json": coco("2.jpg"),
                "images/1.jpg": 0,
                "images/2.jpg": 0,
            },
            {"images/1.jpg": "train", "images/2.jpg": "val"},
        ),
        (
            {
                "annotations/instances_val.json": coco("1.jpg"),
                "annotations/captions_val.json": {"images": [], "annotations": [{"caption": "a cup"}]},
                "annotations/person_keypoints_val.json": coco("1.jpg"),
                "val/1.jpg": 0,
            },
            {"val/1.jpg": "val"},
        ),
        ({"a/b/annotations/train.json": coco("1.jpg"), "a/b/train/1.jpg": 0}, {"a/b/train/1.jpg": "train"}),
    ],
)
def test_coco_under_every_usual_name_and_place(tmp_path, files, expected):
    source, found = listed(put_all(tmp_path, {name: content or None for name, content in files.items()}))
    assert source.format == "coco"
    assert found == {name: (None, split, CUP) for name, split in expected.items()}
    assert "not there" not in source.description


def test_a_coco_file_of_unknown_split_beside_others_is_refused_by_name(tmp_path):
    put_all(tmp_path, {"annotations/train.json": coco("1.jpg"), "annotations/shop.json": coco("2.jpg"), "images/1.jpg": None, "images/2.jpg": None})
    with pytest.raises(SourceError, match=r"the name of annotations/shop.json tells no split"):
        open_source(str(tmp_path))


def xml(image: str | None = None, label="cup", head="", tail="") -> str:
    name = f"<filename>{image}</filename>" if image else ""
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>22</ymax></bndbox>"
    return f"{head}<annotation>{name}<size><width>64</width><height>48</height></size><object><name>{label}</name>{box}</object></annotation>{tail}"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Annotations/1.xml": xml("1.jpg"), "JPEGImages/1.jpg": 0}, {"JPEGImages/1.jpg": None}),
        (
            {
                "VOC2007/Annotations/1.xml": xml("1.jpg"),
                "VOC2007/JPEGImages/1.jpg": 0,
                "VOC2012/Annotations/2.xml": xml("2.jpg"),
                "VOC2012/JPEGImages/2.jpg": 0,
                "VOC2007/ImageSets/Main/trainval.txt": "1\n",
                "VOC2012/ImageSets/Main/test.txt": "2\n",
            },
            {"VOC2007/JPEGImages/1.jpg": "train", "VOC2012/JPEGImages/2.jpg": "test"},
        ),
        (
            {"VOCdevkit/VOC2012/Annotations/1.xml": xml("1.jpg"), "VOCdevkit/VOC2012/JPEGImages/1.jpg": 0, "VOCdevkit/VOC2012/ImageSets/Main/val.txt": "1\n"},
            {"VOCdevkit/VOC2012/JPEGImages/1.jpg": "val"},
        ),
        ({"1.xml": xml("1.jpg"), "1.jpg": 0}, {"1.jpg": None}),
        ({"cups/1.xml": xml("1.jpg"), "cups/1.jpg": 0, "mugs/1.xml": xml("1.jpg"), "mugs/1.jpg": 0}, {"cups/1.jpg": None, "mugs/1.jpg": None}),
        (
            {"Annotations/a/1.xml": xml("1.jpg"), "Annotations/b/1.xml": xml("1.jpg"), "JPEGImages/a/1.jpg": 0, "JPEGImages/b/1.jpg": 0},
            {"JPEGImages/a/1.jpg": None, "JPEGImages/b/1.jpg": None},
        ),
        ({"train/1.xml": xml("1.jpg"), "train/1.jpg": 0, "valid/1.xml": xml("1.jpg"), "valid/1.jpg": 0}, {"train/1.jpg": "train", "valid/1.jpg": "val"}),
        (
            {"train/annotations/1.xml": xml("1.jpg"), "train/images/1.jpg": 0, "test/annotations/1.xml": xml("1.jpg"), "test/images/1.jpg": 0},
            {"train/images/1.jpg": "train", "test/images/1.jpg": "test"},
        ),
        ({"data/1.jpg": 0, "labels/1.xml": xml("1.jpg")}, {"data/1.jpg": None}),
        ({"annotations/1.xml": xml("old name.jpg"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"annotations/1.xml": xml("1"), "images/1.png": 0}, {"images/1.png": None}),
        ({"annotations/1.xml": xml("杯.jpg", head='<?xml version="1.0" encoding="GB2312"?>\n').encode("gb2312"), "images/杯.jpg": 0}, {"images/杯.jpg": None}),
        (
            {"annotations/1.xml": xml("カップ.jpg", head='<?xml version="1.0" encoding="Shift_JIS"?>').encode("cp932"), "images/カップ.jpg": 0},
            {"images/カップ.jpg": None},
        ),
        ({"annotations/1.xml": xml("1.jpg", head='<?xml version="1.0" encoding="utf-16"?>').encode("utf-16"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"annotations/1.xml": xml("1.jpg", head='<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16-le"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        ({"annotations/1.xml": xml("1.jpg").encode("utf-8-sig"), "images/1.jpg": 0}, {"images/1.jpg": None}),
        (
            {"Annotations/1.xml": xml("1.jpg"), "JPEGImages/1.jpg": 0, "ImageSets/Main/cup_train.txt": "1  1\n", "ImageSets/Main/mug_train.txt": "1 -1\n"},
            {"JPEGImages/1.jpg": "train"},
        ),
        (
            {"Annotations/1.xml": xml("1.jpg"), "JPEGImages/1.jpg": 0, "ImageSets/Layout/TEST.txt": b"\xff\xfe" + "1.jpg\r\n".encode("utf-16-le")},
            {"JPEGImages/1.jpg": "test"},
        ),
        ({"Annotations/1.xml": xml("1.jpg"), "JPEGImages/1.jpg": 0, "valid.txt": "\ufeffJPEGImages\\1.jpg\r\n\r\n"}, {"JPEGImages/1.jpg": "val"}),
    ],
)
def test_voc_with_any_folders_lists_and_encodings(tmp_path, files, expected):
    source, found = listed(put_all(tmp_path, {name: content or None for name, content in files.items()}))
    assert source.format == "voc"
    assert found == {name: (None, split, CUP) for name, split in expected.items()}


def test_xml_that_is_not_in_its_encoding_is_one_line_with_the_file(tmp_path):
    put_all(tmp_path, {"annotations/1.xml": xml("1.jpg", label="杯").encode("gbk"), "images/1.jpg": None})
    with pytest.raises(SourceError, match=r"annotations/1.xml: the encoding of its text cannot be told .*; save it as UTF-8"):
        open_source(str(tmp_path))


def test_images_without_annotation_are_told(tmp_path):
    source, found = listed(put_all(tmp_path, {"Annotations/1.xml": xml("1.jpg"), "JPEGImages/1.jpg": None, "JPEGImages/2.jpg": None}))
    assert len(found) == 1
    assert "1 images without an XML file, such as JPEGImages/2.jpg, left out" in source.description


YOLO = "0 0.5 0.5 0.25 0.5\n"
HALF = [("cup", [0.375, 0.25, 0.625, 0.75])]
V8 = "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n  0: cup\n  1: mug\n"
V5 = "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['cup', 'mug']\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"data.yaml": V8, "images/train/1.jpg": 0, "labels/train/1.txt": YOLO, "images/val/1.jpg": 0, "labels/val/1.txt": YOLO},
            {"images/train/1.jpg": "train", "images/val/1.jpg": "val"},
        ),
        (
            {"data.yaml": V5, "train/images/1.jpg": 0, "train/labels/1.txt": YOLO, "valid/images/1.jpg": 0, "valid/labels/1.txt": YOLO},
            {"train/images/1.jpg": "train", "valid/images/1.jpg": "val"},
        ),
        ({"coco8.yaml": V8, "images/train/1.jpg": 0, "labels/train/1.txt": YOLO}, {"images/train/1.jpg": "train"}),
        (
            {
                "data.yaml": "train: /content/set/train.txt\nval: /content/set/val.txt\nnames: [cup]\n",
                "train.txt": "./images/1.jpg\n",
                "val.txt": "./images/2.jpg\n",
                "images/1.jpg": 0,
                "images/2.jpg": 0,
                "labels/1.txt": YOLO,
                "labels/2.txt": YOLO,
            },
            {"images/1.jpg": "train", "images/2.jpg": "val"},
        ),
        ({"data.yaml": "train: images\nval: images\nnames: [cup]\n", "images/1.jpg": 0, "labels/1.txt": YOLO}, {"images/1.jpg": None}),
        (
            {
                "data.yaml": "train: [a/images, b/images]\nval: c/images\nnames: [cup]\n",
                "a/images/1.jpg": 0,
                "a/labels/1.txt": YOLO,
                "b/images/1.jpg": 0,
                "b/labels/1.txt": YOLO,
                "c/images/1.jpg": 0,
                "c/labels/1.txt": YOLO,
            },
            {"a/images/1.jpg": "train", "b/images/1.jpg": "train", "c/images/1.jpg": "val"},
        ),
        ({"classes.txt": "cup\nmug\n", "images/1.jpg": 0, "labels/1.txt": YOLO}, {"images/1.jpg": None}),
        ({"images/1.jpg": 0, "labels/1.txt": YOLO, "labels/classes.txt": "cup\n"}, {"images/1.jpg": None}),
        (
            {
                "obj.names": "cup\nmug\n",
                "obj.data": "classes = 1\n",
                "obj_train_data/1.jpg": 0,
                "obj_train_data/1.txt": YOLO,
                "obj_valid_data/2.jpg": 0,
                "obj_valid_data/2.txt": YOLO,
                "train.txt": "data/obj_train_data/1.jpg\n",
                "valid.txt": "data/obj_valid_data/2.jpg\n",
            },
            {"obj_train_data/1.jpg": "train", "obj_valid_data/2.jpg": "val"},
        ),
        (
            {"classes.txt": "cup\n", "train/images/1.jpg": 0, "train/labels/1.txt": YOLO, "test/images/1.jpg": 0, "test/labels/1.txt": YOLO},
            {"train/images/1.jpg": "train", "test/images/1.jpg": "test"},
        ),
        ({"classes.txt": "cup\n", "1.jpg": 0, "1.txt": "0 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75\r\n"}, {"1.jpg": None}),
        (
            {"data.yaml": "train: images\nnames: [cup]\nkpt_shape: [2, 2]\n", "images/1.jpg": 0, "labels/1.txt": "0 0.5 0.5 0.25 0.5 0.1 0.1 0.2 0.2\n"},
            {"images/1.jpg": "train"},
        ),
    ],
)
def test_yolo_with_every_usual_layout(tmp_path, files, expected):
    source, found = listed(put_all(tmp_path, {name: content or None for name, content in files.items()}))
    assert source.format == "yolo"
    assert found == {name: (None, split, HALF) for name, split in expected.items()}
    assert source.listing["relative"].to_pylist() == [True] * len(found)


def test_yolo_images_without_label_files_show_nothing_and_are_told(tmp_path):
    source, found = listed(put_all(tmp_path, {"classes.txt": "cup\n", "images/1.jpg": None, "images/2.jpg": None, "labels/1.txt": YOLO}))
    assert found["images/2.jpg"][2] == []
    assert "1 images without a label file, such as images/2.jpg, are taken to show nothing" in source.description


def test_yolo_without_names_keeps_the_numbers_and_says_so(tmp_path):
    source, found = listed(put_all(tmp_path, {"images/1.jpg": None, "labels/1.txt": YOLO}))
    assert found["images/1.jpg"][2][0][0] == "0"
    assert "no names of classes" in source.description


@pytest.mark.parametrize(
    ("text", "words"), [("0 0.5 0.5 0.25\n" * 1 + YOLO * 3, "line 1 is '0 0.5"), ("7 0.5 0.5 0.2 0.2\n", "line 1 has the class 7, but only 1 are named")]
)
def test_broken_yolo_is_one_line_with_file_and_line(tmp_path, text, words):
    put_all(tmp_path, {"classes.txt": "cup\n", "images/1.jpg": None, "labels/1.txt": text, "images/2.jpg": None, "labels/2.txt": YOLO})
    with pytest.raises(SourceError, match=words):
        open_source(str(tmp_path))


CVAT = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta/>
<image id="0" name="a/1.jpg" width="64" height="48" {subset}><box label="cup" occluded="0" xtl="1.0" ytl="2.0" xbr="11.0" ybr="22.0" z_order="0"/></image>
<image id="1" name="2.jpg" width="64" height="48"><polygon label="cup" points="1,2;11,2;11,22;1,22"/></image></annotations>"""
TAGS = '<annotations><image id="0" name="1.jpg"><tag label="cup"/></image><image id="1" name="2.jpg"><tag label="cup"/><tag label="mug"/></image></annotations>'


def test_cvat(tmp_path):
    put_all(tmp_path, {"annotations.xml": CVAT.format(subset='subset="Train"'), "images/Train/a/1.jpg": None, "images/2.jpg": None})
    source, found = listed(tmp_path)
    assert source.format == "cvat"
    assert found == {"images/Train/a/1.jpg": (None, "train", CUP), "images/2.jpg": (None, None, CUP)}


def test_cvat_tags_are_labels(tmp_path):
    source, found = listed(put_all(tmp_path, {"annotations.xml": TAGS, "1.jpg": None, "2.jpg": None}))
    assert found == {"1.jpg": ("cup", None, None), "2.jpg": (None, None, None)}
    assert "1 images with several tags, such as 2.jpg" in source.description


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations><track id='0'/></annotations>", "tracks of a video"),
        (CVAT.format(subset='subset="Fold 3"'), "subset 'Fold 3' is no known name of a split"),
    ],
)
def test_what_cvat_cannot_mean_is_refused(tmp_path, text, words):
    put_all(tmp_path, {"annotations.xml": text, "images/1.jpg": None})
    with pytest.raises(SourceError, match=words):
        open_source(str(tmp_path))


def studio(image, **value):
    kind = next((key for key in value if key.endswith("labels") or key == "choices"), "")
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": [{"type": kind, "original_width": 200, "original_height": 100, "value": value}]}]}


RECTANGLE = {"x": 37.5, "y": 25, "width": 25, "height": 50, "rotation": 0, "rectanglelabels": ["cup"]}


@pytest.mark.parametrize("image", ["/data/upload/3/0a1b2c3d-1.jpg", "/data/local-files/?d=images/1.jpg", "images\\1.jpg", "/data/upload/1.jpg"])
def test_label_studio_rectangles_in_percent(tmp_path, image):
    source, found = listed(put_all(tmp_path, {"project-1-at-2026.json": [studio(image, **RECTANGLE)], "images/1.jpg": None}))
    assert source.format == "labelstudio"
    assert found == {"images/1.jpg": (None, None, HALF)}
    assert source.listing["width"].to_pylist() == [200]


def test_label_studio_choices_and_tasks_without_annotation(tmp_path):
    tasks = [studio("1.jpg", choices=["cup"]), studio("2.jpg", choices=["mug"]), {"data": {"image": "3.jpg"}, "annotations": []}]
    source, found = listed(put_all(tmp_path, {"export.json": tasks, "1.jpg": None, "2.jpg": None, "3.jpg": None}))
    assert found == {"1.jpg": ("cup", None, None), "2.jpg": ("mug", None, None)}
    assert "1 of 3 tasks without an annotation left out" in source.description


def test_label_studio_minimal_and_turned(tmp_path):
    turned = {"x": 50, "y": 0, "width": 25, "height": 50, "rotation": 90, "rectanglelabels": ["cup"], "original_width": 100, "original_height": 100}
    task = {"id": 1, "annotator": 1, "annotation_id": 1, "image": "/data/upload/1.jpg", "label": [turned]}
    source, found = listed(put_all(tmp_path, {"min.json": [task], "1.jpg": None}))
    assert source.format == "labelstudio"
    assert found == {"1.jpg": (None, None, [("cup", [0.0, 0.0, 0.5, 0.25])])}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"train.csv": "id,label\na1,cup\nb2,mug\n", "train/a1.jpg": 0, "train/b2.jpg": 0, "test/c3.jpg": 0, "sample_submission.csv": "id,label\nc3,cup\n"},
            {"train/a1.jpg": ("cup", None), "train/b2.jpg": ("mug", None)},
        ),
        (
            {"train.csv": "image_id,class\n1.jpg,cup\n2.jpg,mug\n", "train_images/1.jpg": 0, "train_images/2.jpg": 0},
            {"train_images/1.jpg": ("cup", None), "train_images/2.jpg": ("mug", None)},
        ),
        ({"labels.csv": "id,breed\n1,cup\n2,mug\n", "train/1.jpg": 0, "train/2.jpg": 0}, {"train/1.jpg": ("cup", None), "train/2.jpg": ("mug", None)}),
        (
            {"train.csv": "filename,label\n1.jpg,cup\n", "val.csv": "filename,label\n1.jpg,mug\n", "train/1.jpg": 0, "val/1.jpg": 0},
            {"train/1.jpg": ("cup", "train"), "val/1.jpg": ("mug", "val")},
        ),
        (
            {"all.csv": "filepaths,labels,data set\ntrain/1.jpg,cup,train\ntest/1.jpg,mug,test\n", "train/1.jpg": 0, "test/1.jpg": 0},
            {"train/1.jpg": ("cup", "train"), "test/1.jpg": ("mug", "test")},
        ),
        (
            {"data.csv": "image,label,is_valid\n1.jpg,cup,False\n2.jpg,mug,True\n", "images/1.jpg": 0, "images/2.jpg": 0},
            {"images/1.jpg": ("cup", "train"), "images/2.jpg": ("mug", "val")},
        ),
        (
            {
                "train/_classes.csv": "filename, cup, mug\n1.jpg, 1, 0\n",
                "valid/_classes.csv": "filename, cup, mug\n1.jpg, 0, 1\n",
                "train/1.jpg": 0,
                "valid/1.jpg": 0,
            },
            {"train/1.jpg": ("cup", "train"), "valid/1.jpg": ("mug", "val")},
        ),
    ],
)
def test_csv_beside_images(tmp_path, files, expected):
    source, found = listed(put_all(tmp_path, {name: content or None for name, content in files.items()}))
    assert source.format == "csv"
    assert {name: value[:2] for name, value in found.items()} == expected


def test_a_csv_whose_labels_are_not_the_folders_goes_before_them(tmp_path):
    files = {"train.csv": "id,landmark_id\na1,cup\nb2,mug\n", "train/a/1/a1.jpg": None, "train/b/2/b2.jpg": None}
    source, found = listed(put_all(tmp_path, files))
    assert source.format == "csv"
    assert {value[0] for value in found.values()} == {"cup", "mug"}


def test_a_csv_row_twice_is_one(tmp_path):
    twice = {"train.csv": "filename,label\n1.jpg,cup\n1.jpg,cup\n2.jpg,mug\n", "train/1.jpg": None, "train/2.jpg": None}
    source, found = listed(put_all(tmp_path, twice))
    assert len(found) == 2
    assert "1 rows of images that stand there before" in source.description


ROBOFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\n1.jpg,64,48,cup,1,2,11,22\n"


def test_csv_of_boxes(tmp_path):
    source, found = listed(put_all(tmp_path, {"train/_annotations.csv": ROBOFLOW, "train/1.jpg": None, "test/_annotations.csv": ROBOFLOW, "test/1.jpg": None}))
    assert source.format == "csv"
    assert found == {"train/1.jpg": (None, "train", CUP), "test/1.jpg": (None, "test", CUP)}
    assert source.listing["width"].to_pylist() == [64, 64]


def test_label_folders_go_before_a_csv_that_names_them(tmp_path):
    files = {"cup/1.jpg": None, "mug/2.jpg": None, "list.csv": "filename,label\ncup/1.jpg,cup\nmug/2.jpg,mug\n"}
    assert open_source(str(put_all(tmp_path, files))).format == "imagefolder"
    assert open_source(str(tmp_path), "csv").format == "csv"


def test_open_images(tmp_path):
    boxes = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n1,x,/m/c,1,0.375,0.625,0.25,0.75,0,0\n9,x,/m/c,1,0,1,0,1,0,1\n"
    files = {"train-annotations-bbox.csv": boxes, "class-descriptions-boxable.csv": "/m/c,cup\n/m/d,mug\n", "train/1.jpg": None}
    source, found = listed(put_all(tmp_path, files))
    assert source.format == "openimages"
    assert found == {"train/1.jpg": (None, "train", HALF)}
    assert "1 of 2 images of the CSV are not here" in source.description


def hf_table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("in_root", [True, False])
def test_hugging_face_metadata(tmp_path, kind, in_root):
    rows = {split: {"file_name": "1.jpg", "label": label} for split, label in (("train", "cup"), ("test", "mug"))}
    tables = (
        {"metadata": [row | {"file_name": f"{split}/1.jpg"} for split, row in rows.items()]}
        if in_root
        else {f"{split}/metadata": [row] for split, row in rows.items()}
    )
    for name, records in tables.items():
        text = (
            "file_name,label\n" + "".join(f"{row['file_name']},{row['label']}\n" for row in records)
            if kind == "csv"
            else "".join(json.dumps(row) + "\n" for row in records)
        )
        put_all(tmp_path, {f"{name}.{kind}": text}) if kind != "parquet" else hf_table(tmp_path / f"{name}.parquet", records)
    source, found = listed(put_all(tmp_path, {"train/1.jpg": None, "test/1.jpg": None}))
    assert source.format == "metadata"
    assert found == {"train/1.jpg": ("cup", "train", None), "test/1.jpg": ("mug", "test", None)}


def test_hugging_face_objects_and_captions(tmp_path):
    line = {"file_name": "1.jpg", "objects": {"bbox": [[1, 2, 10, 20]], "categories": ["cup"]}}
    _, found = listed(put_all(tmp_path / "a", {"metadata.jsonl": json.dumps(line), "1.jpg": None}))
    assert found == {"1.jpg": (None, None, CUP)}
    put_all(tmp_path / "b", {"metadata.jsonl": '{"file_name": "1.jpg", "text": "a cup"}', "1.jpg": None})
    with pytest.raises(SourceError, match=r"has neither label nor objects \(found: file_name, text\)"):
        open_source(str(tmp_path / "b"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"labels.json": {"classes": ["cup", "mug"], "labels": {"1": 0, "2": 1}}, "data/1.jpg": 0, "data/2.jpg": 0},
            {"data/1.jpg": ("cup", None, None), "data/2.jpg": ("mug", None, None)},
        ),
        ({"labels.json": {"classes": None, "labels": {"1": {"label": "cup"}}}, "data/1.jpg": 0}, {"data/1.jpg": ("cup", None, None)}),
        (
            {"labels.json": {"classes": ["cup"], "labels": {"1": [{"label": 0, "bounding_box": [0.375, 0.25, 0.25, 0.5]}]}}, "data/1.jpg": 0},
            {"data/1.jpg": (None, None, HALF)},
        ),
        (
            {
                "samples.json": {"samples": [{"filepath": "data/1.jpg", "tags": ["validation"], "ground_truth": {"_cls": "Classification", "label": "cup"}}]},
                "data/1.jpg": 0,
            },
            {"data/1.jpg": ("cup", "val", None)},
        ),
        (
            {
                "samples.json": {
                    "samples": [
                        {
                            "filepath": "data/1.jpg",
                            "tags": [],
                            "gt": {"_cls": "Detections", "detections": [{"label": "cup", "bounding_box": [0.375, 0.25, 0.25, 0.5]}]},
                        }
                    ]
                },
                "data/1.jpg": 0,
            },
            {"data/1.jpg": (None, None, HALF)},
        ),
    ],
)
def test_fiftyone(tmp_path, files, expected):
    source, found = listed(put_all(tmp_path, {name: content or None for name, content in files.items()}))
    assert source.format == "fiftyone"
    assert found == expected


def test_fiftyone_samples_without_a_label_stay_unlabelled(tmp_path):
    samples = [{"filepath": "data/1.jpg", "ground_truth": {"_cls": "Classification", "label": "cup"}}, {"filepath": "data/2.jpg", "ground_truth": None}]
    _, found = listed(put_all(tmp_path, {"samples.json": {"samples": samples}, "data/1.jpg": None, "data/2.jpg": None}))
    assert found == {"data/1.jpg": ("cup", None, None), "data/2.jpg": (None, None, None)}


def test_labelme_and_createml(tmp_path):
    shape = {"label": "cup", "shape_type": "rectangle", "points": [[11, 22], [1, 2]]}
    labelme = {"version": "5", "shapes": [shape], "imagePath": "..\\images\\1.jpg", "imageWidth": 64, "imageHeight": 48}
    source, found = listed(put_all(tmp_path / "a", {"labels/1.json": labelme, "images/1.jpg": None}))
    assert (source.format, found) == ("labelme", {"images/1.jpg": (None, None, CUP)})
    createml = [{"image": "1.jpg", "annotations": [{"label": "cup", "coordinates": {"x": 6, "y": 12, "width": 10, "height": 20}}]}]
    source, found = listed(put_all(tmp_path / "b", {"train/_annotations.createml.json": createml, "train/1.jpg": None}))
    assert (source.format, found) == ("createml", {"train/1.jpg": (None, "train", CUP)})


def test_images_that_show_only_what_is_not_read_are_no_empty_pictures(tmp_path):
    shapes = [{"label": "cup", "shape_type": kind, "points": [[1, 2], [11, 22]]} for kind in ("rectangle", "circle")]
    for number, shape in enumerate(shapes):
        put_all(tmp_path / "labelme", {f"{number}.json": {"shapes": [shape], "imagePath": f"{number}.jpg"}, f"{number}.jpg": None})
    source, found = listed(tmp_path / "labelme")
    assert found == {"0.jpg": (None, None, CUP)}
    assert "circle are not read, and 1 images that show nothing else left out" in source.description
    line = '<image id="2" name="3.jpg"><polyline label="cup" points="1,2;3,4"/></image></annotations>'
    text = CVAT.format(subset="").replace("</annotations>", line)
    source, found = listed(put_all(tmp_path / "cvat", {"annotations.xml": text, "a/1.jpg": None, "2.jpg": None, "3.jpg": None}))
    assert set(found) == {"a/1.jpg", "2.jpg"}
    assert "polyline are not read, and 1 images that show nothing else left out" in source.description
    tasks = [studio("1.jpg", **RECTANGLE), studio("2.jpg", rle=[1], brushlabels=["cup"])]
    assert set(listed(put_all(tmp_path / "studio", {"e.json": tasks, "1.jpg": None, "2.jpg": None}))[1]) == {"1.jpg"}


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_webdataset_is_located_and_read(tmp_path):
    archive(tmp_path / "train-0000.tar", {"a.jpg": b"one", "a.cls": b"0", "b/c#.png": b"two", "b/c#.cls": b"1\n"})
    archive(tmp_path / "test-0000.tar", {"a.jpeg": b"three", "a.json": b'{"label": "mug"}'})
    put_all(tmp_path, {"classnames.txt": "cup\nmug\n"})
    source, found = listed(tmp_path)
    assert source.format == "webdataset"
    assert found == {
        "train-0000.tar#a.jpg": ("cup", "train", None),
        "train-0000.tar#b/c%23.png": ("mug", "train", None),
        "test-0000.tar#a.jpeg": ("mug", "test", None),
    }
    by_uri = dict(zip(source.listing["uri"].to_pylist(), read_images(source.listing, 1000), strict=True))
    assert {uri.rpartition("/")[2]: data for uri, data in by_uri.items()} == {
        "train-0000.tar#a.jpg": b"one",
        "c%23.png": b"two",
        "test-0000.tar#a.jpeg": b"three",
    }


def test_webdataset_with_repeated_texts_and_with_captions(tmp_path):
    members = {f"{i}.{kind}": data for i in range(4) for kind, data in (("jpg", b"x"), ("txt", [b"cup", b"mug"][i % 2]))}
    archive(tmp_path / "a" / "0.tar", members)
    assert {value[0] for value in listed(tmp_path / "a")[1].values()} == {"cup", "mug"}
    archive(tmp_path / "b" / "0.tar", {"0.jpg": b"x", "0.txt": b"a cup on a table"})
    with pytest.raises(SourceError, match="the samples have no labels"):
        open_source(str(tmp_path / "b"))
    archive(tmp_path / "c" / "0.tar", {"0.jpg": b"x"}, "w:gz")
    with pytest.raises(SourceError, match=r"0.tar cannot be read as a tar archive: .*not compressed"):
        open_source(str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train/1.jpg": 0, "test/2.jpg": 0}, "the folders test, train are called as splits"),
        ({"images/1.jpg": 0, "masks/1.png": 0}, "masks/ is masks that"),
        ({"images/a/1.jpg": 0, "annotations/a/1.png": 0}, "annotations/ is masks"),
        ({"JPEGImages/1.jpg": 0, "SegmentationClass/1.png": 0}, "segmentationclass/ is masks"),
        ({"images/1.jpg": 0, "x.tfrecord": "x"}, "x.tfrecord is TFRecord that"),
        ({"train.tfrecord-00000-of-00002": "x"}, "is TFRecord"),
        ({"jpg/1.jpg": 0, "imagelabels.mat": "x"}, "imagelabels.mat is MATLAB"),
        ({"images/1.jpg": 0, "train.pkl": "x"}, "train.pkl is a pickle"),
        ({"annotations/captions_val.json": {"images": [], "annotations": [{"caption": "a cup"}]}, "val/1.jpg": 0}, "captions_val.json is COCO of captions"),
        (
            {"annotations/panoptic_val.json": {"images": [], "annotations": [{"segments_info": []}]}, "val/1.jpg": 0, "panoptic_val/1.png": 0},
            "is COCO of captions",
        ),
        ({"annotations/instances_val.json": "{", "val/1.jpg": 0}, "instances_val.json is not JSON"),
        (
            {"photos/photo1.jpg": 0, "extra/photo2.jpg": 0, "via.json": {"photo1.jpg": {}, "photo2.jpg": {}}},
            "via.json is annotations of a kind .* --format imagefolder takes them",
        ),
        (
            {"Annotations/1.xml": xml("1.jpg"), "JPEGImages/1.jpg": 0, "ImageSets/Main/quiz.txt": "1"},
            "quiz.txt is a list of images, but its name is that of no split",
        ),
        (
            {"train/metadata.csv": "file_name,label\n1.jpg,a\n", "train/1.jpg": 0, "quiz/metadata.csv": "file_name,label\n2.jpg,b\n", "quiz/2.jpg": 0},
            "the name of quiz/metadata.csv tells no split",
        ),
        ({"a.json": coco("1.jpg"), "x/1.jpg": 0, "y/1.jpg": 0}, r"\(a.json\): '1.jpg' may be x/1.jpg or y/1.jpg"),
        ({"train/a/1.jpg": 0, "train/b/2.jpg": 0, "val/images/3.jpg": 0}, "val/images hold images without a label, beside folders of labels"),
        ({"set.h5": "x"}, "set.h5 is HDF5"),
        ({"photos.zip": "x"}, "photos.zip is archives that prodrec does not read: unpack them"),
        ({"data_batch_1": "x", "batches.meta": "x"}, "data_batch_1 is CIFAR"),
        ({"ds/img/1.jpg": 0, "ds/ann/1.jpg.json": {"objects": []}}, "ann/1.jpg.json is Supervisely"),
        (
            {"images/photo1.jpg": 0, "images/photo2.jpg": 0, "notes.json": {"photo1.jpg": {"regions": []}, "photo2.jpg": {"regions": []}}},
            "notes.json is annotations of a kind that prodrec does not read",
        ),
        ({"images/photo1.jpg": 0, "boxes.csv": "photo1.jpg;[1, 2, 3]"}, "boxes.csv is annotations of a kind that prodrec does not read"),
        (
            {"a/1.jpg": 0, "a/1.txt": "a photo of a cup", "b/2.jpg": 0, "b/2.txt": "a photo of a mug"},
            "a/1.txt is annotations of a kind that prodrec does not read",
        ),
        (
            {"image_2/1.png": 0, "image_2/2.png": 0, "label_2/1.txt": "Car 0.00 0 1.8 587 173 614 200", "label_2/2.txt": "Car 0 0"},
            "label_2/1.txt is annotations",
        ),
    ],
)
def test_what_looks_annotated_and_is_not_read_is_refused_by_name(tmp_path, files, words):
    put_all(tmp_path, {name: content or None for name, content in files.items()})
    with pytest.raises(SourceError, match=words) as raised:
        open_source(str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "expected", "told"),
    [
        (
            {"train/cup/1.jpg": 0, "val/cup/2.jpg": 0, "test/mug/3.jpg": 0},
            {"train/cup/1.jpg": ("cup", "train"), "val/cup/2.jpg": ("cup", "val"), "test/mug/3.jpg": ("mug", "test")},
            "",
        ),
        ({"Training/cup/1.jpg": 0, "Testing/mug/3.jpg": 0}, {"Training/cup/1.jpg": ("cup", "train"), "Testing/mug/3.jpg": ("mug", "test")}, ""),
        ({"train_set/cup/1.jpg": 0, "holdout/mug/3.jpg": 0}, {"train_set/cup/1.jpg": ("cup", "train"), "holdout/mug/3.jpg": ("mug", "test")}, ""),
        (
            {"train/cup/1.jpg": 0, "test/mug/2.jpg": 0, "extra/mug/3.jpg": 0},
            {"train/cup/1.jpg": ("cup", "train"), "test/mug/2.jpg": ("mug", "test")},
            "extra: not known as names of splits",
        ),
        (
            {"cup/train/1.jpg": 0, "cup/test/2.jpg": 0, "mug/train/3.jpg": 0},
            {"cup/train/1.jpg": ("cup", "train"), "cup/test/2.jpg": ("cup", "test"), "mug/train/3.jpg": ("mug", "train")},
            "",
        ),
        (
            {"images/cup/1.jpg": 0, "images/mug/2.jpg": 0, "meta/train.txt": "cup/1\n", "meta/test.txt": "mug/2\n"},
            {"images/cup/1.jpg": ("cup", "train"), "images/mug/2.jpg": ("mug", "test")},
            "",
        ),
        (
            {"cup/1.jpg": 0, "mug/2.jpg": 0, "train.txt": "cup/1.jpg 0\n", "test.txt": "./mug/2.jpg 1\n"},
            {"cup/1.jpg": ("cup", "train"), "mug/2.jpg": ("mug", "test")},
            "",
        ),
        (
            {"set_a/cup/1.jpg": 0, "set_a/mug/2.jpg": 0, "set_b/cup/1.jpg": 0, "set_b/mug/2.jpg": 0},
            {"set_a/cup/1.jpg": ("set_a", None), "set_a/mug/2.jpg": ("set_a", None), "set_b/cup/1.jpg": ("set_b", None), "set_b/mug/2.jpg": ("set_b", None)},
            "set_a, set_b all hold cup, mug",
        ),
        (
            {"photos/cup/1.jpg": 0, "photos/mug/2.jpg": 0},
            {"photos/cup/1.jpg": ("photos", None), "photos/mug/2.jpg": ("photos", None)},
            "only one label, 'photos'.*photos/ holds cup, mug; if these are the labels, give",
        ),
        ({"train/images/cup/1.jpg": 0, "val/images/mug/2.jpg": 0}, {"train/images/cup/1.jpg": ("cup", "train"), "val/images/mug/2.jpg": ("mug", "val")}, ""),
        ({"trains/a/1.jpg": 0, "cars/b/2.jpg": 0}, {"trains/a/1.jpg": ("trains", None), "cars/b/2.jpg": ("cars", None)}, "WARNING: 'trains'"),
    ],
)
def test_image_folders_with_splits(tmp_path, files, expected, told):
    source, found = listed(put_all(tmp_path, {name: content or None for name, content in files.items()}))
    assert source.format == "imagefolder"
    assert {name: value[:2] for name, value in found.items()} == expected
    import re

    assert re.search(told, source.description)


@pytest.mark.parametrize(
    "lists",
    [
        {"train.csv": "cup/1.jpg,cup\n", "test.csv": "mug/2.jpg,mug\n"},
        {"train.csv": "filename\ncup/1.jpg\n", "test.csv": "filename\nmug/2.jpg\n"},
        {"train.csv": "filename,label\ncup/1.jpg,cup\n", "test.csv": "filename,label\nmug/2.jpg,mug\n"},
        {"all.csv": "file,label,split\ncup/1.jpg,cup,Training\nmug/2.jpg,mug,holdout\n"},
        {"split.json": {"train": ["cup/1.jpg"], "test": ["mug/2.jpg"]}},
        {"split_zhou.json": {"train": [["cup/1.jpg", 0, "cup"]], "test": [["mug/2.jpg", 1, "mug"]]}},
        {"images.txt": "1 cup/1.jpg\n2 mug/2.jpg\n", "train_test_split.txt": "1 1\n2 0\n"},
        {"eval/list_eval_partition.txt": "2\nimage_name evaluation_status\ncup/1.jpg train\nmug/2.jpg test\n"},
        {"list_eval_partition.csv": "image_id,partition\n1.jpg,0\n2.jpg,2\n"},
        {"meta/train.txt": "cup/1\n", "meta/test.txt": "mug/2\n", "meta/train.json": {"cup": ["cup/1"]}, "meta/test.json": {"mug": ["mug/2"]}},
        {"splits/train_list.txt": "1\n", "splits/test_list.txt": "2\n"},
        {"lists/TRAIN.TXT": "\ufeffCUP\\1.JPG\r\n", "lists/Test.lst": b"\xff\xfe" + "2.jpg".encode("utf-16-le")},
    ],
)
def test_lists_of_every_kind_beside_label_folders(tmp_path, lists):
    _, found = listed(put_all(tmp_path, {"cup/1.jpg": None, "mug/2.jpg": None} | lists))
    assert {name: value[:2] for name, value in found.items()} == {"cup/1.jpg": ("cup", "train"), "mug/2.jpg": ("mug", "test")}


@pytest.mark.parametrize(
    ("file", "files", "format", "expected"),
    [
        ("train.csv", {"train.csv": "id,label\n1,cup\n", "train/1.jpg": None}, "csv", {"train/1.jpg": ("cup", None)}),
        ("train/m.csv", {"train/m.csv": "uri,label\n1.jpg,cup\n", "train/1.jpg": None, "1.jpg": None}, "manifest", {"train/1.jpg": ("cup", None)}),
        (
            "annotations/val.json",
            {"annotations/val.json": coco("1.jpg"), "val/1.jpg": None, "annotations/train.json": coco("2.jpg")},
            "coco",
            {"val/1.jpg": (None, "val")},
        ),
        ("test/_annotations.coco.json", {"test/_annotations.coco.json": coco("1.jpg"), "test/1.jpg": None}, "coco", {"test/1.jpg": (None, "test")}),
        ("data.yaml", {"data.yaml": V8, "images/val/1.jpg": None, "labels/val/1.txt": YOLO}, "yolo", {"images/val/1.jpg": (None, "val")}),
        ("annotations.xml", {"annotations.xml": TAGS, "1.jpg": None, "2.jpg": None}, "cvat", {"1.jpg": ("cup", None), "2.jpg": (None, None)}),
        (
            "set/labels.json",
            {"set/labels.json": {"classes": ["cup"], "labels": {"1": 0}}, "set/data/1.jpg": None},
            "fiftyone",
            {"set/data/1.jpg": ("cup", None)},
        ),
    ],
)
def test_the_annotation_file_may_be_given_itself(tmp_path, file, files, format, expected):
    put_all(tmp_path, files)
    source = open_source(str(tmp_path / file))
    assert source.format == format
    assert {row["uri"].removeprefix(f"{tmp_path}/"): (row["label"], row["split"]) for row in source.listing.to_pylist()} == expected


def test_labels_are_cleaned_whatever_tells_them(tmp_path):
    _, found = listed(put_all(tmp_path / "a", {"annotations.xml": CVAT.format(subset="").replace("cup", " cafe\u0301 "), "a/1.jpg": None, "2.jpg": None}))
    assert {boxes[0][0] for _, _, boxes in found.values()} == {"caf\u00e9"}
    assert {value[0] for value in listed(put_all(tmp_path / "b", {"cafe\u0301/1.jpg": None, "caf\u00e9 /2.jpg": None}))[1].values()} == {"caf\u00e9"}


SYSTEM = [
    "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/2.jpg",
    "#snapshot/cup/1.jpg",
    ".AppleDouble/1.jpg",
    "__MACOSX/._1.jpg",
    "._1.jpg",
    "Thumbs.db",
    "$RECYCLE.BIN/a.jpg",
    "System Volume Information/a.jpg",
    "lost+found/a.jpg",
    ".ipynb_checkpoints/1-checkpoint.jpg",
    "desktop.ini",
    "@Recycle/1.jpg",
    "@tmp/1.jpg",
    ".git/a.jpg",
    ".@__thumb/1.jpg",
    "Network Trash Folder/1.jpg",
]


@pytest.mark.parametrize("name", SYSTEM)
def test_files_of_systems_are_left_out_and_counted(tmp_path, name):
    folder = put_all(tmp_path / "folder", {"cup/1.jpg": None, "mug/1.jpg": None, f"cup/{name}": None, name: None})
    source, found = listed(folder)
    assert set(found) == {"cup/1.jpg", "mug/1.jpg"}
    assert "2 hidden or system files left out" in source.description
    assert set(read_listings(str(folder)).table["listing_id"].to_pylist()) == {"cup/1.jpg", "mug/1.jpg"}
    annotated = put_all(tmp_path / "coco", {"annotations/train.json": coco("1.jpg"), "train/1.jpg": None, f"train/{name}": None})
    assert set(listed(annotated)[1]) == {"train/1.jpg"}


def test_a_guessed_encoding_of_a_table_is_told_by_every_layout(tmp_path):
    (tmp_path / "train").mkdir()
    for number in range(2):
        (tmp_path / "train" / f"{number}.jpg").write_bytes(b"x")
    (tmp_path / "train.csv").write_bytes("name;class;group\n0.jpg;Käse;3.0\n1.jpg;Müsli;4.0\n".encode("cp1252"))
    source = open_source(str(tmp_path))
    assert (source.format, source.listing["label"].to_pylist(), source.listing["group"].to_pylist()) == ("products10k", ["Käse", "Müsli"], ["3", "4"])
    assert source.description.count("train.csv: taken for Windows-1252 (Latin-1) text") == 1
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train" / "metadata.csv").write_bytes("file_name,label\n0.jpg,Käse\n1.jpg,Müsli\n".encode("cp1252"))
    source = open_source(str(tmp_path))
    assert source.listing["label"].to_pylist() == ["Käse", "Müsli"]
    assert "metadata.csv: taken for Windows-1252 (Latin-1) text" in source.description
