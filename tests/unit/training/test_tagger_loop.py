"""Taggers in the same loop as classifiers."""

import pytest
import torch

from prodrec.errors import TrainingError
from prodrec.files import Folder
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.context import LocalContext
from prodrec.training.loop import Trainer
from prodrec.training.records import RunRecords


def recipe(**sections):
    tree = {
        "name": "tiny",
        "kind": "tagger",
        "model": {"arch": "fasterrcnn_tiny", "weights": "none", "args": {"min_anchor": 8}},
        "input": {"size": 48, "resize": "squash"},
        "optim": {"lr": 0.002, "warmup_epochs": 0.5},
        "train": {"epochs": 3, "batch_size": 8, "precision": "fp32", "ema_decay": 0.8, "early_stop": {"metric": "val_ap50"}},
        "data": {"threads": 1},
    }
    return parse_recipe({key: value | sections.get(key, {}) if isinstance(value, dict) else value for key, value in tree.items()}, "test")


class Watcher:
    def __init__(self, stop=None):
        self.stop = stop

    def progress(self, progress):
        if (progress.epoch, progress.step) == self.stop:
            raise KeyboardInterrupt

    def epoch(self, metrics):
        pass


def trained(shards, run, chosen, watcher=None):
    trainer = Trainer(chosen, open_shards(shards), LocalContext(run, 2, torch.device("cpu"), watcher or Watcher()))
    return trainer, trainer.fit(RunRecords(Folder(run).make()))


def test_a_run_that_is_taken_up_again_equals_the_uninterrupted_one(box_shards, tmp_path):
    whole_trainer, whole = trained(box_shards, tmp_path / "whole", recipe())
    with pytest.raises(KeyboardInterrupt):
        trained(box_shards, tmp_path / "cut", recipe(), Watcher((3, 2)))
    torch.manual_seed(999)
    resumed_trainer, resumed = trained(box_shards, tmp_path / "cut", recipe())
    timeless = ("train_loss", "train_loss_classifier", "val_loss", "val_ap50")
    assert [[e[k] for k in timeless] for e in resumed.history] == [[e[k] for k in timeless] for e in whole.history]
    for name, tensor in whole_trainer.task.model.state_dict().items():
        assert torch.equal(tensor, resumed_trainer.task.model.state_dict()[name]), name


def test_looking_at_val_changes_nothing(box_shards, tmp_path):
    trainer, _ = trained(box_shards, tmp_path, recipe(train={"epochs": 1}))
    before = {name: value.clone() for name, value in trainer.evaluated_model().state_dict().items()}
    first, again = (trainer.kind.val_metrics(trainer.predict("val")) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in trainer.evaluated_model().state_dict().items())
    assert first["ap50"] == again["ap50"]
    assert not any(module.training for module in trainer.evaluated_model().modules())


def test_a_limit_takes_a_share_of_each_split(box_shards, tmp_path):
    trainer, state = trained(box_shards, tmp_path, recipe(train={"epochs": 1}, data={"limit": 24}))
    whole = open_shards(box_shards)
    assert state.history[0]["images"] == whole.split("train").rows * 24 // 60
    assert len(trainer.predict("val").pictures) == max(1, whole.split("val").rows * 24 // 60)


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(box_shards, tmp_path):
    with pytest.raises(TrainingError, match=r"lower.* optim\.lr"):
        trained(box_shards, tmp_path, recipe(optim={"lr": 1e25, "clip_norm": None, "name": "sgd", "warmup_epochs": 0}))
    assert not (tmp_path / "checkpoints").exists()
