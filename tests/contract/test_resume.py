"""Going on with a run that was stopped, by the same settings or others, and ending it where it stands."""

import json
import shutil

import pytest
import torch
import yaml
from made import run

from prodrec.recipes import load_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.local import train_local
from prodrec.training.records import start_run

TINY = ["train.epochs=5", "input.size=32", "train.batch_size=16", "optim.lr=0.01", "data.threads=1", "train.precision=fp32", "model.dropout=0.2"]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]
TIMES = {"images_per_s", "data_wait_s", "seconds"}


class Stop(Exception):
    pass


class StopsAt:
    def __init__(self, epoch, step):
        self.place = epoch, step

    def progress(self, progress):
        if (progress.epoch, progress.step) == self.place:
            raise Stop

    def epoch(self, metrics):
        pass

    def note(self, text):
        pass


@pytest.fixture(scope="module")
def stopped_once(small_shards, tmp_path_factory):
    """A run that was stopped in its third epoch, with a checkpoint after each step."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    chosen, shards = load_recipe("custom_cnn", [*TINY, "train.checkpoint_minutes=1e-9"]), open_shards(small_shards)
    with pytest.raises(Stop):
        train_local(chosen, shards, start_run(str(out), chosen, shards.uri, False, "local", shards.manifest_sha256), StopsAt(3, 3))
    return out


@pytest.fixture
def stopped(stopped_once, tmp_path):
    return shutil.copytree(stopped_once, tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(small_shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", out, "--local", *SETTINGS) == 0
    return history(out)


def history(out):
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in (out / "metrics.jsonl").read_text().splitlines()]


def resume(shards, out, *settings, how="--resume"):
    return run("train", shards, "--out", out, "--local", how, *(part for setting in settings for part in ("--set", setting)))


def test_what_changes_no_result_may_differ(small_shards, stopped, undisturbed):
    assert resume(small_shards, stopped, "data.threads=3", "train.keep_checkpoints=5", "train.checkpoint_minutes=30", "data.decode=stream") == 0
    assert history(stopped) == undisturbed
    assert "forks" not in yaml.safe_load((stopped / "config.yaml").read_text())


def test_other_rates_make_a_fork_that_is_recorded(small_shards, stopped, undisturbed, capsys):
    assert resume(small_shards, stopped, "optim.lr=0.002", "optim.clip_norm=0.5") == 0
    assert "from epoch 3, step 3 on: optim.lr: 0.01 -> 0.002; optim.clip_norm: 1.0 -> 0.5" in capsys.readouterr().out
    config, lines = yaml.safe_load((stopped / "config.yaml").read_text()), history(stopped)
    assert config["recipe"]["optim"]["lr"] == 0.002
    assert config["forks"] == [{"epoch": 3, "step": 2, "changed": {"optim.lr": [0.01, 0.002], "optim.clip_norm": [1.0, 0.5]}}]
    assert lines[:2] == undisturbed[:2]
    assert ["changed" in line for line in lines] == [False, False, True, False, False]
    assert lines[2]["changed"] == config["forks"][0]["changed"]
    assert lines[4]["lr"] == pytest.approx(undisturbed[4]["lr"] / 5)
    assert (stopped / "bundle" / "bundle.json").exists()


def test_more_epochs_may_be_asked_for_until_the_run_is_finished(small_shards, stopped, capsys):
    assert resume(small_shards, stopped, "train.epochs=1") == 2
    assert "2 epochs of the run" in (told := capsys.readouterr().err)
    assert "--finish ends it there" in told
    assert resume(small_shards, stopped, "train.epochs=6") == 0
    assert "train.epochs: 5 -> 6; the learning rate follows the new length" in capsys.readouterr().out
    assert [line["epoch"] for line in history(stopped)] == [1, 2, 3, 4, 5, 6]
    assert resume(small_shards, stopped, "train.epochs=9") == 2
    assert f"train.epochs: 6 -> 9); use its settings or another --out; to train on, start from its bundle: --from {stopped}/bundle" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["model.dropout=0.5", "train.batch_size=32", "optim.name=sgd", "optim.layer_decay=0.9", "train.seed=3"])
def test_what_would_make_it_another_run_is_refused(small_shards, stopped_once, capsys, setting):
    assert resume(small_shards, stopped_once, setting) == 2
    error = capsys.readouterr().err
    assert f"was started otherwise ({setting.split('=')[0]}: " in error
    assert len(error.strip().splitlines()) == 1


def test_the_advice_of_a_loss_that_is_not_finite_can_be_followed(small_shards, stopped, capsys):
    assert resume(small_shards, stopped, "optim.lr=1e35", "optim.clip_norm=null") == 1
    assert "lower optim.lr" in capsys.readouterr().err
    assert not (stopped / "bundle").exists()
    assert resume(small_shards, stopped, "optim.lr=0.005", "optim.clip_norm=1.0") == 0
    assert len(yaml.safe_load((stopped / "config.yaml").read_text())["forks"]) == 2
    assert all(abs(line["train_loss"]) < 10 for line in history(stopped))


def test_a_run_that_was_stopped_can_be_ended_where_it_stands(small_shards, stopped, undisturbed, capsys):
    assert resume(small_shards, stopped, how="--finish") == 0
    assert history(stopped) == undisturbed[:2]
    best = max(line["val_top1"] for line in undisturbed[:2])
    assert f"of 2 (val_top1 {best:.3f})" in capsys.readouterr().out
    assert json.loads((stopped / "report" / "val.json").read_text())["top1"] == pytest.approx(best)
    torch.manual_seed(0)
    assert run("evaluate", stopped / "bundle", small_shards, "--split", "val", "--out", stopped / "e") == 0
    assert json.loads((stopped / "e" / "metrics.json").read_text())["top1"] == pytest.approx(best)
    assert resume(small_shards, stopped) == 0
    assert "is finished already" in capsys.readouterr().out


def test_a_run_without_an_epoch_cannot_be_ended(small_shards, stopped, tmp_path, capsys):
    for epoch in (stopped / "checkpoints").glob("epoch-000*"):
        shutil.rmtree(epoch)
    assert resume(small_shards, stopped, how="--finish") == 2
    assert "has no epoch that was judged" in capsys.readouterr().err
    assert resume(small_shards, tmp_path / "nowhere", how="--finish") == 2
    assert "there is no run in" in capsys.readouterr().err


def test_a_run_that_has_a_checkpoint_but_no_epoch_is_not_overwritten(small_shards, stopped, capsys):
    (stopped / "metrics.jsonl").unlink()
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", stopped, "--local", *SETTINGS) == 2
    assert "already holds a run" in capsys.readouterr().err
