"""Taggers on Ray: from a COCO set to shards, and trained as by one process, whatever the number of workers."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made import coco_tree, write_coco

from prodrec.cluster.prepare import prepare
from prodrec.cluster.train import Workers, train
from prodrec.recipes import parse_recipe
from prodrec.shards.preparing import PrepareOptions
from prodrec.shards.reading import open_shards
from prodrec.sources.source import open_source
from prodrec.training.local import train_local
from prodrec.training.records import start_run


class Watcher:
    def progress(self, progress):
        pass

    def epoch(self, metrics):
        pass

    def note(self, text):
        pass


def recipe(**data):
    return parse_recipe(
        {
            "name": "tiny",
            "kind": "tagger",
            "model": {"arch": "fasterrcnn_tiny", "weights": "none", "args": {"min_anchor": 8}},
            "input": {"size": 48, "resize": "pad"},
            "optim": {"name": "sgd", "lr": 0.01, "clip_norm": 1.0, "warmup_epochs": 0.5},
            "train": {"epochs": 2, "batch_size": 8, "precision": "fp32", "early_stop": {"metric": "val_ap50"}},
            "data": {"lanes": 2, "threads": 1} | data,
        },
        "test",
    )


def trained(shards, out, workers=None, **data):
    chosen, shards = recipe(**data), open_shards(shards)
    run = start_run(str(out), chosen, shards.uri, resume=True, launcher="ray" if workers else "local")
    if workers:
        train(chosen, shards, run, Workers(workers, workers, cpus=0.5), Watcher())
    else:
        train_local(chosen, shards, run, Watcher())
    return [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]


def losses(entries):
    return [entry[name] for entry in entries for name in ("train_loss", "train_loss_box_reg", "val_loss")]


@pytest.fixture(scope="module")
def alone(box_shards, tmp_path_factory):
    return trained(box_shards, tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("decode", ["worker", "stream"])
def test_one_worker_repeats_the_run_of_one_process(box_shards, tmp_path, alone, decode):
    assert losses(trained(box_shards, tmp_path, workers=1, decode=decode)) == pytest.approx(losses(alone), rel=1e-4)
    assert (tmp_path / "bundle" / "bundle.json").exists()


def test_two_workers_see_every_row_once_and_lose_alike(box_shards, tmp_path, alone):
    entries = trained(box_shards, tmp_path, workers=2)
    assert [entry["images"] for entry in entries] == [open_shards(box_shards).split("train").rows] * 2
    # torchvision samples boxes of each rank's images: equal up to that.
    assert losses(entries) == pytest.approx(losses(alone), rel=0.35)
    judged = json.loads((tmp_path / "report" / "test.json").read_text())
    assert judged["n"] == open_shards(box_shards).split("test").rows


def test_a_coco_set_is_prepared_whole(tmp_path):
    folder = write_coco(tmp_path / "set", 12)
    tree = coco_tree(12)
    outside, thin = {"id": 900, "image_id": 1, "bbox": [500, 500, 9, 9]}, {"id": 901, "image_id": 1, "bbox": [5, 5, 0, 9]}
    over = {"id": 902, "image_id": 1, "bbox": [70, 50, 100, 100]}
    tree["annotations"] += [{"category_id": 10, "iscrowd": 0} | facts for facts in (outside, thin, over)]
    tree["images"][2]["width"] = 81
    tree["images"].append({"id": 77, "file_name": "absent.jpg", "width": 80, "height": 64})
    (folder / "annotations" / "instances.json").write_text(json.dumps(tree))
    manifest = prepare(open_source(str(folder)), str(tmp_path / "out"), PrepareOptions(short_side=32))
    assert (manifest.rows_in, manifest.rows_ok) == (13, 11)
    assert manifest.rejects == {"missing": 1, "wrong_size": 1}
    used = [a for a in coco_tree(12)["annotations"] if a["image_id"] != 2]
    assert (manifest.boxes.ok, manifest.boxes.clipped, manifest.boxes.rejected) == (len(used) + 1, 1, 2)
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    told = [row["detail"] for row in rejects if row["code"] == "bad_box"]
    assert ["annotation 900" in told[0], "annotation 901" in told[1]] == [True, True]
    assert [label.name for label in manifest.labels] == ["green", "red"]
    shards = open_shards(str(tmp_path / "out"))
    found = {}
    for split in manifest.splits:
        columns = [shards.split(split).column(name).to_pylist() for name in ("uri", "objects", "width", "label_id")]
        found |= {uri.rpartition("/")[2]: (objects, width, label) for uri, objects, width, label in zip(*columns, strict=True)}
    objects, width, label = found["003.jpg"]
    assert (width, label) == (40, None)
    said = [a for a in coco_tree(12)["annotations"] if a["image_id"] == 3]
    for item, a in zip(objects, said, strict=True):
        x, y, w, h = a["bbox"]
        assert item["box"] == pytest.approx([x / 2, y / 2, (x + w) / 2, (y + h) / 2], abs=0.51)
        assert manifest.labels[item["label_id"]].name == {10: "red", 11: "green"}[a["category_id"]]
    assert found["000.jpg"][0] == []


def test_extreme_sizes_are_prepared_with_their_boxes(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    sizes = {"dot.png": (1, 1), "wide.png": (6000, 40), "tall.png": (30, 6000)}
    images = []
    for number, (name, size) in enumerate(sizes.items()):
        Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "images" / name)
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
    annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, *list(sizes.values())[i]]} for i in range(3)]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "slab"}]}))
    manifest = prepare(open_source(str(tmp_path / "boxes.json")), str(tmp_path / "out"), PrepareOptions(short_side=32))
    assert (manifest.rows_ok, manifest.boxes.ok, manifest.boxes.clipped) == (3, 3, 0)
