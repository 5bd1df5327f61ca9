"""Splits that stand beside folders of labels, however a publisher writes them: kept, or refused by name, never divided in silence."""

import io
import os
import sqlite3
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prodrec.errors import SourceError
from prodrec.sources.source import open_source
from tests.unit.sources.test_layouts import coco, listed, put_all

IMAGES = ["cup/a.jpg", "cup/b.jpg", "mug/c.jpg", "mug/d.jpg"]
TRAIN, TEST = "cup/a.jpg\nmug/c.jpg\n", "cup/b.jpg\nmug/d.jpg\n"
SPLITS = ["train", "test", "train", "test"]


def parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"path": IMAGES, "phase": SPLITS}), stream)
    return stream.getvalue()


def table(header: str, separator: str, splits=SPLITS) -> str:
    return "\n".join([header, *(f"{name}{separator}{split}" for name, split in zip(IMAGES, splits, strict=True))])


@pytest.mark.parametrize(
    "files",
    [
        *(
            {f"train{end}": TRAIN, f"test{end}": TEST}
            for end in ("list01.txt", "_files.txt", "_filenames.txt", "-index.lst", "Split.txt", "_file_names.csv", "_paths.txt", "_image_list.txt")
        ),
        {"lists/trainlist.txt": TRAIN, "lists/testlist.txt": TEST},
        {"split.tsv": table("name\tsplit", "\t")},
        {"metadata.csv": table("file;phase", ";")},
        {"index.parquet": parquet()},
        {"files.csv": table("filename,is_test", ",", [0, 1, 0, 1])},
        {"meta/images.csv": table("image path,data-split", ",", ["Train", "Holdout", "Train", "Holdout"])},
    ],
)
def test_a_split_beside_folders_of_labels_is_kept(files, tmp_path):
    source, found = listed(put_all(tmp_path, dict.fromkeys(IMAGES) | files))
    assert {path: value[:2] for path, value in found.items()} == {name: (name[:3], split) for name, split in zip(IMAGES, SPLITS, strict=True)}
    assert "publisher's split 2 train, 2 test" in source.description


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train_idx.txt": "0\n2\n", "test_idx.txt": "1\n3\n"}, "train_idx.txt name not one of the 4 images"),
        ({"my_train_pictures.txt": TRAIN, "my_test_pictures.txt": TEST}, "my_test_pictures.txt is a list of test images .* call it test.txt"),
        ({"annotations/test_split/these.txt": TEST}, "annotations/test_split/these.txt is a list of test images"),
        ({"split.yaml": "train: [cup/aaa.jpg, mug/ccc.jpg]\ntest: [cup/bbb.jpg, mug/ddd.jpg]\n"}, "split.yaml is annotations"),
    ],
)
def test_a_split_that_is_not_read_is_refused_by_name(files, words, tmp_path):
    names = ["cup/aaa.jpg", "cup/bbb.jpg", "mug/ccc.jpg", "mug/ddd.jpg"] if "split.yaml" in files else IMAGES
    with pytest.raises(SourceError, match=words):
        open_source(str(put_all(tmp_path, dict.fromkeys(names) | files)))


ANNOTATIONS = [
    {"instances.json": coco(*IMAGES)},
    {"labels.csv": "filename,label\n" + "".join(f"{name},{name[4:5]}\n" for name in IMAGES)},
    {"manifest.csv": "uri,label\n" + "".join(f"{name},{name[4:5]}\n" for name in IMAGES)},
    {"metadata.jsonl": "".join(f'{{"file_name": "{name}", "label": "x{name[4:5]}"}}\n' for name in IMAGES)},
    {"labels.json": {"classes": ["a", "b"], "labels": dict.fromkeys(IMAGES, 1)}},
]


@pytest.mark.parametrize("annotations", ANNOTATIONS)
@pytest.mark.parametrize("lists", [{"train.txt": TRAIN, "test.txt": TEST}, {"splits.csv": table("name,split", ",")}])
def test_lists_beside_annotations_are_kept(annotations, lists, tmp_path):
    source, found = listed(put_all(tmp_path, dict.fromkeys(IMAGES) | annotations | lists))
    assert source.format != "imagefolder"
    assert [found[name][1] for name in IMAGES] == SPLITS


@pytest.mark.parametrize(
    ("column", "train", "test"),
    [("is_test", "False", "True"), ("is_test", "0", "1"), ("fold", "train", "test"), ("set", "training", "holdout"), ("DataSplit", "TRAIN", "Test")],
)
def test_a_split_column_of_a_manifest_by_another_name(column, train, test, tmp_path):
    rows = [f"{name},{name[:3]},{train if split == 'train' else test}" for name, split in zip(IMAGES, SPLITS, strict=True)]
    source, found = listed(put_all(tmp_path, {"manifest.csv": "\n".join([f"uri,label,{column}", *rows])}))
    assert source.format == "manifest"
    assert [found[name][1] for name in IMAGES] == SPLITS


