import json

import numpy as np
import pytest
import torch

from prodrec.errors import TrainingError
from prodrec.files import Folder
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.context import LocalContext
from prodrec.training.loop import Trainer
from prodrec.training.records import RunRecords


class Watcher:
    def __init__(self):
        self.steps, self.epochs, self.notes = [], [], []

    def progress(self, progress):
        self.steps.append(progress)

    def epoch(self, metrics):
        self.epochs.append(metrics)

    def note(self, text):
        self.notes.append(text)


def recipe(**sections):
    tree = {
        "name": "tiny",
        "model": {"arch": "custom_cnn", "weights": "none", "dropout": 0.2},
        "input": {"size": 32},
        "optim": {"lr": 0.01, "warmup_epochs": 0.5},
        "train": {"epochs": 4, "batch_size": 16, "precision": "fp32"},
        "data": {"threads": 1},
    }
    return parse_recipe({key: value | sections.pop(key, {}) if isinstance(value, dict) else value for key, value in tree.items()} | sections, "test")


def trained(shards, run, chosen, watcher=None):
    trainer = Trainer(chosen, open_shards(shards), LocalContext(run, chosen.train.keep_checkpoints, torch.device("cpu"), watcher or Watcher()))
    return trainer, trainer.fit(RunRecords(Folder(run).make()))


def test_a_small_network_learns_and_leaves_its_history(small_shards, tmp_path):
    watcher = Watcher()
    chosen = recipe(train={"epochs": 8})
    _, state = trained(small_shards, tmp_path, chosen, watcher)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == state.history
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["train_loss"] < 0.8 * lines[0]["train_loss"]
    assert max(line["val_top1"] for line in lines) > 0.7
    train_rows = open_shards(small_shards).split("train").rows
    assert all(line["images"] == train_rows for line in lines)
    assert watcher.steps[-1].step == watcher.steps[-1].steps
    assert [m["epoch"] for m in watcher.epochs] == list(range(1, 9))
    assert list((tmp_path / "tensorboard").iterdir())


class Stop(Exception):
    pass


class StopsAt(Watcher):
    def __init__(self, *places):
        super().__init__()
        self.places = places

    def progress(self, progress):
        super().progress(progress)
        if (progress.epoch, progress.step) in self.places:
            raise Stop


CRAFT = {"augment": {"policy": "trivial", "mix": 0.5}, "balance": {"sampling": "over", "threshold": 0.4, "class_weights": "effective"}}
TIMELESS = ("train_loss", "train_top1", "val_loss", "val_top1", "lr", "images")


@pytest.mark.parametrize(("ema", "checkpoint_minutes"), [(0.0, 10.0), (0.8, 1e-9)])
def test_a_run_that_is_taken_up_again_equals_the_uninterrupted_one(small_shards, tmp_path, ema, checkpoint_minutes):
    """From the last epoch's end, or from within an epoch where there is a checkpoint after each step."""
    chosen = recipe(train={"ema_decay": ema, "checkpoint_minutes": checkpoint_minutes}, **CRAFT)
    whole_trainer, whole = trained(small_shards, tmp_path / "whole", recipe(train={"ema_decay": ema}, **CRAFT))
    seen = []
    for places in ([(1, 3), (3, 2)], [(3, 2)], []):
        torch.manual_seed(999)
        watcher = StopsAt(*places)
        try:
            resumed_trainer, resumed = trained(small_shards, tmp_path / "cut", chosen, watcher)
        except Stop:
            seen.append([(p.epoch, p.step) for p in watcher.steps])
    assert len(seen) == 2
    assert seen[1][0] == ((1, 3) if checkpoint_minutes < 1 else (1, 1)), "a step whose checkpoint was written is not taken again"
    assert [[e[k] for k in TIMELESS] for e in resumed.history] == [[e[k] for k in TIMELESS] for e in whole.history]
    for name, tensor in whole_trainer.task.model.state_dict().items():
        assert torch.equal(tensor, resumed_trainer.task.model.state_dict()[name]), name
    assert all(torch.equal(whole.best[name], resumed.best[name]) for name in whole.best)


