import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prodrec.evaluation.metrics import evaluate, wilson_interval
from prodrec.evaluation.predictions import Predictions
from prodrec.labels import Label


def random_batch(rows: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, classes, generator=generator) * 3, torch.randint(classes, (rows,), generator=generator)


def judged(logits: torch.Tensor, truth: list[int], groups: list[str | None], train_counts: list[int], temperature: float = 1.0) -> dict:
    labels = [Label(name=f"product {number}", group=group) for number, group in enumerate(groups)]
    return evaluate(Predictions.of(logits, torch.tensor(truth), torch.arange(len(truth))), labels, train_counts, temperature, "test")


def one_hot(predicted: list[int], classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float() * 4


def leaves(tree: object) -> list:
    if isinstance(tree, dict | list):
        return [leaf for item in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(item)]
    return [tree]


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_interval_is_where_the_share_is_z_deviations_away(hits, misses):
    n = hits + misses
    low, high = wilson_interval(hits, n)
    assert 0 <= low <= high <= 1
    for bound in (low, high):
        if n and 1e-9 < bound < 1 - 1e-9:
            assert abs(hits / n - bound) == pytest.approx(1.96 * (bound * (1 - bound) / n) ** 0.5)


def test_wilson_interval_of_known_shares():
    assert wilson_interval(5, 5) == pytest.approx((0.5655, 1), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson_interval(0, 0) == (0, 1)


@given(st.integers(1, 60), st.integers(2, 8), st.integers(0, 999))
def test_evaluate_agrees_with_counting_row_by_row(rows, classes, seed):
    logits, truth = random_batch(rows, classes, seed)
    groups = ["even" if k % 2 == 0 else "odd" for k in range(classes)]
    metrics = judged(logits, truth.tolist(), groups, [5, 50, 500, *[0] * classes][:classes], temperature=2.0)
    predicted, true = logits.argmax(1).tolist(), truth.tolist()
    assert metrics["top1"] == pytest.approx(np.mean([p == t for p, t in zip(predicted, true, strict=True)]))
    assert metrics["group_top1"] == pytest.approx(np.mean([p % 2 == t % 2 for p, t in zip(predicted, true, strict=True)]))
    f1s, precisions, recalls = [], [], []
    for k in sorted(set(true)):
        both = sum(p == t == k for p, t in zip(predicted, true, strict=True))
        precisions.append(both / predicted.count(k) if k in predicted else 0)
        recalls.append(both / true.count(k))
        f1s.append(2 * both / (predicted.count(k) + true.count(k)))
    assert [metrics["macro_f1"], metrics["macro_precision"], metrics["macro_recall"]] == pytest.approx([np.mean(f1s), np.mean(precisions), np.mean(recalls)])
    assert metrics["nll"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, truth)), abs=1e-5)
    assert metrics["nll_scaled"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits / 2, truth)), abs=1e-5)
    assert sum(row["n"] for row in metrics["per_class"]) == sum(part["n"] for part in metrics["slices"].values()) == rows
    assert [row["label"] for row in metrics["per_class"]] == [f"product {k}" for k in range(classes)]


def test_undefined_values_are_null_and_the_rest_is_json():
    truth, predicted = [0, 0, 1], [0, 2, 2]
    metrics = judged(one_hot(predicted, 4), truth, [None] * 4, [200, 100, 19, 0])
    assert metrics["group_top1"] is None
    assert metrics["group_top1_ci95"] is None
    assert [row["precision"] for row in metrics["per_class"]] == [1, 0, 0, None]
    assert [row["recall"] for row in metrics["per_class"]] == [0.5, 0, None, None]
    assert [row["f1"] for row in metrics["per_class"]] == [pytest.approx(2 / 3), 0, 0, None]
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics["slices"]["tail"] == {"classes": 2, "n": 0, "top1": None, "ci95": [0, 1]}
    assert metrics["slices"]["head"]["n"] == 2
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_a_split_without_rows_has_no_averages():
    metrics = evaluate(Predictions.concat([]), [Label(name="a", group="g"), Label(name="b")], [3, 4], 1.0, "val")
    assert metrics["n"] == 0
    assert metrics["top1_ci95"] == [0, 1]
    names = ("top1", "top5", "macro_f1", "macro_precision", "macro_recall", "group_top1", "group_top1_ci95", "nll", "nll_scaled", "ece", "ece_unscaled")
    assert {name: metrics[name] for name in names} == dict.fromkeys(names)
    assert not any(isinstance(leaf, float) and np.isnan(leaf) for leaf in leaves(metrics))


def test_group_accuracy_is_of_rows_whose_truth_has_a_group():
    metrics = judged(one_hot([1, 2, 3], 4), [0, 0, 3], ["fruit", "fruit", "milk", None], [1] * 4)
    assert metrics["group_top1"] == 0.5


def test_ten_thousand_classes_take_no_square_matrix():
    classes = 10_000
    truth = torch.arange(0, classes, 50)
    predictions = Predictions.of(one_hot(truth.tolist(), classes), truth, truth)
    labels = [Label(name=str(k)) for k in range(classes)]
    tracemalloc.start()
    metrics = evaluate(predictions, labels, [1] * classes, 1.0, "test")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics["top1"] == 1
    assert peak_bytes < classes * classes / 4
