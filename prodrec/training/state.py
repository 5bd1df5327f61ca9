"""What a run knows of its past."""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from prodrec.config import Recipe, TrainConfig
from prodrec.training.checkpoint import Position, Tensors

# Before the epoch, in the names of a checkpoint's sections.
_KEPT = "kept-"


@dataclass
class EpochBegun:
    """What is known of an epoch that is under way.

    Attributes:
        cuts: (lanes, steps) of each stretch of it, in order: a run may be taken up by another number of workers.
        sums: of its steps, merged over ranks.
        skipped: steps that were left out.
        train_s, wait_s: seconds so far, and those spent waiting for data.
    """

    cuts: list[tuple[int, int]] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    skipped: int = 0
    train_s: float = 0.0
    wait_s: float = 0.0

    @property
    def step(self) -> int:
        return sum(steps for _, steps in self.cuts)


@dataclass
class TrainState:
    """What changes from step to step, beside the model and its optimiser.

    Attributes:
        history: one entry an epoch, as in RUN/metrics.jsonl.
        kept: weights of the best epochs so far, by epoch.
        best_epoch: the one with the highest score, of equal ones the latest (where there is no val: the latest); 0 before the first.
        begun: of the epoch after those.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[int, Tensors] = field(default_factory=dict)
    best_epoch: int = 0
    begun: EpochBegun = field(default_factory=EpochBegun)

    @classmethod
    def restored(cls, sections: dict[str, Tensors], facts: dict[str, Any]) -> "TrainState":
        """From a checkpoint."""
        kept = {int(name.removeprefix(_KEPT)): tensors for name, tensors in sections.items() if name.startswith(_KEPT)}
        return cls(facts["history"], kept, facts["best_epoch"], EpochBegun(**facts.get("begun", {})))

    def sections(self) -> dict[str, Tensors]:
        """Its tensors, for a checkpoint."""
        return {f"{_KEPT}{epoch}": tensors for epoch, tensors in self.kept.items()}

    def facts(self) -> dict[str, Any]:
        """All else, for a checkpoint; JSON."""
        return {"history": self.history, "best_epoch": self.best_epoch, "begun": asdict(self.begun)}

    @property
    def position(self) -> Position:
        return Position(self.epochs_done, self.begun.step)

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

    def keep(self, weights: Callable[[], Tensors], metric: str, most: int, chosen: Collection[int] = ()) -> None:
        """Takes the weights of the latest epoch if it is one of the best `most`, and lets go of those that no longer are.

        Args:
            chosen: epochs that are kept whatever they score: those of a refit, which the run before chose.
        """
        best = [epoch for epoch in range(self.epochs_done, 0, -1) if epoch in chosen] or self.best_epochs(metric, most)
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


def kept_epochs(history: list[dict[str, Any]], train: TrainConfig) -> tuple[int, ...]:
    """The epochs whose weights a finished run's bundle has, their mean where there are several; ascending."""
    metric, state = train.early_stop.metric, TrainState(history)
    epochs, average = state.best_epochs(metric, train.average_best), history[-1].get(f"average_{metric}")
    taken = average is not None and score_of({metric: average}, metric) >= state.score(epochs[0], metric)
    return tuple(sorted(epochs)) if taken else (epochs[0],)


def kept_weights(history: list[dict[str, Any]], recipe: Recipe) -> str:
    """Which weights the bundle of a finished run has, for people: of which trial, of which epoch, or the mean of which ones."""
    train, metric, state = recipe.train, recipe.train.early_stop.metric, TrainState(history)
    if "trial" in history[0]:
        kept = next(entry for entry in history if entry["kept"])
        return f"{kept['head']} head, weight decay {kept['weight_decay']:g}, trial {kept['trial']} of {len(history)}{_figure(kept, metric)}"
    if recipe.refit:
        chosen = recipe.refit.epochs
        return f"{f'epoch {chosen[0]}' if len(chosen) == 1 else f'the mean of epochs {_listed(chosen)}'}, as the run before chose; train and val learned from"
    epochs = state.best_epochs(metric, train.average_best)
    told = f"epoch {epochs[0]} of {len(history)}{_figure(history[epochs[0] - 1], metric)}"
    if (average := f"average_{metric}") not in history[-1]:
        return told
    mean = f"the mean of epochs {_listed(epochs)} ({metric} {history[-1][average]:.3f})"
    return f"{mean}; the best alone was {told}" if len(kept_epochs(history, train)) > 1 else f"{told}; better than {mean}"


def _listed(epochs: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(epochs)))


def _figure(entry: dict[str, Any], metric: str) -> str:
    return f" ({metric} {entry[metric]:.3f})" if metric in entry else ""
