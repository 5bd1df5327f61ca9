from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prodrec.errors import TrainingError
from prodrec.evaluation.calibration import TEMPERATURES
from prodrec.evaluation.predictions import Predictions, confusions


def random_logits(rows: int, classes: int, seed: int, scale: float = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=generator) * scale, torch.randint(classes, (rows,), generator=generator)


@given(
    st.integers(1, 20), st.integers(2, 9), st.sampled_from(TEMPERATURES), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.integers(0, 99)
)
def test_confidence_and_loss_are_those_of_the_whole_softmax(rows, classes, temperature, dtype, seed):
    logits, labels = random_logits(rows, classes, seed)
    logits = logits.to(dtype)
    predictions = Predictions.of(logits, labels, torch.arange(rows))
    scaled = logits.double() / temperature
    expected = scaled.softmax(1).topk(min(5, classes)).values
    assert predictions.confidence(temperature) == pytest.approx(expected.numpy(), abs=1e-5)
    assert predictions.nll(temperature) == pytest.approx(float(torch.nn.functional.cross_entropy(scaled, labels)), rel=1e-4, abs=1e-5)


def test_confidence_never_passes_one():
    sure = Predictions.of(torch.tensor([[900.0, 0, 0]]), torch.tensor([0]), torch.tensor([0]))
    rounded_down = replace(sure, logsumexp=np.nextafter(sure.logsumexp, np.float32(0)))
    assert all(rounded_down.confidence(temperature)[0, 0] == 1 for temperature in TEMPERATURES)


@given(st.integers(1, 30), st.lists(st.integers(0, 30), max_size=3), st.integers(0, 99))
def test_parts_in_any_order_make_the_whole(rows, cuts, seed):
    logits, labels = random_logits(rows, 7, seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    parts = [Predictions.of(logits[part], labels[part], part) for part in order.tensor_split(sorted(cuts))]
    whole = Predictions.concat(parts)
    assert whole.rows.tolist() == list(range(rows))
    assert whole.labels.tolist() == labels.tolist()
    assert whole.predicted.tolist() == logits.argmax(1).tolist()
    assert whole.hits.tolist() == (logits.argmax(1) == labels).tolist()


def test_a_rank_without_rows_adds_nothing():
    some = Predictions.of(*random_logits(3, 7, 0), torch.arange(3))
    assert len(Predictions.concat([Predictions.concat([]), some])) == 3
    assert len(Predictions.concat([])) == 0
    assert np.isnan(Predictions.concat([]).nll(1.0))


def test_types_are_small_whatever_the_number_of_classes():
    predictions = Predictions.of(*random_logits(4, 1000, 0), torch.arange(4))
    assert predictions.topk_ids.shape == predictions.topk_logits.shape == (4, 5)
    assert predictions.logsumexp.shape == (4, len(TEMPERATURES))
    arrays = vars(predictions)
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "rows": "int64",
        "labels": "int32",
        "topk_ids": "int32",
        "topk_logits": "float32",
        "label_logits": "float32",
        "logsumexp": "float32",
    }
    assert sum(array.nbytes for array in arrays.values()) / 4 == 8 + 4 + 5 * 8 + 4 + 4 * len(TEMPERATURES)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_stop_the_run(bad):
    with pytest.raises(TrainingError, match=r"not finite.*optim\.lr"):
        Predictions.of(torch.tensor([[1.0, bad]]), torch.tensor([0]), torch.tensor([0]))


def test_a_temperature_beside_the_grid_is_refused():
    predictions = Predictions.of(*random_logits(3, 4, 0), torch.arange(3))
    assert predictions.nll(TEMPERATURES[7] * (1 + 1e-9)) == predictions.nll(TEMPERATURES[7])
    for temperature in (1.01, 0.1, 9.0, -1.0):
        with pytest.raises(ValueError, match="not on the grid"):
            predictions.nll(temperature)


@given(st.integers(1, 80), st.integers(2, 6), st.integers(1, 8), st.integers(0, 99))
def test_confusions_are_the_most_frequent_wrong_pairs(rows, classes, most, seed):
    logits, labels = random_logits(rows, classes, seed)
    predictions = Predictions.of(logits, labels, torch.arange(100, 100 + rows))
    pairs = list(zip(labels.tolist(), logits.argmax(1).tolist(), strict=True))
    expected = Counter(pair for pair in pairs if pair[0] != pair[1])
    found = confusions(predictions, most)
    assert sorted((kind.count for kind in found), reverse=True) == sorted(expected.values(), reverse=True)[:most]
    for kind in found:
        assert kind.count == len(kind.rows) == expected[kind.truth, kind.predicted]
        assert all(pairs[row - 100] == (kind.truth, kind.predicted) for row in kind.rows)


def test_no_mistakes_no_confusions():
    assert confusions(Predictions.of(torch.eye(3), torch.arange(3), torch.arange(3))) == []


def test_the_loss_of_an_epoch_needs_one_temperature():
    logits, labels = random_logits(30, 7, 0)
    every = Predictions.of(logits, labels, torch.arange(30))
    one = Predictions.concat([Predictions.of(logits[part], labels[part], part, every_temperature=False) for part in torch.arange(30).split(8)])
    assert one.logsumexp.shape == (30, 1)
    assert one.nll(1.0) == pytest.approx(every.nll(1.0), rel=1e-6)
    np.testing.assert_allclose(one.confidence(1.0), every.confidence(1.0), rtol=1e-5)
    with pytest.raises(ValueError, match="1 alone"):
        one.nll(TEMPERATURES[0])


def test_labels_that_a_classifier_does_not_have_are_never_right():
    made = Predictions.of(torch.eye(3), torch.tensor([0, -1, 3]), torch.arange(3))
    assert made.hits.tolist() == [True, False, False]
    assert np.isneginf(made.label_logits).tolist() == [False, True, True]
