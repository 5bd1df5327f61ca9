import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.old_new import OldNew, macro_f1, macro_f1_intervals
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.significance import mcnemar
from prodrec.labels import Label

KNOWN, MORE = 4, 2
LABELS = [Label(name=f"product {k}", group="old" if k < KNOWN else None) for k in range(KNOWN + MORE)]


def said(rows: int, known: int, skill: float, seed: int) -> Predictions:
    """A classifier of `known` labels, on rows of all labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(KNOWN + MORE, (rows,), generator=torch.Generator().manual_seed(rows))
    logits = torch.randn(rows, KNOWN + MORE, generator=generator) + skill * torch.nn.functional.one_hot(labels, KNOWN + MORE)
    return Predictions.of(logits[:, :known], labels, torch.arange(rows))


def made(rows: int = 60, old_skill: float = 2.0, new_skill: float = 2.5, seed: int = 0) -> OldNew:
    return OldNew(said(rows, KNOWN, old_skill, seed), said(rows, KNOWN + MORE, new_skill, seed + 1), LABELS, KNOWN, "runs/first/bundle", "1f", True)


ROWS, SKILL, SEED = st.integers(1, 80), st.floats(-1, 6), st.integers(0, 1000)


@given(ROWS, SKILL, SEED)
def test_macro_f1_is_that_of_the_report(rows, skill, seed):
    predictions = said(rows, KNOWN + MORE, skill, seed)
    expected = evaluate(predictions, LABELS, [1] * len(LABELS), 1.0, "test")["macro_f1"]
    assert macro_f1(predictions.labels, predictions.predicted, len(LABELS)) == pytest.approx(expected)


@settings(max_examples=10)
@given(ROWS, SKILL, SKILL, SEED)
def test_every_image_is_counted_where_it_belongs(rows, old_skill, new_skill, seed):
    compared = made(rows, old_skill, new_skill, seed)
    told = json.loads(json.dumps(compared.metrics(), allow_nan=False))
    truth, old, new = compared.new.labels.tolist(), compared.old.predicted.tolist(), compared.new.predicted.tolist()
    parts = {"all": lambda k: True, "known": lambda k: k < KNOWN, "new_labels": lambda k: k >= KNOWN}
    for name, belongs in parts.items():
        chosen = [(k, a, b) for k, a, b in zip(truth, old, new, strict=True) if belongs(k)]
        figures = told[name]
        if not chosen:
            assert figures is None
            continue
        assert figures["n"] == len(chosen)
        assert figures["gained"] == sum(a != k == b for k, a, b in chosen)
        assert figures["lost"] == sum(a == k != b for k, a, b in chosen)
        assert figures["p"] == mcnemar(figures["gained"], figures["lost"])
        assert figures["old_top1"] == pytest.approx(np.mean([a == k for k, a, _ in chosen]))
        assert figures["new_top1"] == pytest.approx(np.mean([b == k for k, _, b in chosen]))
    if told["new_labels"]:
        assert told["new_labels"]["old_top1"] == told["new_labels"]["lost"] == 0
    rows_of = {row["label"]: row for row in told["per_class"]}
    assert sorted(rows_of) == sorted({LABELS[k].name for k in truth})
    for row in told["per_class"]:
        right = [(a == k, b == k) for k, a, b in zip(truth, old, new, strict=True) if LABELS[k].name == row["label"]]
        assert (row["n"], row["old"], row["new"]) == pytest.approx((len(right), np.mean([a for a, _ in right]), np.mean([b for _, b in right])))
        assert row["difference"] == pytest.approx(row["new"] - row["old"])
        assert row["new_label"] == (row["group"] is None)
    assert [row["difference"] for row in told["per_class"]] == sorted(row["difference"] for row in told["per_class"])
    assert np.array_equal(np.flatnonzero([a == k != b for k, a, b in zip(truth, old, new, strict=True)]), compared.lost)


def test_intervals_hold_the_figures_and_narrow_with_more_images():
    widths = []
    for rows in (50, 2000):
        figures = made(rows).metrics()["all"]
        for name in ("old_top1", "new_top1", "old_macro_f1", "new_macro_f1"):
            low, high = figures[f"{name}_ci95"]
            assert low < figures[name] < high
        low, high = figures["macro_f1_difference_ci95"]
        assert low < figures["new_macro_f1"] - figures["old_macro_f1"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Of many samples of 400 images from one population of 20,000, whose macro-F1 is known."""
    draws, population = np.random.default_rng(1), said(20_000, KNOWN + MORE, 2.0, 3)
    truth = macro_f1(population.labels, population.predicted, len(LABELS))
    covered = []
    for seed in range(40):
        chosen = draws.integers(len(population), size=400)
        low, high = macro_f1_intervals(population.labels[chosen], population.predicted[chosen], population.labels[chosen], len(LABELS), seed)[0]
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.85


def test_a_bundle_against_itself_has_no_lead():
    figures = replace(made(), new=made().old).metrics()["all"]
    assert (figures["gained"], figures["lost"], figures["p"]) == (0, 0, 1.0)
    assert figures["macro_f1_difference_ci95"] == [0, 0]


def test_a_label_that_a_classifier_lacks_is_never_right():
    predictions = said(60, KNOWN, 50.0, 0)
    unknown = predictions.labels >= KNOWN
    assert unknown.any()
    assert np.array_equal(predictions.hits, ~unknown)
    assert not predictions.hits_top5[unknown].any()
    assert np.array_equal(np.isneginf(predictions.label_logits), unknown)
    assert predictions.nll(1.0) == math.inf


def test_other_rows_cannot_be_compared():
    with pytest.raises(ValueError, match="other rows"):
        replace(made(60), new=made(61).new)
