"""Pictures of right and wrong predictions for the report: which ones, and their thumbnails.

Shapes: N rows of a split.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prodrec.errors import Reject
from prodrec.evaluation.calibration import Floats
from prodrec.evaluation.predictions import Predictions, confusions
from prodrec.images.thumbnails import thumbnail
from prodrec.labels import Label
from prodrec.reports.page import data_uri

Positions = npt.NDArray[np.intp]

# Source: assumed; 18 + 24 + 2 x 9 thumbnails of about 5 KB each keep the report far under 2 MB.
MOST_RIGHT, MOST_WRONG, MOST_MISTAKE_KINDS = 18, 24, 9
# Twice the width that a thumbnail has on the page of a phone. Source: assumed.
THUMBNAIL_SIDE_PX = 128
# Row groups that are in memory at once: 50 MB. Source: assumed.
_READERS = 8


@dataclass(frozen=True)
class Example:
    """One prediction with its picture.

    Attributes:
        picture: data URI of a JPEG, None where the image cannot be read.
        truth, predicted: label names.
        confidence: in the prediction, fraction.
    """

    row: int
    picture: str | None
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class MistakeKind:
    """`count` of the `n` images of `truth` were taken for `predicted`.

    Attributes:
        wrong: one of them, the one the model was surest of.
        right: the surest right prediction of `predicted`, None where there is none.
    """

    truth: str
    predicted: str
    count: int
    n: int
    wrong: Example
    right: Example | None


class Thumbnails:
    """Small pictures of rows.

    Args:
        image_of: row to the bytes of an image.
    """

    def __init__(self, image_of: Callable[[int], bytes]) -> None:
        self._image_of = image_of

    def uris(self, rows: Sequence[int]) -> list[str | None]:
        """Of each row; several are read at a time, as each is a row group of its own that a store is asked for."""
        with ThreadPoolExecutor(_READERS, thread_name_prefix="thumbnails") as pool:
            return list(pool.map(self.uri, rows))

    def uri(self, row: int) -> str | None:
        """Data URI of a JPEG with sides of at most 128 px; None where the bytes are no whole picture."""
        try:
            return data_uri(thumbnail(self._image_of(row), THUMBNAIL_SIDE_PX))
        except (Reject, OSError):  # a report of hours of training must not fail for one picture; the page shows which one
            return None


def sure_mistakes(predictions: Predictions, confidences_N: Floats) -> Positions:
    """Positions of the wrong predictions, the surest first: those teach most about labels and look-alikes."""
    wrong = np.flatnonzero(~predictions.hits)
    return wrong[np.argsort(-confidences_N[wrong], kind="stable")][:MOST_WRONG]


def varied_hits(predictions: Predictions, confidences_N: Floats) -> Positions:
    """Positions of right predictions from the surest to the least sure, evenly spaced."""
    right = np.flatnonzero(predictions.hits)
    ranked = right[np.argsort(-confidences_N[right], kind="stable")]
    return ranked[np.linspace(0, len(ranked) - 1, min(MOST_RIGHT, len(ranked))).round().astype(np.intp)]


def sheet(predictions: Predictions, confidences_N: Floats, labels: Sequence[Label], thumbnails: Thumbnails, positions: Positions) -> list[Example]:
    """The predictions at `positions` with their pictures."""
    return [
        Example(
            row=int(predictions.rows[i]),
            picture=picture,
            truth=labels[predictions.labels[i]].name,
            predicted=labels[predictions.predicted[i]].name,
            confidence=float(confidences_N[i]),
        )
        for i, picture in zip(positions, thumbnails.uris(predictions.rows[positions].tolist()), strict=True)
    ]


def mistake_kinds(predictions: Predictions, confidences_N: Floats, labels: Sequence[Label], thumbnails: Thumbnails) -> list[MistakeKind]:
    """The most frequent mistakes, each beside what the model took the image for."""
    kinds, wrong, right = confusions(predictions, MOST_MISTAKE_KINDS), list[Positions](), list[Positions]()
    for kind in kinds:
        wrong.append(_surest((predictions.labels == kind.truth) & (predictions.predicted == kind.predicted), confidences_N))
        right.append(_surest(predictions.hits & (predictions.labels == kind.predicted), confidences_N))
    shown = iter(sheet(predictions, confidences_N, labels, thumbnails, np.concatenate([*wrong, *right]).astype(np.intp))) if kinds else iter(())
    wrong_shown = [next(shown) for _ in kinds]
    right_shown = [next(shown) if len(found) else None for found in right]
    return [
        MistakeKind(labels[kind.truth].name, labels[kind.predicted].name, kind.count, int((predictions.labels == kind.truth).sum()), bad, good)
        for kind, bad, good in zip(kinds, wrong_shown, right_shown, strict=True)
    ]


def _surest(chosen_N: npt.NDArray[np.bool_], confidences_N: Floats) -> Positions:
    """Position of the surest of the chosen, as an array of one, or of none."""
    positions = np.flatnonzero(chosen_N)
    return positions[np.argsort(-confidences_N[positions], kind="stable")][:1]
