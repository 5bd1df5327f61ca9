import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import drawn

from prodrec.evaluation.calibration import TEMPERATURES, ece, fit_temperature, reliability
from prodrec.evaluation.predictions import Predictions

STEP = TEMPERATURES[1] / TEMPERATURES[0]


def direct_nll(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    return float(torch.nn.functional.cross_entropy(logits.double() / temperature, labels))


def golden_section(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature with the least NLL on whole logits, searched for without a grid."""
    low, high, ratio = math.log(0.2), math.log(10), (math.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if direct_nll(logits, labels, math.exp(left)) < direct_nll(logits, labels, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def test_the_grid_is_geometric_and_holds_one():
    steps = np.diff(np.log(TEMPERATURES))
    assert steps == pytest.approx(np.full_like(steps, math.log(STEP)))
    assert STEP <= 1.03
    assert 1.0 in TEMPERATURES
    assert (TEMPERATURES[0], TEMPERATURES[-1]) == (0.25, 8.0)


@pytest.mark.parametrize("planted", [0.5, 1.0, 1.7, 4.0])
def test_a_planted_temperature_is_found(planted):
    logits, labels = drawn(4000, 12, planted, seed=1)
    fitted = fit_temperature(Predictions.of(logits, labels, torch.arange(len(labels))))
    best = golden_section(logits, labels)
    assert fitted == pytest.approx(planted, rel=0.06)
    assert 1 / STEP < fitted / best < STEP
    assert direct_nll(logits, labels, fitted) <= direct_nll(logits, labels, best) * 1.0002


def test_too_few_rows_leave_the_logits_alone():
    logits, labels = drawn(1, 3, 4.0, seed=0)
    assert fit_temperature(Predictions.of(logits, labels, torch.arange(1))) == 1.0
    assert fit_temperature(Predictions.concat([])) == 1.0


def test_few_rows_or_no_mistake_among_many_ask_for_no_certainty():
    labels = torch.zeros(200, dtype=torch.int64)
    unsure_but_right = torch.tensor([[0.5, 0.0, 0.0]]).expand(200, 3)
    assert fit_temperature(Predictions.of(unsure_but_right[:3], labels[:3], torch.arange(3))) == 1.0
    assert fit_temperature(Predictions.of(unsure_but_right, labels, torch.arange(200))) == 1.0


def test_scaling_lowers_the_error_of_an_overconfident_model():
    logits, labels = drawn(4000, 12, 3.0, seed=2)
    predictions = Predictions.of(logits, labels, torch.arange(len(labels)))
    before, after = (ece(predictions.confidence(t)[:, 0], predictions.hits) for t in (1.0, fit_temperature(predictions)))
    assert before > 0.1
    assert after < 0.03


rows = st.lists(st.tuples(st.floats(0, 1, width=32) | st.sampled_from([0, 0.25, 0.5, 0.75, 1]), st.booleans()), min_size=1, max_size=60)


@given(rows, st.integers(1, 20))
def test_ece_agrees_with_the_definition(pairs, bins):
    gap = 0.0
    for b in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[b : b + 2]
        inside = [(c, hit) for c, hit in pairs if low < c <= high or (c == 0 and b == 0)]
        gap += abs(sum(hit for _, hit in inside) - sum(c for c, _ in inside))
    confidences, hits = np.array([c for c, _ in pairs]), np.array([hit for _, hit in pairs])
    assert ece(confidences, hits, bins) == pytest.approx(gap / len(pairs), abs=1e-9)


@given(rows, st.integers(1, 20))
def test_every_row_is_in_one_bin(pairs, bins):
    confidences, hits = np.array([c for c, _ in pairs]), np.array([hit for _, hit in pairs])
    found = reliability(confidences, hits, bins)
    assert sum(bin.n for bin in found) == len(pairs)
    assert [bin.low for bin in found[1:]] == [bin.high for bin in found[:-1]]
    for bin in found:
        assert (bin.confidence is None) == (bin.accuracy is None) == (bin.n == 0)
        assert bin.n == 0 or bin.low - 1e-6 <= bin.confidence <= bin.high + 1e-6


def test_no_rows_no_error():
    assert ece(np.empty(0), np.empty(0, bool)) is None
