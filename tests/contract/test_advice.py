"""`prodrec train` without a recipe: what it takes, and what it says before it starts."""

import json

from made import run

from prodrec.training import advice, probe

QUICK = ["--local", "--set", "train.epochs=1", "--set", "train.batch_size=16", "--set", "data.threads=1"]


def test_what_suits_data_and_machine_is_taken_and_told_before_it_starts(small_shards, tmp_path, capsys):
    assert run("train", small_shards, "--out", tmp_path / "run", *QUICK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no --recipe: 72 images of 4 labels to learn from (18 each), short side 48 px; ")
    assert "  not efficientnet_lite0: model.weights=hub: HF_HUB_OFFLINE is set" in lines[1]
    told = next(line for line in lines if line.startswith("  resnet10t_scratch: "))
    assert "images/s: up to 1 min, " in told and "GiB of memory" in told
    recipe = json.loads((tmp_path / "run/bundle/bundle.json").read_text())["recipe"]
    assert recipe["name"] == "resnet10t_scratch" and recipe["input"]["size"] == 32, "as many pixels as the shards have"
    assert run("train", small_shards, "--out", tmp_path / "run", "--local", "--resume") == 0


def test_a_run_that_would_take_too_long_gives_way_and_the_quickest_is_left(small_shards):
    recipe, lines = advice.advised(small_shards, ["train.batch_size=16", "data.threads=1"], most_hours=0.0)
    assert recipe.name == "custom_cnn"
    assert any(line.startswith("  not resnet10t_scratch: measured here ") and line.endswith("more than 0 h") for line in lines)


def test_shards_with_boxes_get_a_detector(box_shards):
    recipe, lines = advice.advised(box_shards, ["train.batch_size=2", "data.threads=1", "input.size=64"])
    assert recipe.kind == "tagger" and recipe.name == "fasterrcnn_tiny"
    assert any("the detector that learns from nothing" in line for line in lines)


def test_overrides_that_no_recipe_takes_are_the_users_error(small_shards, tmp_path, capsys):
    assert run("train", small_shards, "--out", tmp_path / "x", "--set", "optim.speed=3", *QUICK) == 2
    error = capsys.readouterr().err.strip()
    assert "unknown key 'optim.speed'" in error and len(error.splitlines()) == 1


def test_a_probe_measures_what_a_step_takes(small_shards):
    import torch

    from prodrec.recipes import load_recipe
    from prodrec.shards.reading import open_shards

    shards = open_shards(small_shards)
    short, long = (probe.measured(load_recipe("demo", ["input.size=32", f"train.epochs={epochs}"]), shards, torch.device("cpu"), 1) for epochs in (2, 20))
    assert 0.2 < long.hours / (10 * short.hours) < 5
    assert short.images_per_s > 1 and 0.1 < short.peak_gib < 30