def test_a_run_whose_checkpoint_is_torn_goes_on_from_the_one_before(small_shards, tmp_path):
    chosen = recipe(train={"checkpoint_minutes": 1e-9})
    _, whole = trained(small_shards, tmp_path / "whole", recipe())
    with pytest.raises(Stop):
        trained(small_shards, tmp_path / "cut", chosen, StopsAt((2, 4)))
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    (newest / "state.safetensors").write_bytes(b"half")
    watcher = Watcher()
    _, resumed = trained(small_shards, tmp_path / "cut", chosen, watcher)
    assert len(watcher.notes) == 1
    assert newest.name in watcher.notes[0]
    assert [[e[k] for k in TIMELESS] for e in resumed.history] == [[e[k] for k in TIMELESS] for e in whole.history]


def test_an_epoch_that_another_number_of_workers_takes_up_still_shows_every_row_once(small_shards, tmp_path):
    chosen = recipe(train={"checkpoint_minutes": 1e-9, "epochs": 1})
    with pytest.raises(Stop):
        trained(small_shards, tmp_path, chosen, StopsAt((1, 3)))
    shards = open_shards(small_shards)
    rows = []
    for rank in range(3):
        context = LocalContext(tmp_path, 1, torch.device("cpu"), Watcher())
        trainer = Trainer(chosen, shards, context)
        trainer.state = trainer.saves.restored()
        context.rank, context.world_size = rank, 3
        assert trainer.state.begun.step == 2
        left = trainer.train_pass(1, trainer.state.begun.cuts)
        assert len(left.order.steps) == len(trainer.train_pass(1).order.steps) - 2
        rows += [row for batch in trainer.batches(left) for row in batch.rows.tolist()]
    context.rank, context.world_size = 0, 1
    whole = trainer.train_pass(1)
    shown = [row for batch in trainer.batches(whole) for row in batch.rows.tolist()]
    first = int(whole.order.steps[:2].sum())
    assert sorted(shown[:first] + rows) == list(range(shards.split("train").rows))


def test_a_loss_that_is_not_finite_ends_the_run_with_advice_and_no_checkpoint(small_shards, tmp_path):
    chosen = recipe(optim={"lr": 1e30, "clip_norm": None, "name": "sgd", "warmup_epochs": 0}, train={"batch_size": 4})
    with pytest.raises(TrainingError, match=r"epoch 1, step 1\d of 18, the 10th step in a row .*lower optim.lr"):
        trained(small_shards, tmp_path, chosen)
    assert not (tmp_path / "checkpoints").exists()


def test_a_bad_gradient_costs_its_step_alone_and_is_counted(small_shards, tmp_path):
    class SpoilsASecondStep(Watcher):
        def progress(self, progress):
            super().progress(progress)
            if progress.step == 2:  # told while the next step is under way
                hooks.append(trainer.task.model.head.register_full_backward_hook(lambda module, grad_in, grad_out: (grad_in[0] * float("inf"),)))
            elif hooks:
                hooks.pop().remove()

    hooks = []
    chosen = recipe(train={"epochs": 2})
    trainer = Trainer(chosen, open_shards(small_shards), LocalContext(tmp_path, 2, torch.device("cpu"), SpoilsASecondStep()))
    state = trainer.fit(RunRecords(Folder(tmp_path).make()))
    rows = open_shards(small_shards).split("train").rows
    for entry in state.history:
        assert entry["skipped_steps"] == 1
        assert rows - 16 <= entry["images"] < rows, "those that were learned from"
        assert all(np.isfinite(entry[name]) for name in ("train_loss", "train_nll", "val_loss"))
        assert entry["data_wait_s"] >= 0


