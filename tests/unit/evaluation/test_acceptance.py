import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import drawn

from prodrec.evaluation.acceptance import accepted_metrics, chance_of_so_few, choose_acceptance, least_rows, lowest_threshold
from prodrec.evaluation.calibrate import promise
from prodrec.evaluation.predictions import Predictions
from prodrec.labels import Label


@given(st.integers(1, 60), st.data())
def test_the_chance_of_so_few_mistakes_is_the_binomials(n, data):
    rate = data.draw(st.sampled_from([Fraction(1, 50), Fraction(1, 20), Fraction(3, 10)]))
    misses = data.draw(st.integers(0, n))
    exact = sum(math.comb(n, m) * rate**m * (1 - rate) ** (n - m) for m in range(misses + 1))
    found = chance_of_so_few(misses, n, float(rate))
    assert found == pytest.approx(float(exact), rel=1e-9)
    assert misses < n * rate or exact > 0.4, "so many are never too few"


@given(st.integers(0, 10**6), st.sampled_from([0.8, 0.9, 0.95]), st.sampled_from([0.6, 0.9]))
def test_the_threshold_is_the_lowest_that_the_rows_can_show(seed, target, confidence):
    rng = np.random.default_rng(seed)
    probability = rng.integers(1, 40, 300) / 40  # many equal ones
    hits = rng.random(300) < probability**0.2

    def shown(threshold):
        accepted = hits[probability >= threshold]
        return chance_of_so_few(int((~accepted).sum()), len(accepted), 1 - target) <= 1 - confidence

    passing = [threshold for threshold in np.unique(probability) if shown(threshold)]
    assert lowest_threshold(probability, hits, target, confidence) == (passing[0] if passing else None)


def test_the_promise_is_broken_as_seldom_as_it_says():
    broken, accepted = [], []
    for seed in range(120):
        logits, labels = drawn(2300, 8, 1.0, seed)
        probability, predicted = (values.numpy() for values in logits.softmax(1).max(1))
        hits = predicted == labels.numpy()
        threshold = lowest_threshold(probability[:300], hits[:300], 0.8, 0.9)
        live = probability[300:] >= (math.inf if threshold is None else threshold)
        accepted.append(live.mean())
        broken.append(live.any() and hits[300:][live].mean() < 0.8)
    # Binomial(120, 0.1) is above 0.18 in 1 of 300 draws; the threshold with just the target's precision breaks it in a half.
    assert np.mean(broken) <= 0.18
    assert np.mean(accepted) > 0.1


def test_rows_that_cannot_show_it_accept_nothing():
    needed = least_rows(0.95, 0.9)
    assert needed == 45
    sure = np.full(needed, 0.99)
    assert lowest_threshold(sure, np.ones(needed, bool), 0.95, 0.9) == 0.99
    assert lowest_threshold(sure[1:], np.ones(needed - 1, bool), 0.95, 0.9) is None
    assert lowest_threshold(sure[:0], np.ones(0, bool), 0.95, 0.9) is None


def accepted_by(acceptance, predictions, labels, temperature):
    least = [acceptance.threshold_of(labels[k].name) for k in predictions.predicted]
    least = np.array([math.inf if value is None else value for value in least])
    return (predictions.energy <= acceptance.energy_limit) & (predictions.confidence(temperature)[:, 0] >= least)


def test_frequent_labels_have_a_threshold_of_their_own_and_the_counts_are_those_of_the_rule():
    logits, truth = drawn(4000, 6, 1.0, seed=3)
    # Answers of the first label are worth less: a third of them is wrong, however sure they are.
    mislead = (logits.argmax(1) == 0) & (torch.rand(4000, generator=torch.Generator().manual_seed(0)) < 0.33)
    truth[mislead] = 1
    labels = [Label(name=name) for name in "abcdef"]
    predictions = Predictions.of(logits, truth, torch.arange(4000))
    acceptance = choose_acceptance(predictions, labels, 1.0, 0.9, 0.9, "val", "ab")
    assert acceptance.class_thresholds["a"] is None
    assert all(own is None or own > acceptance.threshold for own in acceptance.class_thresholds.values())
    assert acceptance.threshold_of("a") is None
    assert acceptance.threshold_of("b") is not None
    accepted = accepted_by(acceptance, predictions, labels, 1.0)
    assert (acceptance.accepted, acceptance.right) == (accepted.sum(), predictions.hits[accepted].sum())
    assert acceptance.right / acceptance.accepted >= 0.9
    assert not (accepted & (predictions.predicted == 0)).any()
    assert accepted_metrics(acceptance, predictions, labels, 1.0)["precision"] == acceptance.right / acceptance.accepted
    assert "4,000 images accepted" in promise(acceptance)


def test_rare_labels_share_one_threshold_and_too_few_rows_say_what_is_missing():
    logits, truth = drawn(200, 40, 1.0, seed=5)
    labels = [Label(name=str(k)) for k in range(40)]
    acceptance = choose_acceptance(Predictions.of(logits * 4, truth, torch.arange(200)), labels, 1.0, 0.7, 0.9, "val", "ab")
    assert not acceptance.class_thresholds
    nothing = choose_acceptance(Predictions.of(logits[:10], truth[:10], torch.arange(10)), labels, 1.0, 0.98, 0.9, "val", "ab")
    assert (nothing.threshold, nothing.accepted) == (None, 0)
    assert "nothing is accepted" in promise(nothing)
    assert str(least_rows(0.98, 0.9)) in promise(nothing)


def test_a_bundle_calibrated_without_a_doubt_is_the_one_that_it_was():
    logits, truth = torch.eye(4).repeat(50, 1) * 9, torch.arange(4).repeat(50)
    chosen = choose_acceptance(Predictions.of(logits, truth, torch.arange(200)), [Label(name=name, group=None) for name in "abcd"], 1.0, 0.7, 0.9, "val", "ab")
    assert "learned_elsewhere" not in chosen.model_dump_json(), "its bundle_id is that hash"
    doubted = chosen.model_copy(update={"learned_elsewhere": True})
    assert type(chosen).model_validate_json(doubted.model_dump_json()) == doubted
