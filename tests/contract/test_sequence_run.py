"""A classifier of listings, from a manifest with views to an answer, without Ray."""

import json

import pytest
import torch
from made import SIDES, run, sided_photo
from PIL import Image

from prodrec.evaluation.metrics import wilson_interval
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.transforms import resize
from prodrec.images.views import Views
from prodrec.models.bundle import load_bundle
from prodrec.models.scorer import Scorer
from prodrec.scoring import Recognizer

BEST_OF_ONE_VIEW = 0.5  # by construction: two products share each side


def options(*settings):
    return [part for setting in settings for part in ("--set", setting)]


def report(run_folder, split="test"):
    return json.loads((run_folder / "report" / f"{split}.json").read_text())


def test_views_seen_together_tell_what_one_alone_cannot(listing_run, listing_shards, tmp_path):
    fused = report(listing_run)
    assert fused["n"] == 32
    assert fused["top1_ci95"][0] > BEST_OF_ONE_VIEW
    same = ["train.epochs=12", "train.batch_size=16", "input.size=32", "optim.lr=0.006", "data.threads=1", "model.dropout=0.0"]
    command = ["train", listing_shards, "--recipe", "cnn_lstm", "--out", tmp_path / "alone", "--local", *options(*same, "model.fuse=null")]
    assert run(*command) == 0
    alone = report(tmp_path / "alone")
    assert alone["n"] > 2 * fused["n"]
    assert wilson_interval(round(alone["top1"] * alone["n"]), alone["n"])[0] <= BEST_OF_ONE_VIEW < alone["top5"]
    assert fused["top1_ci95"][0] > alone["top1"]


def test_evaluate_and_calibrate_count_listings(listing_run, listing_shards, small_shards, tmp_path, capsys):
    bundle = listing_run / "bundle"
    assert run("evaluate", bundle, listing_shards, "--out", tmp_path / "e") == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert (metrics["n"], metrics["top1"]) == (32, pytest.approx(report(listing_run)["top1"], abs=1.1 / 32))
    assert "test listings" in (tmp_path / "e" / "index.html").read_text()
    info = json.loads((bundle / "bundle.json").read_text())
    assert (info["model"]["fuse"], info["model"]["max_views"], sum(info["train_counts"])) == ("lstm", 8, 96)
    assert "fused by lstm" in (bundle / "README.md").read_text()
    capsys.readouterr()
    assert run("evaluate", bundle, small_shards, "--out", tmp_path / "no") == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "names no listings, and this model fuses the views" in line
    assert run("train", small_shards, "--recipe", "cnn_lstm", "--out", tmp_path / "no", "--local") == 2
    assert "names no listings" in capsys.readouterr().err


def views_of(label, tmp_path, number=900):
    paths = []
    for view, is_back in enumerate([False, True, True]):
        paths.append(tmp_path / f"{label}{view}.jpg")
        paths[-1].write_bytes(sided_photo(is_back, SIDES[label][is_back], number + view))
    return paths


def test_recognize_takes_images_as_the_views_of_one_product(listing_run, tmp_path, capsys):
    bundle = load_bundle(listing_run / "bundle")
    for label in SIDES:
        paths = views_of(label, tmp_path)
        assert run("recognize", *paths, "--classifier", listing_run / "bundle", "--json") == 0
        [line] = capsys.readouterr().out.strip().splitlines()
        answer = json.loads(line)
        pixels = torch.stack([resize(decode_rgb(prepare_image(path.read_bytes(), 48).jpeg), bundle.info.input) for path in paths])
        logits = Scorer(bundle, torch.device("cpu"))(Views(pixels, torch.tensor([3])))[0]
        probability, best = (logits / bundle.info.temperature).softmax(0).max(0)
        assert answer["products"][0]["label"] == bundle.info.labels[int(best)].name
        assert answer["products"][0]["probability"] == pytest.approx(float(probability), abs=1e-4)
        assert [image["image"] for image in answer["images"]] == list(map(str, paths))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert run("recognize", paths[0], tmp_path / "bad.jpg", paths[1], "--classifier", listing_run / "bundle") == 0
    bad, good, *_ = capsys.readouterr().out.splitlines()
    assert "bad.jpg: rejected, not_an_image" in bad
    assert good.startswith(f"{paths[0]} + {paths[1]}: ")
    assert run("recognize", tmp_path / "bad.jpg", "--classifier", listing_run / "bundle") == 2
    Image.new("RGB", (300, 300), (10, 10, 12)).save(tmp_path / "dark.png")
    capsys.readouterr()
    assert run("recognize", paths[0], tmp_path / "dark.png", "--classifier", listing_run / "bundle") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"  {tmp_path / 'dark.png'}: too_dark") for line in lines)
    assert any(line.startswith("  not_calibrated") for line in lines), "what is of the listing names no view"


def test_listings_are_answered_alike_whatever_is_asked_beside_them(listing_run, small_bundle):
    recognizer = Recognizer.load(classifier=str(listing_run / "bundle"), precision="fp32")
    listings = [[sided_photo(bool(view % 2), (listing + view) % 2, 50 * listing + view) for view in range(listing % 5 + 1)] for listing in range(12)]
    listings[4][1], listings[5] = b"no image", [b"no image"]
    together = recognizer.recognize_listings(listings)
    assert [[bool(answer.code) for answer in answers] for answers in together] == [[image == b"no image" for image in images] for images in listings]
    for images, answers in zip(listings, together, strict=True):
        [alone] = recognizer.recognize_listings([[image for image in images if image != b"no image"]])
        good = [answer for answer in answers if not answer.code]
        assert [answer.sha256 for answer in good] == [answer.sha256 for answer in alone]
        assert all(answer.products == good[0].products for answer in good)
        assert [answer.products[0].probability for answer in good] == pytest.approx([answer.products[0].probability for answer in alone], abs=1e-5)
    one_by_one = recognizer.recognize(listings[0])
    assert one_by_one[0].products[0].probability == pytest.approx(together[0][0].products[0].probability, abs=1e-5)
    plain = Recognizer.load(classifier=small_bundle)
    assert [len(answers) for answers in plain.recognize_listings([[], listings[1], listings[2]])] == [0, 2, 3]
