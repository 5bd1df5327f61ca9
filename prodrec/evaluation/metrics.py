"""Accuracy of a classifier: the metrics of a split.

Shapes: B rows of a batch, N rows of a split, K classes. Memory is in the order of N + K: there is no K x K matrix, K may be 10,000.
Not covered: boxes, several labels an image.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from prodrec.evaluation.calibration import Bools, ece
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.slices import SLICES, slice_of
from prodrec.labels import Label

# 97.5 % quantile of the normal distribution: a two-sided 95 % interval.
Z_95 = 1.96


def wilson_interval(hits: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Interval of a share `hits / n`, by default 95 %; (0, 1) where n is 0.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference": it holds for small n and
    for shares of 0 and 1, where the textbook interval has no width.
    """
    if n == 0:
        return 0.0, 1.0
    share, spread = hits / n, z * z / n
    centre = share + spread / 2
    half = float(np.sqrt(spread * (share * (1 - share) + spread / 4)))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def evaluate(predictions: Predictions, labels: list[Label], train_counts: list[int], temperature: float, split: str) -> dict[str, Any]:
    """The metrics of a split, ready for JSON; fractions, not percent; None where undefined.

    Macro averages go over the classes that occur in the split.

    Args:
        labels: [K]; train_counts: [K], training images.
        temperature: that the model is served with; `nll_scaled` and `ece` have it, `nll` and `ece_unscaled` do not.
    """
    n, hits = len(predictions), predictions.hits
    per_class = _per_class(predictions, labels, train_counts)
    present = [row for row in per_class if row["n"]]
    grouped = _group_hits(predictions, labels)
    return {
        "split": split,
        "n": n,
        "top1": _mean(hits),
        "top1_ci95": list(wilson_interval(int(hits.sum()), n)),
        "top5": _mean(predictions.hits_top5),
        **{f"macro_{name}": _mean([row[name] for row in present]) for name in ("f1", "precision", "recall")},
        "group_top1": _mean(grouped),
        "group_top1_ci95": list(wilson_interval(int(grouped.sum()), len(grouped))) if len(grouped) else None,
        "nll": predictions.nll(1.0) if n else None,
        "nll_scaled": predictions.nll(temperature) if n else None,
        "ece": ece(predictions.confidence(temperature)[:, 0], hits),
        "ece_unscaled": ece(predictions.confidence(1.0)[:, 0], hits),
        "temperature": temperature,
        "slices": _slices(predictions, train_counts),
        "per_class": per_class,
    }


def _per_class(predictions: Predictions, labels: list[Label], train_counts: list[int]) -> list[dict[str, Any]]:
    """One row a class; a class that occurs but is never predicted has precision 0, one that neither occurs nor is predicted has None."""
    classes = len(labels)
    n_K, predicted_K = np.bincount(predictions.labels, minlength=classes), np.bincount(predictions.predicted, minlength=classes)
    right_K = np.bincount(predictions.labels[predictions.hits], minlength=classes)
    rows = zip(labels, n_K.tolist(), predicted_K.tolist(), right_K.tolist(), train_counts, strict=True)
    return [
        {
            **label.words(),
            "group": label.group,
            "n": n,
            "predicted": predicted,
            "precision": right / predicted if predicted else (0.0 if n else None),
            "recall": right / n if n else None,
            "f1": 2 * right / (n + predicted) if n + predicted else None,
            "train_images": train_images,
        }
        for label, n, predicted, right, train_images in rows
    ]


def _group_hits(predictions: Predictions, labels: list[Label]) -> Bools:
    """Whether the predicted class is of the truth's group, for the rows whose truth has a group."""
    ids = {group: number for number, group in enumerate(dict.fromkeys(label.group for label in labels if label.group is not None))}
    group_K = np.array([-1 if label.group is None else ids[label.group] for label in labels])
    truth_N, predicted_N = group_K[predictions.labels], group_K[predictions.predicted]
    return np.asarray(truth_N == predicted_N)[truth_N >= 0]


def _slices(predictions: Predictions, train_counts: list[int]) -> dict[str, dict[str, Any]]:
    slice_K = np.array([SLICES.index(slice_of(count)) for count in train_counts])
    slice_N = slice_K[predictions.labels]
    return {name: {"classes": int((slice_K == number).sum()), **_share(predictions.hits[slice_N == number])} for number, name in enumerate(SLICES)}


def _share(hits: Bools) -> dict[str, Any]:
    return {"n": len(hits), "top1": _mean(hits), "ci95": list(wilson_interval(int(hits.sum()), len(hits)))}


def _mean(values: npt.ArrayLike) -> float | None:
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()) if len(values) else None