def test_a_val_loss_that_is_not_finite_ends_the_run_before_its_checkpoint(small_shards, tmp_path):
    # One step an epoch: its loss is that of the first weights, and only validation meets the ones it made.
    chosen = recipe(optim={"lr": 1e38, "clip_norm": None, "name": "sgd", "warmup_epochs": 0}, train={"batch_size": 1000})
    with pytest.raises(TrainingError, match=r"not finite; train again with a lower optim\.lr"):
        trained(small_shards, tmp_path, chosen)
    assert not (tmp_path / "checkpoints").exists()


def test_early_stopping_keeps_the_best_weights(small_shards, tmp_path):
    chosen = recipe(train={"epochs": 30, "early_stop": {"metric": "val_loss", "patience": 2}}, optim={"lr": 0.05})
    _, state = trained(small_shards, tmp_path, chosen)
    assert state.epochs_done == state.best_epoch + 2 < 30
    assert state.history[state.best_epoch - 1]["val_loss"] == min(e["val_loss"] for e in state.history)


def test_the_best_checkpoints_and_the_latest_stay(small_shards, tmp_path):
    _, state = trained(small_shards, tmp_path, recipe(train={"epochs": 6, "keep_checkpoints": 2}))
    kept = sorted(int(p.name.split("-")[1]) for p in (tmp_path / "checkpoints").iterdir())
    assert state.best_epoch in kept
    assert {5, 6} <= {*kept}
    assert 2 <= len(kept) <= 4


def test_checkpoints_of_before_a_stop_are_let_go_too(small_shards, tmp_path):
    for epochs in (2, 3, 5, 7):  # taken up again each time
        trained(small_shards, tmp_path, recipe(train={"epochs": epochs, "keep_checkpoints": 2}))
        assert len(list((tmp_path / "checkpoints").iterdir())) <= 4, "the best two and the latest two"


def test_the_step_is_no_longer_than_the_clipped_gradient(small_shards, tmp_path):
    optim = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "warmup_epochs": 0, "final_lr_fraction": 1.0}
    moved = {}
    for clip_norm in (0.01, None):
        chosen = recipe(optim=optim | {"clip_norm": clip_norm})
        trainer = Trainer(chosen, open_shards(small_shards), LocalContext(tmp_path, 2, torch.device("cpu"), Watcher()))
        before = torch.cat([p.detach().clone().flatten() for p in trainer.task.parameters()])
        batch = next(trainer.batches(trainer.train_pass(1)))
        trainer.learner.step(batch, 0.0)
        moved[clip_norm] = float((torch.cat([p.detach().flatten() for p in trainer.task.parameters()]) - before).norm())
    assert moved[0.01] == pytest.approx(0.01, rel=1e-3)
    assert moved[None] > 0.1


def test_the_gradient_is_that_of_the_weighted_mean_over_the_whole_batch(small_shards, tmp_path):
    chosen = recipe(
        balance={"class_weights": "inverse"},
        model={"dropout": 0.0, "args": {"dropout": 0.0}},
        optim={"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None},
    )
    shards = open_shards(small_shards)
    trainer = Trainer(chosen, shards, LocalContext(tmp_path, 1, torch.device("cpu"), Watcher()))
    before = {name: p.detach().clone() for name, p in trainer.task.model.named_parameters()}
    one = trainer.train_pass(1)._replace(transform=lambda image, row, nth: image[:, :32, :32].contiguous())
    batch = next(trainer.batches(one))
    trainer.learner.step(batch, 0.5)
    counts = shards.class_counts("train")
    weights = torch.from_numpy(1 / counts).float()
    model = trainer.task.model
    after = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(before[name])
    logits = model(trainer.task.normalizer(batch.images).contiguous(memory_format=torch.channels_last))
    loss = torch.nn.functional.cross_entropy(logits, batch.targets, weight=weights, label_smoothing=0.0, reduction="none")
    smooth = torch.nn.functional.cross_entropy(logits, batch.targets, label_smoothing=chosen.optim.label_smoothing, reduction="none") * weights[batch.targets]
    assert loss.isfinite().all()
    model.zero_grad()
    (smooth.sum() / weights[batch.targets].sum()).backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(before[name] - chosen.optim.lr * parameter.grad, after[name], atol=1e-6)
