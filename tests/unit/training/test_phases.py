"""The head first, then all; averages of the best epochs; and both taken up again."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from prodrec.config import ModelConfig, TrainConfig
from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.models.registry import create_classifier
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.averages import mean_weights
from prodrec.training.context import LocalContext
from prodrec.training.loop import Trainer
from prodrec.training.records import RunRecords
from prodrec.training.state import TrainState, kept_weights


class Watcher:
    def __init__(self, stop=None):
        self.stop = stop

    def progress(self, progress):
        if (progress.epoch, progress.step) == self.stop:
            raise KeyboardInterrupt

    def epoch(self, metrics):
        pass


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> str:
    torch.manual_seed(5)
    model = create_classifier(ModelConfig(arch="custom_cnn", weights="none"), 4, 32)
    model(torch.randn(8, 3, 32, 32))  # statistics of its own
    path = tmp_path_factory.mktemp("weights") / "pretrained.safetensors"
    save_file(model.state_dict(), path)
    return str(path)


def recipe(weights, **sections):
    tree = {
        "name": "tiny",
        "model": {"arch": "custom_cnn", "weights": weights},
        "input": {"size": 32},
        "optim": {"lr": 0.01, "warmup_epochs": 0.5},
        "train": {"epochs": 4, "batch_size": 16, "precision": "fp32"},
        "data": {"threads": 1},
    }
    return parse_recipe({key: value | sections.get(key, {}) if isinstance(value, dict) else value for key, value in tree.items()}, "test")


def trainer_of(shards, run, chosen, watcher=None):
    return Trainer(chosen, open_shards(shards), LocalContext(run, 2, torch.device("cpu"), watcher or Watcher()))


def backbone(trainer):
    return {name: value.clone() for name, value in trainer.task.model.backbone.state_dict().items()}


def is_same(one, other):
    return {name for name in one if torch.equal(one[name], other[name])}


def test_the_backbone_stays_to_the_last_statistic_until_its_epochs_come(small_shards, tmp_path, pretrained):
    trainer = trainer_of(small_shards, tmp_path, recipe(pretrained, train={"epochs": 3, "head_epochs": 1}))
    before, head = backbone(trainer), trainer.task.model.head.state_dict()["logits.weight"].clone()
    feed = trainer.feed(trainer._passes(1))
    trainer._epoch(1, feed, None)
    assert is_same(before, backbone(trainer)) == set(before)
    assert not torch.equal(head, trainer.task.model.head.state_dict()["logits.weight"])
    assert not any(p in trainer.learner.optimizer.state for p in trainer.task.model.backbone.parameters())
    trainer._epoch(2, feed, None)
    assert is_same(before, backbone(trainer)) == set()


def test_each_phase_has_the_whole_schedule(small_shards, tmp_path, pretrained):
    learner = trainer_of(small_shards, tmp_path, recipe(pretrained, train={"epochs": 6, "head_epochs": 2}, optim={"final_lr_fraction": 0.0})).learner
    assert [learner._lr_factor(done) for done in (0, 2)] == pytest.approx([0.01, 0.01])
    assert [learner._lr_factor(done) for done in (0.4, 2.5)] == pytest.approx([1, 1])
    assert [learner._lr_factor(done) for done in (1.999, 5.999)] == pytest.approx([0, 0], abs=1e-4)


@pytest.mark.parametrize("stop", [(2, 2), (3, 1)])  # in the head's phase, and in the first epoch of the other
def test_a_run_in_phases_that_is_taken_up_again_equals_the_uninterrupted_one(small_shards, tmp_path, pretrained, stop):
    chosen = recipe(pretrained, train={"epochs": 4, "head_epochs": 2, "average_best": 4, "ema_decay": 0.7}, optim={"layer_decay": 0.7})
    whole = trainer_of(small_shards, tmp_path / "whole", chosen)
    whole.fit(None)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(small_shards, tmp_path / "cut", chosen, Watcher(stop)).fit(None)
    torch.manual_seed(999)
    resumed = trainer_of(small_shards, tmp_path / "cut", chosen)
    resumed.fit(None)
    for trainer in (whole, resumed):
        trainer.choose(None)
    timeless = ("train_loss", "val_loss", "val_top1", "lr")
    assert [[entry[k] for k in timeless] for entry in resumed.state.history] == [[entry[k] for k in timeless] for entry in whole.state.history]
    assert whole.state.history[-1]["average_val_top1"] == resumed.state.history[-1]["average_val_top1"]
    assert whole.state.kept.keys() == resumed.state.kept.keys()
    for one, other in ((whole.task.model, resumed.task.model), (whole.evaluated_model(), resumed.evaluated_model())):
        assert is_same(one.state_dict(), other.state_dict()) == set(one.state_dict())


def test_patience_begins_when_the_backbone_is_freed():
    train = TrainConfig(epochs=9, head_epochs=4, early_stop={"metric": "val_top1", "patience": 2})
    history = [{"val_top1": 0.5 - epoch / 10} for epoch in range(6)]
    assert [TrainState(history[:n], best_epoch=1).is_stopped(train) for n in range(1, 7)] == [False] * 5 + [True]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(1, 4))
def test_the_best_epochs_are_kept_and_no_others(scores, most):
    state = TrainState()
    for epoch, score in enumerate(scores, start=1):
        state.history.append({"val_top1": score})
        state.keep(lambda epoch=epoch: {"w": torch.tensor(float(epoch))}, "val_top1", most)
    expected = sorted(range(1, len(scores) + 1), key=lambda epoch: (scores[epoch - 1], epoch))[-most:]
    assert sorted(state.kept) == sorted(expected)
    assert state.best_epoch == expected[-1]
    assert all(int(tensors["w"]) == epoch for epoch, tensors in state.kept.items())
    state.history[-1] = {}
    assert len(state.best_epochs("val_top1", most)) == 1


def test_the_mean_is_of_weights_and_the_counters_are_the_last_ones():
    parts = [{"w": torch.full((2,), float(n), dtype=torch.bfloat16), "steps": torch.tensor(n)} for n in (1, 2, 6)]
    found = mean_weights(parts)
    assert found["w"].tolist() == [3, 3]
    assert found["w"].dtype == torch.bfloat16
    assert int(found["steps"]) == 6


@pytest.mark.parametrize("is_good", [True, False])
def test_the_mean_is_kept_only_where_val_finds_it_as_good(small_shards, tmp_path, pretrained, is_good):
    chosen = recipe(pretrained, train={"average_best": 3})
    run = Folder(tmp_path / "run").make()
    records, trainer = RunRecords(run), trainer_of(small_shards, tmp_path, chosen)
    state = trainer.fit(records)
    assert len(state.kept) == 3
    best = {name: tensor.clone() for name, tensor in state.best.items()}
    if not is_good:  # as far from the best as weights can be, so that their mean is
        for epoch in set(state.kept) - {state.best_epoch}:
            state.kept[epoch] = {name: torch.randn_like(t) if t.is_floating_point() and "running" not in name else t for name, t in best.items()}
    else:
        for epoch in set(state.kept) - {state.best_epoch}:
            state.kept[epoch] = {name: tensor + 1e-5 if tensor.is_floating_point() else tensor for name, tensor in best.items()}
    trainer.choose(records)
    assert (is_same(best, trainer.evaluated_model().state_dict()) == set(best)) != is_good
    history = [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]
    assert history == state.history
    assert (history[-1]["average_val_top1"] >= state.score(state.best_epoch, "val_top1")) == is_good
    told = kept_weights(history, chosen)
    epochs = ", ".join(map(str, sorted(state.kept)))
    assert told.startswith(f"the mean of epochs {epochs} (val_top1 " if is_good else f"epoch {state.best_epoch} of 4 (val_top1 ")
    assert f"epoch {state.best_epoch} of 4" in told
    assert f"the mean of epochs {epochs}" in told


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"train": {"head_epochs": 1}, "model": {"weights": "none"}}, "train.head_epochs with model.weights=none"),
        ({"train": {"head_epochs": 4}}, "train.head_epochs 4 leaves none of 4 epochs to the backbone"),
        ({"train": {"head_epochs": 1}, "model": {"freeze_backbone": True}}, "model.freeze_backbone never does"),
    ],
)
def test_phases_that_make_no_sense_are_one_clear_line(sections, words):
    with pytest.raises(ConfigError) as caught:
        recipe("weights.safetensors", **sections)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
