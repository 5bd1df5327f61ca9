"""From which probability on a classifier's answer may go live without a person looking, at a promised precision.

The lowest threshold with just the target's precision on the rows that it is chosen on would be a promise kept less than every
other time. So a bound is asked for: were the precision below the target, so few mistakes would have a probability of at most
1 - confidence (Clopper & Pearson 1934). Looking at every threshold costs little of that confidence, as neighbours share their
rows: drawn 150 times from real answers (81 classes, 296 or 1,000 rows), the promise held in 87 to 91 % at a confidence of 90 %,
in 29 to 48 % without the bound; corrected for the looks (Geifman & El-Yaniv 2017) it held in 99 % and accepted almost nothing
(docs/log.md 2026-11-21).

Shapes: N rows, K classes.
"""

import math

import numpy as np
import numpy.typing as npt

from prodrec.data.records import Label
from prodrec.errors import BundleError, ConfigError
from prodrec.evaluation.calibration import Bools, Floats, fit_temperature
from prodrec.evaluation.judge import open_judged, predicted
from prodrec.evaluation.metrics import wilson_interval
from prodrec.evaluation.predictions import Predictions
from prodrec.machine import torch_device
from prodrec.models.bundle import rewrite_info
from prodrec.models.bundle_info import Acceptance, ClassifierInfo

# Probability that the promised precision is kept. Source: assumed; docs/log.md 2026-11-21 has what more and less of it costs.
CONFIDENCE = 0.9
# Share of the right answers on val that may be stranger than the energy limit. Source: assumed.
_STRANGE_SHARE = 0.01
# A class is judged by itself from this many times the rows that a promise takes at the least. Source: assumed.
_CLASS_ROWS = 3


def calibrate(bundle_uri: str, shards_uri: str, split: str, target_precision: float, confidence: float = CONFIDENCE, gpu: bool = False) -> Acceptance:
    """Chooses temperature and thresholds of a classifier's bundle on a split, and writes them into it: what `prodrec calibrate` does.

    Raises:
        BundleError, ShardsError, OutputError: what is wrong with the bundle, the shards, or the place of the bundle.
        ConfigError: the split is train, or a GPU is asked for and there is none.
    """
    if split == "train":
        raise ConfigError("--split train was learned from and would promise too much; choose val")
    device = torch_device(gpu)
    bundle, shards = open_judged(bundle_uri, shards_uri, split, device)
    info = bundle.info
    if not isinstance(info, ClassifierInfo):
        raise BundleError(f"{bundle_uri} is a {info.kind}; its thresholds are chosen in training (tags.target_precision): give a classifier's bundle")
    predictions = predicted(bundle, shards.relabelled(info.labels), split, device)
    temperature = fit_temperature(predictions)
    acceptance = choose_acceptance(predictions, info.labels, temperature, target_precision, confidence, split, shards.manifest_sha256)
    rewrite_info(bundle_uri, info.model_copy(update={"temperature": temperature, "acceptance": acceptance}))
    return acceptance


def promise(acceptance: Acceptance) -> str:
    """What was chosen, for people."""
    a, own = acceptance, sum(threshold is not None for threshold in acceptance.class_thresholds.values())
    if not a.accepted:
        needed = least_rows(a.target_precision, a.confidence)
        return (
            f"no probability promises a precision of {a.target_precision:.1%} on the {a.n:,} images of {a.split}: nothing is accepted without a person; "
            f"with {a.confidence:.0%} confidence it takes {needed} sure answers without a mistake: "
            f"add images to {a.split}, or lower --precision or --confidence"
        )
    low, high = a.accepted_share_ci95
    least, most = a.precision_ci95
    from_on = f"from {a.threshold:.1%} on" if a.threshold is not None else "by the labels' own thresholds alone"
    return (
        f"accepted {from_on}" + (f", {own} labels from thresholds of their own" if own else "") + "\n"
        f"precision >= {a.target_precision:.1%} promised with {a.confidence:.0%} confidence\n"
        f"on {a.split}: {a.accepted / a.n:.1%} of {a.n:,} images accepted ({low:.1%} to {high:.1%}), "
        f"{a.right / a.accepted:.1%} of these right ({least:.1%} to {most:.1%})"
    )


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
    frequent_K = np.bincount(predictions.predicted[known_N], minlength=len(labels)) >= _CLASS_ROWS * least_rows(target_precision, confidence)
    thresholds: dict[str, float | None] = {}
    for label_id in np.flatnonzero(frequent_K):
        rows = known_N & (predictions.predicted == label_id)
        thresholds[labels[label_id].name] = lowest_threshold(probability_N[rows], hits_N[rows], target_precision, confidence)
    pooled = known_N & ~frequent_K[predictions.predicted]
    threshold = lowest_threshold(probability_N[pooled], hits_N[pooled], target_precision, confidence)
    least_K = [thresholds.get(label.name, threshold) for label in labels]
    accepted_N = known_N & (probability_N >= np.array([math.inf if least is None else least for least in least_K])[predictions.predicted])
    accepted, right = int(accepted_N.sum()), int(hits_N[accepted_N].sum())
    return Acceptance(
        target_precision=target_precision,
        confidence=confidence,
        threshold=threshold,
        class_thresholds=thresholds,
        energy_limit=energy_limit,
        split=split,
        n=len(predictions),
        accepted=accepted,
        right=right,
        accepted_share_ci95=wilson_interval(accepted, len(predictions)),
        precision_ci95=wilson_interval(right, accepted),
        data_manifest_sha256=data_manifest_sha256,
    )


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
        if _chance_of_so_few(int(misses[n - 1]), n, 1 - target_precision) <= 1 - confidence:
            return float(probability_N[order[n - 1]])
    return None


def _chance_of_so_few(misses: int, n: int, rate: float) -> float:
    """Probability of at most so many mistakes in n rows at a rate of mistakes."""
    if misses >= n * rate:
        return 1.0  # at least a half, which is never enough
    misses_M = np.arange(misses + 1)
    log_choose_M = _log_factorial(n) - _log_factorial(misses_M) - _log_factorial(n - misses_M)
    return float(np.exp(log_choose_M + misses_M * math.log(rate) + (n - misses_M) * math.log1p(-rate)).sum())


def _energy_limit(predictions: Predictions) -> float:
    right = predictions.energy[predictions.hits]
    return float(np.quantile(right, 1 - _STRANGE_SHARE)) if len(right) else 0.0


def _log_factorial(n: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.vectorize(math.lgamma, otypes=[np.float64])(np.asarray(n, np.float64) + 1)
