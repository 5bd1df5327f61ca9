"""A tagger from boxes to tags on a picture, by the command line, without Ray."""

import json

import pytest
import torch
from made import build_box_shards, run, scene
from PIL import Image
from torchvision.ops import box_iou

from prodrec.models.bundle import load_bundle


@pytest.fixture(scope="module")
def finished(tagger_run):
    return tagger_run


def test_it_learns_and_leaves_losses_part_by_part(finished):
    history = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert len(history) == 30
    parts = {"loss", "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert {f"{split}_{part}" for split in ("train", "val") for part in parts} <= history[0].keys()
    assert max(entry["val_ap50"] for entry in history) > 0.5
    assert history[-1]["train_loss_objectness"] < 0.5 * history[0]["train_loss_objectness"]
    for name in ("bundle/model.safetensors", "bundle/bundle.json", "bundle/README.md", "report/index.html", "report/test.json"):
        assert (finished / name).stat().st_size > 0, name


def test_evaluate_agrees_with_the_run(finished, box_shards, tmp_path, capsys):
    assert run("evaluate", finished / "bundle", box_shards, "--out", tmp_path / "e") == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert {"split", "n", "map", "ap50", "per_class", "precision", "recall", "loss"} <= metrics.keys()
    at_the_end = json.loads((finished / "report" / "test.json").read_text())
    assert metrics["ap50"] == pytest.approx(at_the_end["ap50"], abs=0.02)
    assert metrics["boxes"] == at_the_end["boxes"] > 0
    assert "test: AP50" in capsys.readouterr().out
    assert "Pictures, the worst first" in (tmp_path / "e" / "index.html").read_text()


def test_recognize_prints_tags_and_draws_them(finished, tmp_path, capsys):
    scenes = {tmp_path / f"{number}.jpg": scene(number) for number in range(200, 216)}
    for path, (data, _) in scenes.items():
        path.write_bytes(data)
    (tmp_path / "text.jpg").write_text("no image")
    assert run("recognize", *scenes, tmp_path / "text.jpg", "--tagger", finished / "bundle", "--json", "--draw", tmp_path / "drawn") == 0
    *good, bad = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert bad["code"] == "not_an_image"
    right = []
    for answer, (_, objects) in zip(good, scenes.values(), strict=True):
        assert (answer["width"], answer["height"]) == (80, 64)
        truth = torch.tensor([box for _, box in objects]).reshape(-1, 4)
        names = [["red", "green"][label] for label, _ in objects]
        for tag in answer["tags"]:
            overlaps = box_iou(torch.tensor([tag["box"]]), truth)[0].tolist()
            right.append(any(overlap > 0.5 and name == tag["label"] for overlap, name in zip(overlaps, names, strict=True)))
    assert len(right) >= 3
    assert sum(right) >= len(right) / 2, "by chance it would be one in fifty"
    assert len(list((tmp_path / "drawn").iterdir())) == len(scenes)
    with Image.open(tmp_path / "drawn" / "200.png") as drawn:
        assert drawn.size == (80, 64)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "200.jpg").write_bytes(b"")
    assert run("recognize", tmp_path / "200.jpg", tmp_path / "other" / "200.jpg", "--tagger", finished / "bundle", "--draw", tmp_path / "drawn") == 2
    assert "have the same name" in capsys.readouterr().err
    before = (tmp_path / "200.jpg").read_bytes()
    for target, words in {"200.jpg": "ends in .png", "drawn/200.txt": "ends in .png"}.items():
        assert run("recognize", tmp_path / "200.jpg", "--tagger", finished / "bundle", "--draw", tmp_path / target) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "own.png").write_bytes(before)
    assert run("recognize", tmp_path / "own.png", "--tagger", finished / "bundle", "--draw", tmp_path / "own.png") == 2
    assert "would overwrite" in capsys.readouterr().err
    assert (tmp_path / "own.png").read_bytes() == before
    assert run("recognize", tmp_path / "200.jpg", tmp_path / "text.jpg", "--tagger", finished / "bundle", "--draw", tmp_path / "own.png") == 2
    assert "is a file; give a folder" in capsys.readouterr().err
    assert run("recognize", tmp_path / "text.jpg", "--tagger", finished / "bundle") == 2, "not one image could be used"
    capsys.readouterr()
    few, many = ([], [])
    for found, threshold in ((few, 1.0), (many, 0.0)):
        assert run("recognize", *scenes, "--tagger", finished / "bundle", "--json", "--threshold", threshold) == 0
        found += [len(json.loads(line)["tags"]) for line in capsys.readouterr().out.splitlines()]
    assert sum(few) == 0 < sum(len(answer["tags"]) for answer in good) <= sum(many)
    assert run("recognize", next(iter(scenes)), "--tagger", finished / "bundle") == 0
    assert "200.jpg: " in capsys.readouterr().out