@pytest.mark.parametrize("column", ["usage", "fold"])
def test_a_column_of_other_things_is_no_split(column, tmp_path):
    rows = [f"{name},{name[:3]},{told}" for name, told in zip(IMAGES, ["Training", "Running", "Walking", "1"], strict=True)]
    _, found = listed(put_all(tmp_path, {"manifest.csv": "\n".join([f"uri,label,{column}", *rows])}))
    assert {split for _, split, _ in found.values()} == {None}


def test_a_split_column_with_one_unknown_name_is_refused(tmp_path):
    rows = [f"{name},{name[:3]},{told}" for name, told in zip(IMAGES, ["train", "train", "test", "extra"], strict=True)]
    with pytest.raises(SourceError, match="fold 'extra' is no known name of a split"):
        open_source(str(put_all(tmp_path, {"manifest.csv": "\n".join(["uri,label,fold", *rows])})))


def test_lists_of_yolo_that_are_not_here_are_told(tmp_path):
    files = {"1.jpg": None, "1.txt": "0 .5 .5 .2 .2", "data.yaml": "train: train.txt\nval: ../val.txt\nnames: [cup]"}
    assert "WARNING: data.yaml names the list val.txt, which is not here" in open_source(str(put_all(tmp_path, files))).description


def test_lists_beside_annotations_that_are_not_read_are_refused(tmp_path):
    files = {"instances.json": coco(*IMAGES), "my_test_pictures.txt": TEST}
    with pytest.raises(SourceError, match=r"my_test_pictures.txt is a list of test images that prodrec does not read: call it test.txt"):
        open_source(str(put_all(tmp_path, dict.fromkeys(IMAGES) | files)))


def test_test_images_without_labels_of_a_competition_are_no_list(tmp_path):
    files = {"labels.csv": "id,label\na,x\nb,y\n", "test.csv": "id\nc\nd\n"}
    _, found = listed(put_all(tmp_path, dict.fromkeys(["train/a.jpg", "train/b.jpg", "test/c.jpg", "test/d.jpg"]) | files))
    assert {path: value[:2] for path, value in found.items()} == {"train/a.jpg": ("x", None), "train/b.jpg": ("y", None)}


def test_a_name_that_is_no_utf_8_is_told(tmp_path):
    put_all(tmp_path, {"cup/1.jpg": None})
    (tmp_path / os.fsdecode(b"m\xffg")).mkdir()
    (tmp_path / os.fsdecode(b"m\xffg") / "1.jpg").write_bytes(b"image")
    with pytest.raises(SourceError, match=r"the name b'm\\xffg' of a file or folder in it is no UTF-8; rename it"):
        open_source(str(tmp_path))


def test_lists_within_the_folders_of_splits_say_nothing_new(tmp_path):
    names = [f"{split}/{name}" for split in ("train", "test") for name in IMAGES]
    files = {"train/these_train_files_here.txt": "\n".join(names[:4]), "test/these_test_files_here.txt": "\n".join(names[4:])}
    assert listed(put_all(tmp_path, dict.fromkeys(names) | files))[0].format == "imagefolder"


def workbook(texts) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", "".join(f"<si><t>{text}</t></si>" for text in texts))
    return stream.getvalue()


def database(path, texts) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE images (file TEXT, label TEXT)")
        connection.executemany("INSERT INTO images VALUES (?, 'cup')", [(text,) for text in texts])
    connection.close()


@pytest.mark.parametrize("kind", ["labels.xlsx", "shop.db"])
def test_a_workbook_or_database_that_names_the_images_is_refused(kind, tmp_path):
    names = ["2023/one.jpg", "2023/two.jpg", "2024/three.jpg", "2024/four.jpg"]
    put_all(tmp_path, dict.fromkeys(names))
    if kind.endswith("xlsx"):
        (tmp_path / kind).write_bytes(workbook(names))
    else:
        database(tmp_path / kind, names)
    with pytest.raises(SourceError, match=f"{kind} is a workbook or database that prodrec does not read: it names the images; save it as CSV"):
        open_source(str(tmp_path))
    (tmp_path / kind).write_bytes(workbook(["prices", "of 2024"]))
    assert open_source(str(tmp_path)).format == "imagefolder"  # one about other things, and a damaged one, are nothing's
    (tmp_path / kind).write_bytes(b"PK\x03\x04 no more")
    assert open_source(str(tmp_path)).format == "imagefolder"
