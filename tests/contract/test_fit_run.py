"""`prodrec train --recipe embed_then_fit` in one process: an ordinary run, made on features that are computed once."""

import json
import shutil

import pytest
import yaml
from made import photo, run

FAST = ["--set", "fit.heads=[cosine, linear]", "--set", "fit.weight_decays=[0.1, 1.0]", "--set", "train.epochs=20", "--set", "train.batch_size=16"]
FAST += ["--set", "data.threads=1"]


@pytest.fixture(scope="module")
def shards(small_shards, tmp_path_factory):
    """A copy, beside which features may lie."""
    return shutil.copytree(small_shards, tmp_path_factory.mktemp("copy") / "shards")


@pytest.fixture(scope="module")
def finished(shards, small_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run("train", shards, "--recipe", "embed_then_fit", "--from", small_bundle, "--out", folder, "--local", *FAST) == 0
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_every_run_leaves_and_a_line_for_each_head_tried(finished, shards):
    for name in ("config.yaml", "metrics.jsonl", "bundle/model.safetensors", "bundle/bundle.json", "bundle/README.md", "report/index.html"):
        assert (finished / name).stat().st_size > 0, name
    history = lines(finished)
    assert [(entry["head"], entry["weight_decay"]) for entry in history] == [("linear", 1.0), ("linear", 0.1), ("cosine", 1.0), ("cosine", 0.1)]
    assert all({"trial", "val_loss", "val_top1", "val_top5", "train_loss", "train_top1", "seconds"} <= entry.keys() for entry in history)
    [kept] = [entry for entry in history if entry["kept"]]
    assert kept["val_top1"] == max(entry["val_top1"] for entry in history)
    info = json.loads((finished / "bundle/bundle.json").read_text())
    assert info["model"]["head"] == kept["head"]
    assert info["metrics"]["val_top1"] == kept["val_top1"] > 0.7
    report = (finished / "report/index.html").read_text()
    assert "Heads tried" in report and "✓ kept" in report and "Loss by epoch" not in report
    [features] = (shards / "features").iterdir()
    assert {"manifest.json", "train-00000-of-00001.parquet", "val-00000-of-00001.parquet", "test-00000-of-00001.parquet"} == {
        file.name for file in features.iterdir()
    }


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluate_gives_the_figures_of_the_run_again(finished, shards, tmp_path, split):
    assert run("evaluate", finished / "bundle", shards, "--split", split, "--out", tmp_path / "e") == 0
    again = json.loads((tmp_path / "e" / "metrics.json").read_text())
    reported = json.loads((finished / "report" / f"{split}.json").read_text())
    assert {name: again[name] for name in ("n", "top1", "top5", "macro_f1", "top1_ci95")} == {
        name: reported[name] for name in ("n", "top1", "top5", "macro_f1", "top1_ci95")
    }
    # Confidences come of batches that are cut elsewhere: bf16 sums in another order for another batch.
    assert again["nll_scaled"] == pytest.approx(reported["nll_scaled"], abs=5e-3)


def test_another_search_starts_on_the_features_that_are_there(finished, shards, small_bundle, tmp_path, capsys):
    other = ["--set", "fit.heads=[linear]", "--set", "fit.weight_decays=[0.5]", "--set", "train.epochs=2"]
    command = ["train", shards, "--recipe", "embed_then_fit", "--from", small_bundle, "--out", tmp_path / "other", "--local"]
    assert run(*command, *other) == 0
    out = capsys.readouterr().out
    assert "features of 120 images found in" in out and "embedding" not in out
    assert "kept: linear head, weight decay 0.5, trial 1 of 1 (val_top1" in out
    assert run(*command, *other) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run(*command, *other, "--resume") == 0
    assert "is finished already" in capsys.readouterr().out


def test_a_discriminant_is_a_linear_head_in_its_bundle(shards, small_bundle, tmp_path, capsys):
    chosen = ["--set", "fit.heads=[lda]", "--set", "fit.shrinkages=[0.5]", "--set", "fit.powers=[0.5]"]
    assert run("train", shards, "--recipe", "embed_then_fit", "--from", small_bundle, "--out", tmp_path / "run", "--local", *chosen) == 0
    assert "kept: lda head, shrinkage 0.5, power 0.5, trial 1 of 1 (val_top1" in capsys.readouterr().out
    info = json.loads((tmp_path / "run/bundle/bundle.json").read_text())
    assert (info["model"]["head"], info["model"]["head_args"]) == ("linear", {"power": 0.5})
    assert info["metrics"]["val_top1"] > 0.7
    assert run("evaluate", tmp_path / "run/bundle", shards, "--split", "test", "--out", tmp_path / "e") == 0
    again, reported = (json.loads(path.read_text()) for path in (tmp_path / "e/metrics.json", tmp_path / "run/report/test.json"))
    assert again["top1"] == reported["top1"]
    report = (tmp_path / "run/report/index.html").read_text()
    assert "shrinkage 0.5, power 0.5" in report


def test_the_bundle_is_served_and_fitted_again_like_any_other(finished, shards, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(photo(0, 700))
    assert run("recognize", tmp_path / "a.jpg", "--classifier", finished / "bundle", "--json") == 0
    assert json.loads(capsys.readouterr().out)["products"][0]["label"] == "red"
    once_more = ["train", shards, "--from", finished / "bundle", "--out", tmp_path / "again", "--local", "--set", "fit.heads=[linear]"]
    assert run(*once_more, "--set", "fit.weight_decays=[1.0]", "--set", "train.epochs=2") == 0
    assert "nothing to embed" in capsys.readouterr().out, "its backbone is the same"
    tuned = ["train", shards, "--from", finished / "bundle", "--recipe", "custom_cnn", "--out", tmp_path / "tuned", "--local", "--set", "train.epochs=1"]
    assert run(*tuned, "--set", "train.batch_size=16", "--set", "train.ema_decay=0") == 0
    recipe = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())["recipe"]
    assert recipe["fit"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "augment.flip=0"], "augment.flip has no meaning with fit, which trains heads on features; leave it out"),
        (["--set", "model.head=mlp"], "set fit.heads instead"),
        (["--set", "optim.weight_decay=1"], "set fit.weight_decays instead"),
        (["--set", "train.ema_decay=0.9"], "train.ema_decay has no meaning"),
        (["--set", "model.arch=custom_cnn", "--set", "model.weights=none"], "would fit heads on random features"),
        (["--set", "fit.depth=2"], "unknown key 'fit.depth'; valid here: heads, weight_decays, shrinkages, powers, random_backbone"),
        (["--set", "model.arch=custom_cnn"], "no pretrained weights of custom_cnn"),
    ],
)
def test_what_has_no_meaning_is_one_clear_line(shards, tmp_path, capsys, arguments, message):
    assert run("train", shards, "--recipe", "embed_then_fit", "--out", tmp_path / "run", "--local", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
