"""From which probability on a classifier's answer may go live without a person looking, at a promised precision.

The lowest threshold with just the target's precision on the rows that it is chosen on would be a promise kept less than every
other time. So a bound is asked for: were the precision below the target, so few mistakes would have a probability of at most
1 - confidence (Clopper & Pearson 1934). The bound is that of one threshold, the lowest of all is taken: drawn from real answers
(81 classes, 296 or 1,000 rows) the promise was broken in 9 to 13 % of the draws at a confidence of 90 %, without the bound in 52
to 71 %; where the rows are too few to accept anything most of the time, it was broken in more of those draws that do, up to a
third. Corrected for all looks (Geifman & El-Yaniv 2017) it was broken in 1 %, and accepted almost nothing (docs/log.md 2026-11-21).

Shapes: N rows, K classes.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from prodrec.evaluation.calibration import Bools, Floats
from prodrec.evaluation.metrics import wilson_interval
from prodrec.evaluation.predictions import Predictions
from prodrec.labels import Label
from prodrec.models.bundle_info import Acceptance

# What is promised where nothing else is asked for. Source: assumed.
TARGET_PRECISION = 0.98
# Probability that the promised precision is kept. Source: assumed; docs/log.md 2026-11-21 has what more and less of it costs.
CONFIDENCE = 0.9
# Share of the right answers on val that may be stranger than the energy limit. Source: assumed.
_STRANGE_SHARE = 0.01
# A label is judged by itself from this many times the rows that a promise takes at the least. Source: assumed.
_CLASS_ROWS = 3


def choose_acceptance(
    predictions: Predictions, labels: list[Label], temperature: float, target_precision: float, confidence: float, split: str, data_manifest_sha256: str
) -> Acceptance:
    """Chooses the thresholds of a classifier.

    Args:
        predictions: of rows that were not learned from.
        temperature: that the model is served with.
        target_precision, confidence: in (0, 1).
    """
    probability_N, hits_N = predictions.confidence(temperature)[:, 0], predictions.hits
    energy_limit = _energy_limit(predictions)
    known_N = predictions.energy <= energy_limit
    threshold = lowest_threshold(probability_N[known_N], hits_N[known_N], target_precision, confidence)
    counts_K = np.bincount(predictions.predicted[known_N], minlength=len(labels))
    thresholds: dict[str, float | None] = {}
    for label_id in np.flatnonzero(counts_K >= _CLASS_ROWS * least_rows(target_precision, confidence)):
        rows = known_N & (predictions.predicted == label_id)
        own = lowest_threshold(probability_N[rows], hits_N[rows], target_precision, confidence)
        # Only ever stricter: of many labels that are each looked at alone, some would pass by luck.
        if threshold is not None and (own is None or own > threshold):
            thresholds[labels[label_id].name] = own
    chosen = Acceptance(
        target_precision=target_precision,
        confidence=confidence,
        threshold=threshold,
        class_thresholds=thresholds,
        energy_limit=energy_limit,
        split=split,
        n=0,
        accepted=0,
        right=0,
        accepted_share_ci95=(0, 1),
        precision_ci95=(0, 1),
        data_manifest_sha256=data_manifest_sha256,
    )
    seen = accepted_metrics(chosen, predictions, labels, temperature)
    counts = {name: seen[name] for name in ("n", "accepted", "right")}
    return chosen.model_copy(update=counts | {"accepted_share_ci95": tuple(seen["share_ci95"]), "precision_ci95": tuple(seen["precision_ci95"])})


def accepted_metrics(acceptance: Acceptance, predictions: Predictions, labels: list[Label], temperature: float) -> dict[str, Any]:
    """What an acceptance does with the rows of a split, ready for JSON; `precision` is None where nothing is accepted."""
    least_K = np.array([math.inf if (least := acceptance.threshold_of(label.name)) is None else least for label in labels])
    known_N = predictions.energy <= acceptance.energy_limit
    accepted_N = known_N & (predictions.confidence(temperature)[:, 0] >= least_K[predictions.predicted])
    n, accepted, right = len(predictions), int(accepted_N.sum()), int(predictions.hits[accepted_N].sum())
    return {
        "target_precision": acceptance.target_precision,
        "n": n,
        "accepted": accepted,
        "right": right,
        "share": accepted / n if n else None,
        "share_ci95": list(wilson_interval(accepted, n)),
        "precision": right / accepted if accepted else None,
        "precision_ci95": list(wilson_interval(right, accepted)),
    }


def least_rows(target_precision: float, confidence: float) -> int:
    """Rows without one mistake from which on a precision is shown: target ** n <= 1 - confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(target_precision))


def lowest_threshold(probability_N: Floats, hits_N: Bools, target_precision: float, confidence: float) -> float | None:
    """The lowest probability from which on the precision is shown to be at least the target; None where there is none."""
    order = np.argsort(-probability_N, kind="stable")
    # Rows of equal probability are accepted together.
    ends = np.flatnonzero(np.diff(probability_N[order], append=-1.0)) + 1
    misses = np.cumsum(~hits_N[order])
    for n in ends[::-1].tolist():
        few = misses[n - 1] < n * (1 - target_precision)  # else the chance is at least a half, which is never enough
        if few and chance_of_so_few(int(misses[n - 1]), n, 1 - target_precision) <= 1 - confidence:
            return float(probability_N[order[n - 1]])
    return None


def chance_of_so_few(misses: int, n: int, rate: float) -> float:
    """Probability of at most so many mistakes in n rows at a rate of mistakes in (0, 1)."""
    misses_M = np.arange(min(misses, n) + 1)
    log_choose_M = _log_factorial(n) - _log_factorial(misses_M) - _log_factorial(n - misses_M)
    return float(np.exp(log_choose_M + misses_M * math.log(rate) + (n - misses_M) * math.log1p(-rate)).sum())


def _energy_limit(predictions: Predictions) -> float:
    right = predictions.energy[predictions.hits]
    return float(np.quantile(right, 1 - _STRANGE_SHARE)) if len(right) else 0.0


def _log_factorial(n: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.vectorize(math.lgamma, otypes=[np.float64])(np.asarray(n, np.float64) + 1)
