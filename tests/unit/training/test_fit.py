"""Heads on features: what they find, what is chosen, and that the same comes out again."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prodrec.config import FitConfig, HeadKind
from prodrec.errors import TrainingError
from prodrec.recipes import parse_recipe
from prodrec.training.fit import Rows, Trial, fit_head, predict_features, search, trials

HEADS = get_args(HeadKind)


def recipe(**sections):
    tree = {
        "name": "fit",
        "model": {"arch": "custom_cnn", "weights": "none"},
        "optim": {"lr": 0.01, "label_smoothing": 0.0},
        "train": {"epochs": 15, "batch_size": 64, "precision": "fp32"},
        "fit": {"heads": ["linear", "mlp"], "weight_decays": [0.1, 0.01], "random_backbone": True},
    }
    return parse_recipe({name: value | sections.get(name, {}) if isinstance(value, dict) else value for name, value in tree.items()}, "test")


def rows(count=240, seed=0, spread=0.4, dim=6):
    """Four classes, each around an axis of its own, by a generator of the rows alone."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    return Rows(torch.nn.functional.one_hot(labels, dim).float() + spread * torch.randn(count, dim, generator=generator) / dim**0.5, labels)


def top1(head, there):
    return float(predict_features(head, there, torch.float32, torch.device("cpu"), "fp32").hits.mean())


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_finds_a_problem_that_can_be_separated_and_the_same_head_again(kind):
    chosen = recipe(train={"epochs": 3} if kind == "mlp" else {})
    head, metrics = fit_head(Trial(kind, 0.01), chosen, rows(), torch.ones(4))
    again, _ = fit_head(Trial(kind, 0.01), chosen, rows(), torch.ones(4))
    assert top1(head, rows(seed=1)) > 0.97
    assert metrics["train_top1"] > 0.9
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))
    assert not head.training


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_scale_and_the_place_of_each_feature_do_not_matter(seed):
    generator = torch.Generator().manual_seed(seed)
    scale, shift = 10 ** (4 * torch.rand(6, generator=generator) - 2), 20 * torch.randn(6, generator=generator)
    plain, moved = rows(), Rows(rows().features_ND * scale + shift * scale, rows().labels_N)
    chosen = recipe(train={"epochs": 3})
    first, second = (fit_head(Trial("linear", 0.1), chosen, there, torch.ones(4))[0](there.features_ND) for there in (plain, moved))
    assert torch.allclose(first, second, atol=2e-3)


def test_a_feature_that_never_changed_in_training_says_nothing_afterwards():
    train = rows()
    train.features_ND[:, 5] = 3.0
    head, _ = fit_head(Trial("linear", 0.01), recipe(), train, torch.ones(4))
    before = head(train.features_ND)
    train.features_ND[:, 5] = 50.0
    assert torch.equal(head(train.features_ND), before)


def test_weight_decay_and_label_smoothing_are_those_of_the_trial_and_the_recipe():
    def norm(weight_decay, smoothing=0.0):
        chosen = recipe(optim={"label_smoothing": smoothing})
        return float(fit_head(Trial("linear", weight_decay), chosen, rows(), torch.ones(4))[0].state_dict()["logits.weight"].norm())

    assert norm(3.0) < 0.7 * norm(0.0)
    assert norm(0.0, smoothing=0.3) < 0.95 * norm(0.0)


def test_a_class_weight_draws_the_undecided_to_its_class():
    same = Rows(torch.randn(200, 6, generator=torch.Generator().manual_seed(1)), torch.arange(200) % 4)
    weights = torch.tensor([20.0, 1.0, 1.0, 1.0])
    head, _ = fit_head(Trial("linear", 1.0), recipe(), same, weights)
    assert (head(torch.zeros(1, 6)).argmax(1) == 0).all()


@settings(max_examples=15)
@given(st.data())
def test_the_best_on_val_is_kept_and_of_equals_the_simplest(data):
    fit = FitConfig(heads=data.draw(st.permutations(HEADS[:3])), weight_decays=data.draw(st.permutations([0.0, 1.0])))
    metric = data.draw(st.sampled_from(["val_top1", "val_loss"]))
    chosen = recipe(train={"epochs": 1, "batch_size": 8, "early_stop": {"metric": metric}})
    tried = trials(fit, is_judged=True)
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(tried), max_size=len(tried)))
    said = iter(scores)
    told = []
    small = Rows(rows(8).features_ND[:, :4], rows(8).labels_N)
    _, history = search(chosen, fit, small, torch.ones(4), lambda head: {"top1": (value := next(said)), "loss": value}, told.append)
    best = scores.index(max(scores) if metric == "val_top1" else min(scores))
    assert [entry["kept"] for entry in history] == [number == best for number in range(len(tried))]
    assert [(entry["head"], entry["weight_decay"]) for entry in history] == [trial[:2] for trial in tried]
    assert tried == sorted(tried, key=lambda t: (HEADS.index(t.head), -t.weight_decay))
    assert [entry["trial"] for entry in told] == list(range(1, len(tried) + 1))


def test_every_head_can_be_tried():
    heads = {"lda", *get_args(HeadKind)}
    assert {trial.head for trial in trials(FitConfig(heads=tuple(heads)), is_judged=True)} == heads


def test_the_widest_head_is_the_last_to_be_tried():
    fit = FitConfig(heads=("mlp", "linear"), weight_decays=(0.1, 1.0, 0.1))
    assert [trial[:2] for trial in trials(fit, is_judged=True)] == [("linear", 1.0), ("linear", 0.1), ("mlp", 1.0), ("mlp", 0.1)]


def test_without_val_the_first_of_each_list_is_fitted():
    fit = FitConfig(heads=("cosine", "linear"), weight_decays=(0.1, 1.0))
    head, history = search(recipe(), fit, rows(), torch.ones(4), None, lambda entry: None)
    assert [(entry["head"], entry["weight_decay"], entry["kept"]) for entry in history] == [("cosine", 0.1, True)]
    assert not any(name.startswith("val_") for name in history[0])
    assert top1(head, rows(seed=1)) > 0.97


def test_a_loss_that_is_not_finite_ends_the_run():
    broken = rows()
    broken.features_ND[0, 0] = float("inf")
    with pytest.raises(TrainingError, match="linear head is not finite in epoch 1"):
        fit_head(Trial("linear", 0.1), recipe(), broken, torch.ones(4))
