"""`prodrec inspect` on a small source with every fault in it, on shards of it, and on what is no data."""

import io
import json

import numpy as np
import pytest
from made import photo, run, write_coco
from PIL import Image

from prodrec.files import Folder


def jpeg(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A manifest of photos in which each kind of fault stands once."""
    folder = tmp_path_factory.mktemp("faulty")
    rows = []

    def add(data, label, split, name=None):
        name = name or f"{len(rows):03d}.jpg"
        if data is not None:
            (folder / name).write_bytes(data)
        rows.append(f'{name},"{label}",{split}')

    for label, split in [(0, "train")] * 8 + [(0, "test")] * 2 + [(1, "train")] * 8 + [(1, "test")] * 2:
        add(photo(label, len(rows), 240), ["cup", "blue mug"][label], split)
    add(photo(1, 900, 240), "Blue Mug", "train")
    add(photo(2, 901, 240), "only in test <b>", "test")
    twin, leak = photo(0, 902, 240), photo(0, 903, 240)
    add(twin, "cup", "train"), add(twin, "blue mug", "train", "twin.jpg")
    add(leak, "cup", "train", "leak.jpg"), add(leak, "cup", "test")
    copy = photo(1, 904, 240)
    add(copy, "blue mug", "train"), add(copy, "blue mug", "train", "copy.jpg")
    add(photo(0, 905, 240)[:2500], "cup", "train", "cut.jpg")
    add(b"<html>404</html>", "cup", "train", "page.jpg")
    add(None, "cup", "train", "gone.jpg")
    add(jpeg(np.full((240, 240, 3), 90)), "cup", "train", "blank.jpg")
    add(jpeg(np.random.default_rng(0).normal(128, 40, (240, 1200, 3)).clip(0, 255)), "cup", "train", "long.jpg")
    add(photo(0, 906, 60), "cup", "train", "small.jpg")
    (folder / "manifest.csv").write_text("\n".join(["uri,label,split", *rows]) + "\n")
    return folder


def codes(out):
    return {one["code"]: one for one in json.loads((out / "inspect.json").read_text())["findings"]}


def test_each_fault_of_a_source_is_told_with_its_images(faulty, tmp_path, capsys):
    assert run("inspect", faulty, "--out", tmp_path) == 0
    found = codes(tmp_path)
    assert found.keys() >= {
        "near_equal_labels",
        "same_picture_several_labels",
        "test_without_train",
        "copies_across_splits",
        "copies",
        "unusable_truncated",
        "unusable_not_an_image",
        "unusable_missing",
        "quality_blank",
        "long_images",
        "small_images",
        "rare_labels",
    }
    assert found["near_equal_labels"]["labels"] == [["Blue Mug", "blue mug"]]
    assert [one["uri"].rpartition("/")[2] for one in found["unusable_truncated"]["examples"][0]] == ["cut.jpg"]
    assert {one["label"] for one in found["same_picture_several_labels"]["examples"][0]} == {"cup", "blue mug"}
    assert {one["split"] for one in found["copies_across_splits"]["examples"][0]} == {"train", "test"}
    severities = [one["severity"] for one in found.values()]
    assert severities == sorted(severities, key=["serious", "warning", "note"].index)
    told = json.loads((tmp_path / "inspect.json").read_text())
    assert told["rows"] == told["usable"] + sum(told["rejects"].values())
    assert sum(row["images"] for row in told["splits"]) == told["usable"] == sum(row["total"] for row in told["labels"])
    page = (tmp_path / "index.html").read_text()
    assert "only in test &lt;b&gt;" in page
    assert "<b>" not in page.split("</style>")[-1]
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("serious: ") for line in lines)
    assert lines[-1].startswith(f"open {tmp_path / 'index.html'}")


def test_json_alone_goes_to_stdout(faulty, tmp_path, capsys):
    assert run("inspect", faulty, "--out", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "inspect.json").read_text())


def test_shards_tell_what_prepare_made_of_it(small_shards, tmp_path):
    assert run("inspect", small_shards, "--out", tmp_path, "--sample", "10") == 0
    told = json.loads((tmp_path / "inspect.json").read_text())
    manifest = json.loads(Folder(str(small_shards)).read("manifest.json"))
    assert told["rows"] == manifest["rows_in"]
    assert {row["split"]: row["images"] for row in told["splits"]} == {
        name: sum(sum(file["row_groups"]) for file in files) for name, files in manifest["splits"].items() if files
    }
    assert told["data"]["split_origin"] == manifest["split_origin"]
    assert "drawn" in (tmp_path / "index.html").read_text()
    assert 0 < told["quality"]["measured"] <= 12
    assert "small_images" in codes(tmp_path)


def test_boxes_are_counted(tmp_path):
    write_coco(tmp_path / "source", 8)
    assert run("inspect", tmp_path / "source", "--out", tmp_path / "out") == 0
    told = json.loads((tmp_path / "out" / "inspect.json").read_text())
    assert told["boxes"]["boxes"] == sum(number % 4 for number in range(8)) == sum(row["total"] for row in told["labels"])
    assert told["boxes"]["images_without"] == 2
    assert "without_boxes" in codes(tmp_path / "out")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("nonsense")])
def test_what_is_no_data_is_refused_in_one_line(make, tmp_path, capsys):
    make(tmp_path / "data")
    assert run("inspect", tmp_path / "data", "--out", tmp_path / "out") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_page_does_not_become_a_part_of_the_source(faulty, capsys):
    assert run("inspect", faulty, "--out", faulty / "inspection") == 2
    assert "--out" in capsys.readouterr().err
