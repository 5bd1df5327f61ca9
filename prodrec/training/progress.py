"""What a run tells whoever watches it. Needs no torch."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """Where a run stands within an epoch.

    Attributes:
        metrics: `loss` of the last step, others running over the epoch; images_per_s: over all workers; eta_s: of the run.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float]
    images_per_s: float
    eta_s: float


class RunObserver(Protocol):
    """Whoever watches a run."""

    def progress(self, progress: Progress) -> None: ...

    def epoch(self, metrics: dict[str, Any]) -> None:
        """An entry of the run's metrics.jsonl: an epoch, or a trial of a fit."""

    def embedding(self, done: int, total: int, images_per_s: float) -> None:
        """How many images a fit has embedded."""

    def note(self, text: str) -> None:
        """One line for a person."""


# Of heads; those of one stand in the history's entry of its trial, what is tried of them in the recipe's `fit`, in the plural.
SETTINGS = ("weight_decay", "shrinkage", "power")


def head_tried(entry: dict[str, Any]) -> str:
    """The head of a trial and its settings, for people."""
    settings = (f"{name.replace('_', ' ')} {entry[name]:g}" for name in SETTINGS if name in entry)
    return f"{entry['head']} head, {', '.join(settings)}"
