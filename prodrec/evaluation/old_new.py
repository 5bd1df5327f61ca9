"""Old against new: what a run that went on from a bundle won and lost, on the same images.

Shapes: N rows of a split; K labels, those that the old bundle knows in front; D draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prodrec.evaluation.calibration import Bools
from prodrec.evaluation.metrics import wilson_interval
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.significance import mcnemar
from prodrec.labels import Label

Ints = npt.NDArray[np.integer[Any]]

# Draws of the bootstrap; their 2.5 % and 97.5 % quantiles then vary by about a hundredth of the interval. Source: Efron &
# Tibshirani 1993, "An Introduction to the Bootstrap", section 12.3: 1,000 for intervals.
_DRAWS = 1_000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class OldNew:
    """Two classifiers on the same rows.

    Attributes:
        old, new: predictions of the same rows; labels from `num_known` on are new, and the old one is never right on them.
        labels: [K].
        num_known: labels that the old one knows.
        bundle, bundle_id: of the old one.
        same_data: whether nothing that the old one learned from is among the rows: it was trained on this data set, or on one whose split is kept.
    """

    old: Predictions
    new: Predictions
    labels: Sequence[Label]
    num_known: int
    bundle: str
    bundle_id: str
    same_data: bool

    def __post_init__(self) -> None:
        if not (np.array_equal(self.old.rows, self.new.rows) and np.array_equal(self.old.labels, self.new.labels)):
            raise ValueError("the old and the new predictions are of other rows or labels")

    @property
    def lost(self) -> npt.NDArray[np.intp]:
        """Positions of the rows that were right before and are wrong now."""
        return np.flatnonzero(self.old.hits & ~self.new.hits)

    @property
    def gained(self) -> npt.NDArray[np.intp]:
        """Positions of the rows that were wrong before and are right now."""
        return np.flatnonzero(~self.old.hits & self.new.hits)

    def metrics(self) -> dict[str, Any]:
        """The whole comparison, ready for JSON; fractions, not percent.

        `all`, `known` and `new_labels` hold the same figures for all rows and for those of known and of new labels (None where
        there are none); `per_class` the classes that occur, those that got worse first.
        """
        known_N = self.new.labels < self.num_known
        return {
            "bundle": self.bundle,
            "bundle_id": self.bundle_id,
            "same_data": self.same_data,
            "known_labels": self.num_known,
            "all": self._figures(np.ones(len(known_N), bool)),
            "known": self._figures(known_N),
            "new_labels": self._figures(~known_N),
            "per_class": self._per_class(),
        }

    def _figures(self, rows_N: Bools) -> dict[str, Any] | None:
        n = int(rows_N.sum())
        if not n:
            return None
        old_hits, new_hits = self.old.hits[rows_N], self.new.hits[rows_N]
        gained, lost = int((~old_hits & new_hits).sum()), int((old_hits & ~new_hits).sum())
        truth, said = self.new.labels[rows_N], (self.old.predicted[rows_N], self.new.predicted[rows_N])
        old_f1, new_f1 = (macro_f1(truth, predicted, len(self.labels)) for predicted in said)
        old_ci, new_ci, lead_ci = macro_f1_intervals(truth, *said, len(self.labels))
        return {
            "n": n,
            "old_top1": float(old_hits.mean()),
            "old_top1_ci95": list(wilson_interval(int(old_hits.sum()), n)),
            "new_top1": float(new_hits.mean()),
            "new_top1_ci95": list(wilson_interval(int(new_hits.sum()), n)),
            "old_macro_f1": old_f1,
            "old_macro_f1_ci95": old_ci,
            "new_macro_f1": new_f1,
            "new_macro_f1_ci95": new_ci,
            "macro_f1_difference_ci95": lead_ci,
            "gained": gained,
            "lost": lost,
            "p": mcnemar(gained, lost),
        }

    def _per_class(self) -> list[dict[str, Any]]:
        """Worst difference first, among equal ones that of most images, then by label id."""
        classes, truth = len(self.labels), self.new.labels
        n_K, old_K, new_K = (np.bincount(truth[rows], minlength=classes) for rows in (slice(None), self.old.hits, self.new.hits))
        rows = [
            {
                **self.labels[k].words(),
                "group": self.labels[k].group,
                "new_label": k >= self.num_known,
                "n": int(n_K[k]),
                "old": float(old_K[k] / n_K[k]),
                "new": float(new_K[k] / n_K[k]),
                "difference": float((new_K[k] - old_K[k]) / n_K[k]),
            }
            for k in np.flatnonzero(n_K).tolist()
        ]
        return sorted(rows, key=lambda row: (row["difference"], -row["n"]))


def macro_f1(truth_N: Ints, predicted_N: Ints, num_labels: int) -> float:
    """Mean F1 of the classes that occur; as `evaluate` means it."""
    return float(_macro_f1(truth_N, predicted_N, num_labels))


def macro_f1_intervals(truth_N: Ints, old_N: Ints, new_N: Ints, num_labels: int, seed: int = 0) -> tuple[list[float], list[float], list[float]]:
    """95 % intervals of the macro-F1 of two classifiers, and of the new one's lead over the old.

    By the percentile bootstrap over images: both are judged on the same draw, so that what is hard in it cancels in the lead.
    Where a classifier makes no mistake its interval has no width.
    """
    draws, n = np.random.default_rng(seed), len(truth_N)
    scores_D2 = np.empty((_DRAWS, 2))
    for draw in range(_DRAWS):
        chosen = draws.integers(n, size=n)
        scores_D2[draw] = [_macro_f1(truth_N[chosen], said[chosen], num_labels) for said in (old_N, new_N)]
    old_D, new_D = scores_D2.T
    old, new, lead = (np.quantile(scores_D, _QUANTILES).tolist() for scores_D in (old_D, new_D, new_D - old_D))
    return old, new, lead


def _macro_f1(truth_N: Ints, predicted_N: Ints, num_labels: int) -> np.floating[Any]:
    n_K, predicted_K = np.bincount(truth_N, minlength=num_labels), np.bincount(predicted_N, minlength=num_labels)
    right_K = np.bincount(truth_N[truth_N == predicted_N], minlength=num_labels)
    present_K = n_K > 0
    f1: npt.NDArray[np.floating[Any]] = 2 * right_K[present_K] / (n_K + predicted_K)[present_K]
    return f1.mean()
