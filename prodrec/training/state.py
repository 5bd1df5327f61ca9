"""What a run knows of its past."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prodrec.config import TrainConfig
from prodrec.training.checkpoint import Tensors


@dataclass
class TrainState:
    """What changes from epoch to epoch, beside the model and its optimiser.

    Attributes:
        history: one entry an epoch, as in RUN/metrics.jsonl.
        kept: weights of the best epochs so far, by epoch.
        best_epoch: the one with the highest score, of equal ones the latest (where there is no val: the latest); 0 before the first.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[int, Tensors] = field(default_factory=dict)
    best_epoch: int = 0

    @property
    def epochs_done(self) -> int:
        return len(self.history)

    @property
    def best(self) -> Tensors:
        """Weights of the best epoch."""
        return self.kept[self.best_epoch]

    def score(self, epoch: int, metric: str) -> float:
        """How good an epoch is, higher is better; where there is no val split, later is better."""
        if epoch == 0:
            return -math.inf
        entry = self.history[epoch - 1]
        return score_of(entry, metric) if metric in entry else float(epoch)

    def best_epochs(self, metric: str, most: int) -> list[int]:
        """The best first; one only where there is no val split."""
        if self.history and metric not in self.history[-1]:
            most = 1
        return sorted(range(1, self.epochs_done + 1), key=lambda epoch: (self.score(epoch, metric), epoch), reverse=True)[:most]

    def keep(self, weights: Callable[[], Tensors], metric: str, most: int) -> None:
        """Takes the weights of the latest epoch if it is one of the best `most`, and lets go of those that no longer are."""
        best = self.best_epochs(metric, most)
        self.best_epoch = best[0]
        latest = {self.epochs_done: weights()} if self.epochs_done in best else {}
        self.kept = {epoch: tensors for epoch, tensors in self.kept.items() if epoch in best} | latest

    def is_stopped(self, train: TrainConfig) -> bool:
        """Whether `patience` epochs of training the whole model have passed without a better one."""
        patience, since = train.early_stop.patience, max(self.best_epoch, train.head_epochs)
        return patience is not None and self.epochs_done - since >= patience


def score_of(entry: dict[str, Any], metric: str) -> float:
    """How good an entry of the history is, higher is better."""
    return -float(entry[metric]) if metric == "val_loss" else float(entry[metric])
