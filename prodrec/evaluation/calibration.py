"""Temperature scaling and calibration error.

Shapes: N rows, T temperatures of the grid.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

STEPS_PER_OCTAVE = 24

TEMPERATURES: tuple[float, ...] = tuple(2.0 ** (step / STEPS_PER_OCTAVE) for step in range(-2 * STEPS_PER_OCTAVE, 3 * STEPS_PER_OCTAVE + 1))
"""T temperatures from 0.25 to 8, 2.9 % apart, with 1.0 exactly among them.

Source: assumed; Guo et al. 2017 (arXiv 1706.04599) find 0.9-3 for image classifiers. The NLL is flat at its minimum: half a
step changes it by less than 0.0002 of itself (`test_calibration.py`).
"""

# Fewer rows say more of themselves than of the model: three right ones of confidence 0.6 would ask for certainty. Source: assumed.
MIN_ROWS_TO_FIT = 50

# Source: Guo et al. 2017 (arXiv 1706.04599), M = 15.
ECE_BINS = 15


class Scored(Protocol):
    """Predictions whose loss is known at every temperature of the grid."""

    @property
    def hits(self) -> Bools: ...

    def __len__(self) -> int: ...

    def nll(self, temperature: float) -> float: ...


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence lies in (low, high]; confidence 0 belongs to the first bin.

    Attributes:
        confidence, accuracy: means of the rows, fractions; None where the bin is empty.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def fit_temperature(predictions: Scored) -> float:
    """The temperature of the grid with the least NLL; 1.0 where there are too few rows to tell, or no mistake
    among them (the NLL then falls without end).

    Source: Guo et al. 2017 (arXiv 1706.04599), section 4.2: one temperature for all classes, fitted on held-out rows.

    Args:
        predictions: of the val split; never of the rows that are judged afterwards.
    """
    if len(predictions) < MIN_ROWS_TO_FIT or predictions.hits.all():
        return 1.0
    return min(TEMPERATURES, key=predictions.nll)


def reliability(confidences: Floats, hits: Bools, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """Accuracy by confidence in bins of equal width.

    Args:
        confidences: [N] in [0, 1], of the first prediction.
        hits: [N], whether it was right.
    """
    edges = np.linspace(0, 1, bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, bins - 1)
    counts, sums, right = (np.bincount(bin_N, weights, bins) for weights in (None, confidences, hits))
    return [
        ReliabilityBin(float(edges[b]), float(edges[b + 1]), n := int(counts[b]), float(sums[b] / n) if n else None, float(right[b] / n) if n else None)
        for b in range(bins)
    ]


def ece(confidences: Floats, hits: Bools, bins: int = ECE_BINS) -> float | None:
    """Expected calibration error: mean over rows of |accuracy - confidence| of their bin, in [0, 1]; None without rows.

    Source: Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    gaps = [
        (bin.n, abs(bin.accuracy - bin.confidence)) for bin in reliability(confidences, hits, bins) if bin.accuracy is not None and bin.confidence is not None
    ]
    return sum(n * gap for n, gap in gaps) / len(hits) if gaps else None