def test_a_run_goes_on_from_a_bundle_with_a_new_label(finished, tmp_path, capsys):
    more = build_box_shards(tmp_path / "more", 60, labels=("red", "blue"))
    options = ["--from", finished / "bundle", "--freeze", 5, "--out", tmp_path / "run", "--local"]
    assert run("train", more, *options, "--set", "train.epochs=1", "--set", "optim.lr=1e-4", "--set", "train.ema_decay=0") == 0
    before, after = (load_bundle(folder / "bundle") for folder in (finished, tmp_path / "run"))
    assert [label.name for label in after.info.labels] == ["green", "red", "blue"]
    assert (after.info.model.arch, after.info.input, after.info.model.freeze_layers) == (before.info.model.arch, before.info.input, 5)
    was, now = before.model.state_dict(), after.model.state_dict()
    changed = {name for name in was if was[name].shape == now[name].shape and not torch.equal(was[name], now[name])}
    assert changed
    assert not any(name.startswith(f"detector.backbone.body.{layer}.") for name in changed for layer in range(5))
    knows = {row["label"]: row["ap50"] for row in json.loads((tmp_path / "run" / "report" / "train.json").read_text())["per_class"]}
    assert knows["red"] > 0.3, "what it knew is known after one small step"
    assert run("evaluate", tmp_path / "run" / "bundle", more, "--out", tmp_path / "e") == 0
    at_the_end = json.loads((tmp_path / "run" / "report" / "test.json").read_text())
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["boxes"] == at_the_end["boxes"] > 0
    assert run("evaluate", finished / "bundle", more, "--out", tmp_path / "e2") == 2
    assert "(blue)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "{classes}", "--recipe", "fasterrcnn_tiny", "--out", "{tmp}/r", "--local"], ["has no boxes", "is a tagger"]),
        (["train", "{boxes}", "--recipe", "demo", "--out", "{tmp}/r", "--local"], ["has boxes", "is a classifier"]),
        (["evaluate", "{bundle}", "{classes}", "--out", "{tmp}/e"], ["no boxes", "is a tagger"]),
        (["recognize", "{tmp}/nothing.jpg", "--tagger", "{bundle}"], ["cannot read", "nothing.jpg"]),
        (["train", "{boxes}", "--recipe", "fasterrcnn_tiny", "--out", "{tmp}/r", "--local", "--set", "model.dropout=0.5"], ["model.dropout", "tagger"]),
        (["train", "{boxes}", "--recipe", "fasterrcnn_tiny", "--out", "{tmp}/r", "--local", "--set", "input.resize=crop"], ["crop would cut"]),
        (["train", "{boxes}", "--recipe", "fcos", "--out", "{tmp}/r", "--local", "--set", "model.weights=none"], ["random layers", "--freeze 0"]),
        (["train", "{boxes}", "--recipe", "fasterrcnn_tiny", "--out", "{tmp}/r", "--local", "--set", "augment.policy=heavy"], ["does not know boxes"]),
        (["train", "{boxes}", "--from", "{tmp}/nothing", "--out", "{tmp}/r", "--local"], ["no complete bundle", "nothing"]),
        (["train", "{boxes}", "--from", "{bundle}", "--recipe", "demo", "--out", "{tmp}/r", "--local"], ["is a tagger", "demo trains a classifier"]),
    ],
)
def test_what_does_not_belong_together_is_one_clear_line(finished, box_shards, small_shards, tmp_path, capsys, command, words):
    places = {"tmp": tmp_path, "boxes": box_shards, "classes": small_shards, "bundle": finished / "bundle"}
    assert run(*(part.format(**places) for part in command)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prodrec: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
