"""What a run knows of its past."""

import math
from dataclasses import dataclass, field
from typing import Any

from prodrec.config import EarlyStopConfig
from prodrec.training.checkpoint import Tensors


@dataclass
class TrainState:
    """What changes from epoch to epoch, beside the model and its optimiser.

    Attributes:
        history: one entry an epoch, as in RUN/metrics.jsonl.
        best: weights of the epoch with the highest score (of the latest where there is no val).
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)
    best_epoch: int = 0

    @property
    def epochs_done(self) -> int:
        return len(self.history)

    def score(self, epoch: int, metric: str) -> float:
        """How good an epoch is, higher is better; where there is no val split, later is better."""
        if epoch == 0:
            return -math.inf
        entry = self.history[epoch - 1]
        return score_of(entry, metric) if metric in entry else float(epoch)

    def is_stopped(self, config: EarlyStopConfig) -> bool:
        """Whether `patience` epochs have passed without a better one."""
        return config.patience is not None and self.epochs_done - self.best_epoch >= config.patience


def score_of(entry: dict[str, Any], metric: str) -> float:
    """How good an entry of the history is, higher is better."""
    return -float(entry[metric]) if metric == "val_loss" else float(entry[metric])
