"""What a classifier said of rows of a split, kept small.

Shapes: B rows of a batch, N rows of a split, K classes, k = min(5, K) best classes, T temperatures of the grid. Memory is in the
order of N x T (about 540 bytes a row), whatever K: logits are not kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch

from prodrec.errors import TrainingError
from prodrec.evaluation.calibration import STEPS_PER_OCTAVE, TEMPERATURES, Bools
from prodrec.models.tasks import TOP_K


@dataclass(frozen=True)
class Predictions:
    """What a classifier said of rows of a split: enough for its loss and confidence at every temperature of the grid.

    Attributes:
        rows: int64 [N], numbers in the split, ascending once concatenated.
        labels: int32 [N], the truth.
        topk_ids: int32 [N, k], best first.
        topk_logits: float32 [N, k].
        label_logits: float32 [N], of the truth; -inf of a label that the classifier does not have (-1, or K and above), which it never gets right.
        logsumexp: float32 [N, T], log(sum(exp(logits / temperature))); [N, 1] where only that of temperature 1 was asked for.
    """

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    topk_ids: npt.NDArray[np.int32]
    topk_logits: npt.NDArray[np.float32]
    label_logits: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float32]

    @classmethod
    def of(cls, logits_BK: torch.Tensor, labels_B: torch.Tensor, rows_B: torch.Tensor, every_temperature: bool = True) -> "Predictions":
        """Keeps what is needed of a batch.

        Args:
            logits_BK: any float type, any device.
            every_temperature: of the grid, or 1 alone, which is all that the loss of an epoch needs: at 9,691 classes the grid costs more than
                decoding the image (docs/log.md 2026-11-28).

        Raises:
            TrainingError: a logit is not finite.
        """
        logits_BK = logits_BK.detach().float()
        if not torch.isfinite(logits_BK).all():
            raise TrainingError("the model's logits are not finite; train again with a lower optim.lr, optim.clip_norm or train.precision=fp32")
        best = logits_BK.topk(min(TOP_K, logits_BK.shape[1]))
        truth_B, classes = labels_B.to(logits_BK.device).long(), logits_BK.shape[1]
        label_logits_B = logits_BK.gather(1, truth_B.clamp(0, classes - 1)[:, None])[:, 0].where((truth_B >= 0) & (truth_B < classes), -math.inf)
        tensors = (
            rows_B.long(),
            labels_B.int(),
            best.indices.int(),
            best.values,
            label_logits_B,
            _logsumexp(logits_BK) if every_temperature else logits_BK.logsumexp(1, keepdim=True),
        )
        return cls(*(tensor.cpu().numpy() for tensor in tensors))

    @classmethod
    def concat(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """All rows of the parts, by row number; parts without rows may have any k, none at all gives no rows."""
        parts = [part for part in parts if len(part)] or [_no_predictions()]
        order = np.argsort(np.concatenate([part.rows for part in parts]), kind="stable")
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts])[order] for field in fields(cls)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def predicted(self) -> npt.NDArray[np.int32]:
        """[N], the best class."""
        return self.topk_ids[:, 0]

    @property
    def hits(self) -> Bools:
        """[N], whether the best class is the truth."""
        hits_N: Bools = self.predicted == self.labels
        return hits_N

    @property
    def hits_top5(self) -> Bools:
        """[N], whether the truth is among the best min(5, K) classes."""
        hits_N: Bools = (self.topk_ids == self.labels[:, None]).any(1)
        return hits_N

    def confidence(self, temperature: float) -> npt.NDArray[np.float32]:
        """Probabilities [N, k] of the best classes.

        Raises:
            ValueError: the temperature is not on the grid.
        """
        log_confidence_Nk = self.topk_logits / np.float32(temperature) - self._logsumexp_at(temperature)[:, None]
        # Devices round divisions differently: a sure prediction may come out a hair above 1.
        confidence_Nk: npt.NDArray[np.float32] = np.exp(np.minimum(log_confidence_Nk, 0))
        return confidence_Nk

    def _logsumexp_at(self, temperature: float) -> npt.NDArray[np.float32]:
        column = _grid_index(temperature)
        if self.logsumexp.shape[1] == 1:
            if column != _grid_index(1.0):
                raise ValueError(f"temperature {temperature} was not asked for, 1 alone was")
            column = 0
        logsumexp_N: npt.NDArray[np.float32] = self.logsumexp[:, column]
        return logsumexp_N

    @property
    def energy(self) -> npt.NDArray[np.float32]:
        """[N], -log(sum(exp(logits))): the higher, the stranger. Source: Liu et al. 2020 (arXiv 2010.03759), equation 4."""
        energy_N: npt.NDArray[np.float32] = -self._logsumexp_at(1.0)
        return energy_N

    def nll(self, temperature: float) -> float:
        """Mean negative log-likelihood of the truth, nats; nan for no rows.

        Raises:
            ValueError: the temperature is not on the grid.
        """
        losses_N = self._logsumexp_at(temperature) - self.label_logits / np.float32(temperature)
        return float(losses_N.mean(dtype=np.float64)) if len(self) else float("nan")


@dataclass(frozen=True)
class Confusion:
    """One kind of mistake: `count` rows of class `truth` were taken for class `predicted`; `rows` are their numbers in the split."""

    truth: int
    predicted: int
    count: int
    rows: list[int]


def confusions(predictions: Predictions, most: int = 20) -> list[Confusion]:
    """The most frequent mistakes, most frequent first (then by class ids)."""
    wrong = np.flatnonzero(~predictions.hits)
    pair_of = predictions.labels[wrong].astype(np.int64) << 32 | predictions.predicted[wrong]
    pairs, kind_of, counts = np.unique(pair_of, return_inverse=True, return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:most]
    return [Confusion(int(pairs[c] >> 32), int(pairs[c] & 0xFFFFFFFF), int(counts[c]), predictions.rows[wrong[kind_of == c]].tolist()) for c in chosen]


def _logsumexp(logits_BK: torch.Tensor) -> torch.Tensor:
    """float32 [B, T], for every temperature of the grid.

    exp(x / t) is the square of exp(x / 2t), so only the highest octave is exponentiated: measured 3 to 7 times as fast as
    `torch.logsumexp` for each temperature (80 to 10,000 classes, one thread), and as exact.
    """
    peak_B1 = logits_BK.amax(1, keepdim=True)
    sums_BT = logits_BK.new_empty(len(logits_BK), len(TEMPERATURES))
    for highest in range(len(TEMPERATURES) - STEPS_PER_OCTAVE, len(TEMPERATURES)):
        powers_BK = torch.exp((logits_BK - peak_B1) / TEMPERATURES[highest])
        for number in range(highest, -1, -STEPS_PER_OCTAVE):
            sums_BT[:, number] = powers_BK.sum(1)
            powers_BK.square_()
    return sums_BT.log_() + peak_B1 / logits_BK.new_tensor(TEMPERATURES)


def _grid_index(temperature: float) -> int:
    nearest = int(np.argmin(np.abs(np.array(TEMPERATURES) - temperature)))
    if not math.isclose(TEMPERATURES[nearest], temperature, rel_tol=1e-6):
        raise ValueError(f"temperature {temperature} is not on the grid calibration.TEMPERATURES; the nearest is {TEMPERATURES[nearest]}")
    return nearest


def _no_predictions() -> Predictions:
    floats, ids = np.empty(0, np.float32), np.empty(0, np.int32)
    return Predictions(np.empty(0, np.int64), ids, ids.reshape(0, 1), floats.reshape(0, 1), floats, floats.reshape(0, len(TEMPERATURES)))
