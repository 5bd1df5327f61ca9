"""A discriminant: what it computes, and that it is a head like any other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prodrec.config import FitConfig
from prodrec.errors import TrainingError
from prodrec.models.heads import create_head
from prodrec.recipes import parse_recipe
from prodrec.training import discriminant
from prodrec.training.discriminant import discriminant_head
from prodrec.training.fit import Rows, Trial, fit_head, search, trials

RECIPE = parse_recipe(
    {"name": "fit", "model": {"arch": "custom_cnn", "weights": "none"}, "fit": {"heads": ["lda"], "random_backbone": True}, "train": {"batch_size": 64}},
    "test",
)


def drawn(seed, counts=(30, 50, 20), dim=5, shift=0.0):
    """Classes with one covariance that is far from round; features float32 [N, D], labels [N]."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    mixing, means = torch.randn(dim, dim, generator=generator), torch.randn(len(counts), dim, generator=generator)
    return torch.randn(len(labels), dim, generator=generator) @ mixing + means[labels] + shift, labels


def by_the_book(features, labels, weights, shrinkage):
    """Log densities of normal distributions by numpy, without any of the algebra that makes them linear."""
    x, y = features.double().numpy(), labels.numpy()
    means = np.stack([x[y == k].mean(0) for k in range(len(weights))])
    within = (x - means[y]).T @ (x - means[y]) / len(x)
    shared = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    away = x[:, None] - means
    shares = np.bincount(y) * weights
    return -0.5 * np.einsum("nkd,de,nke->nk", away, np.linalg.inv(shared), away) + np.log(shares / shares.sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 1.0), st.sampled_from([0.0, 100.0]))
def test_probabilities_are_those_of_normal_classes_with_one_covariance(seed, shrinkage, shift):
    features, labels = drawn(seed, shift=shift)
    weights = torch.tensor([1.0, 0.5, 3.0])
    said = discriminant_head(features, labels, weights, shrinkage, 1.0)(features).softmax(1)
    assert torch.allclose(said.double(), torch.from_numpy(by_the_book(features, labels, weights.numpy(), shrinkage)).softmax(1), atol=2e-3)


def test_rows_are_added_up_in_chunks_to_the_same_head(monkeypatch):
    features, labels = drawn(1)
    whole = discriminant_head(features, labels, torch.ones(3), 0.2, 0.5)
    monkeypatch.setattr(discriminant, "_ROWS", 7)
    assert torch.allclose(discriminant_head(features, labels, torch.ones(3), 0.2, 0.5)(features), whole(features), atol=1e-3)


def test_a_power_evens_out_features_and_keeps_their_signs():
    head = create_head("linear", 3, 2, 0.0, {"power": 0.5})
    features = torch.tensor([[4.0, -9.0, 0.0]], requires_grad=True)
    seen = head.power(features)
    assert torch.allclose(seen, torch.tensor([[2.0, -3.0, 0.0]]), atol=1e-3)
    seen.sum().backward()
    assert torch.isfinite(features.grad).all()


@given(st.integers(0, 200))
def test_a_class_without_images_is_never_the_answer(seed):
    features, labels = drawn(seed)
    labels = labels + (labels >= 1).long()  # class 1 has none
    head = discriminant_head(features, labels, torch.ones(4), 0.3, 1.0)
    anywhere = 50 * torch.randn(500, 5, generator=torch.Generator().manual_seed(seed))
    logits = head(anywhere)
    assert torch.isfinite(logits).all() and (logits.amax(1) - logits[:, 1] > 15).all()


def test_fewer_rows_than_features_and_rows_that_are_all_alike_will_do():
    features, labels = drawn(0, counts=(2, 2, 2), dim=40)
    assert (discriminant_head(features, labels, torch.ones(3), 0.5, 1.0)(features).argmax(1) == labels).all()
    alike = torch.eye(3)[[0, 0, 1, 1, 2, 2]]
    assert (discriminant_head(alike, torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(3), 0.5, 1.0)(alike).argmax(1) == torch.tensor([0, 0, 1, 1, 2, 2])).all()


def test_val_chooses_among_shrinkages_and_powers():
    fit = FitConfig(heads=("linear", "lda"), shrinkages=(0.1, 0.5), powers=(0.5, 1.0))
    tried = trials(fit, is_judged=True)
    assert [(trial.power, trial.shrinkage) for trial in tried if trial.head == "lda"] == [(1.0, 0.5), (1.0, 0.1), (0.5, 0.5), (0.5, 0.1)]
    assert trials(fit.model_copy(update={"heads": ("lda", "linear")}), is_judged=False) == [Trial("lda", shrinkage=0.1, power=0.5)]
    scores = iter([0.1, 0.2, 0.9, 0.3, 0.4])
    _, history = search(RECIPE, fit, Rows(*drawn(0)), torch.ones(3), lambda head: {"top1": next(scores)}, lambda entry: None)
    [kept] = [entry for entry in history if entry["kept"]]
    assert (kept["head"], kept["shrinkage"], kept["power"]) == ("lda", 0.5, 0.5)
    assert kept["train_top1"] > 0.5 and kept["train_loss"] > 0
    assert "weight_decay" not in kept


def test_features_that_are_not_finite_end_the_run():
    features, labels = drawn(0)
    features[3, 2] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        fit_head(Trial("lda", shrinkage=0.5), RECIPE, Rows(features, labels), torch.ones(3))
