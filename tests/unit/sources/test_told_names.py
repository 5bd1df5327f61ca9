"""Labels as tables, JSON and YAML tell them, in every layout: one name for one product, nothing made up, nothing lost in silence."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prodrec.errors import SourceError
from prodrec.sources.headers import find_columns, meant
from prodrec.sources.source import open_source
from tests.unit.sources.test_layouts import coco, listed, put_all

FEATURES = {"huggingface": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cup", "mug"]}}}})}
EAN = 4006381333931


def parquet(**columns) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(FEATURES if columns.get("label") == [0, 1] else None), stream)
    return stream.getvalue()


def labels(folder) -> dict:
    return {path: label for path, (label, _, _) in listed(folder)[1].items()}


def objects(folder) -> list:
    return [boxes[0][0] for _, _, boxes in listed(folder)[1].values()]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train.csv": "filename,label\n1.jpg,3.0\n", "val.csv": "filename,label\n2.jpg,3\n"}, "3"),
        ({"train/metadata.csv": "file_name,label\n../1.jpg,3.0\n", "val/metadata.csv": "file_name,label\n../2.jpg,3\n"}, "3"),
        ({"metadata.jsonl": '{"file_name": "1.jpg", "label": 3.0}\n{"file_name": "2.jpg", "label": 3}\n'}, "3"),
        ({"metadata.parquet": parquet(file_name=["1.jpg", "2.jpg"], label=[float(EAN)] * 2)}, str(EAN)),
        ({"index.parquet": parquet(filename=["1.jpg", "2.jpg"], label=[float(EAN)] * 2)}, str(EAN)),
        ({"labels.json": {"classes": ["cup", "mug"], "labels": {"1": 1.0, "2": 1}}}, "mug"),
    ],
)
def test_a_whole_float_is_the_whole_number(files, expected, tmp_path):
    assert set(labels(put_all(tmp_path, {"1.jpg": None, "2.jpg": None} | files)).values()) == {expected}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"labels.csv": "filename,ean\n1.jpg,4.00638E+12\n2.jpg,4.00638E+12\n"}, r"labels.csv: ean '4.00638E\+12' is a long number that has lost digits"),
        ({"metadata.jsonl": '{"file_name": "1.jpg", "label": 1e22}\n'}, r"metadata.jsonl: label '1e\+22' is no text and no number that is whole"),
        ({"metadata.jsonl": '{"file_name": "1.jpg", "label": {"id": 1}}\n'}, "metadata.jsonl: label '{'id': 1}' is no text"),
        ({"metadata.parquet": b"PAR1 no more"}, "metadata.parquet.*whole Parquet file"),
        ({"a.json": coco("1.jpg", label=None)}, "category 1, of annotation id 0, has an empty name"),
        ({"a.json": coco("1.jpg", label=" ")}, "category 1, of annotation id 0, has an empty name"),
        ({"1.txt": "1 .5 .5 .2 .2", "2.txt": "0 .5 .5 .2 .2", "classes.txt": "cup\n\nmug\n"}, "1.txt, line 1 has the class 1, but only 2 are named"),
    ],
)
def test_what_is_no_name_is_refused(files, words, tmp_path):
    with pytest.raises(SourceError, match=words):
        open_source(str(put_all(tmp_path, {"1.jpg": None, "2.jpg": None} | files)))


def test_hugging_face_parquet_beside_images_names_its_classes(tmp_path):
    files = {"1.jpg": None, "2.jpg": None, "metadata.parquet": parquet(file_name=["1.jpg", "2.jpg"], label=[0, 1])}
    assert labels(put_all(tmp_path, files)) == {"1.jpg": "cup", "2.jpg": "mug"}


def test_hugging_face_parquet_with_boxes(tmp_path):
    boxes = [{"bbox": [[1.0, 2.0, 10.0, 20.0]], "categories": ["cup"]}]
    assert objects(put_all(tmp_path, {"1.jpg": None, "metadata.parquet": parquet(file_name=["1.jpg"], objects=boxes)})) == ["cup"]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [({"classes.txt": "cup\n\nmug\n\n"}, "mug"), ({"data.yaml": "names: [yes, no, 007]"}, "007"), ({"data.yaml": "names: {0: on, 2: no}"}, "no")],
)
def test_classes_of_yolo_are_named_as_they_are_written(classes, expected, tmp_path):
    assert objects(put_all(tmp_path, {"1.jpg": None, "1.txt": "2 .5 .5 .2 .2"} | classes)) == [expected]


def test_class_names_of_archives_count_blank_lines(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in (("1.jpg", b"image"), ("1.cls", b"2"), ("2.jpg", b"image"), ("2.json", b'{"label": 2.0}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    put_all(tmp_path, {"classnames.txt": "cup\n\nmug\n"})
    assert set(labels(tmp_path).values()) == {"mug"}


def test_a_table_of_any_kind_beside_folders_of_other_names_tells_the_labels(tmp_path):
    names = ["2023/a.jpg", "2023/b.jpg", "2024/c.jpg", "2024/d.jpg"]
    put_all(tmp_path, dict.fromkeys(names) | {"index.parquet": parquet(filename=names, label=["cup", "mug"] * 2)})
    assert set(labels(tmp_path).values()) == {"cup", "mug"}


def test_an_image_with_two_labels_costs_itself_only(tmp_path):
    rows = "1.jpg,cup\n2.jpg,cup\n1.jpg,mug\n3.jpg,mug\n3.jpg,mug\n"
    source, found = listed(put_all(tmp_path, dict.fromkeys(["1.jpg", "2.jpg", "3.jpg"]) | {"train.csv": f"filename,label\n{rows}"}))
    assert {path: label for path, (label, _, _) in found.items()} == {"1.jpg": None, "2.jpg": "cup", "3.jpg": "mug"}
    assert "1 images with several labels, such as 1.jpg ('cup' and 'mug'), have no one label and are rejected" in source.description


def test_a_number_after_a_point_is_no_ending(tmp_path):
    """`item.2`, which is not there, is not `item.jpg`."""
    names = dict.fromkeys(["images/item.jpg", "images/item.1.jpg", "images/other.jpg"])
    found = labels(put_all(tmp_path, names | {"a.csv": "filename,label\nitem.1,cup\nitem.2,mug\nother,jar\n"}))
    assert found["images/item.1.jpg"] == "cup"
    assert "images/item.jpg" not in found


def test_names_of_columns_are_one_list():
    assert find_columns(["imagePath", "Product ID"], ["uri", "label"], "m.csv") == {"uri": "imagePath", "label": "Product ID"}
    assert find_columns(["id", "species", "type"], ["uri", "label"], "m.csv") == {}  # what these are, only the images tell
    assert [meant(["id", "url"], "uri"), meant(["class_id", "species"], "label")] == ["id", "species"]
    assert meant(["画像id", "label"], "uri") is None


@pytest.mark.parametrize("told", ['="0012"', '"=""0012"""', "'0012", "0012"])
def test_text_that_was_kept_from_excel_is_itself(told, tmp_path):
    put_all(tmp_path, {"manifest.csv": f"uri,label\n1.jpg,{told}\n"})
    assert labels(tmp_path) == {"1.jpg": "0012"}
