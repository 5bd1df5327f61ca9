"""What a training process knows of its surroundings, and the surroundings of a single process.

The loop speaks upward only through this: it reports, it never asks who launched it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import distributed

from prodrec.files import Folder
from prodrec.lease import Claim
from prodrec.machine import usable_cores
from prodrec.shards.feed import Away
from prodrec.shards.stream import Batch
from prodrec.training.checkpoint import Checkpoints
from prodrec.training.progress import Progress, RunObserver


class WorkerContext(Protocol):
    """One process of a training run.

    Attributes:
        threads: cores this process may decode with.
    """

    rank: int
    world_size: int
    device: torch.device
    threads: int
    checkpoints: Checkpoints

    @property
    def away(self) -> Away | None:
        """Reads and decodes where the recipe says `data.decode=stream`; None: there is nowhere but here."""

    def report(self, metrics: dict[str, Any]) -> None:
        """Called on rank 0 with the metrics of an epoch."""

    def progress(self, progress: Progress) -> None:
        """Called on rank 0 after each step; cheap."""

    def note(self, text: str) -> None:
        """Called on rank 0 with one line for a person."""

    def is_leaving(self) -> bool:
        """Whether a machine of the run is about to be taken away; true once for each time it becomes known. Cheap; asked on rank 0."""

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Passes batches on, and may end a process that makes nothing of one, or gets none, for too long."""


class LocalContext:
    """One process without a launcher.

    Args:
        keep: the best this many checkpoints stay beside the latest.
        claim: of this process to the run's folder.
    """

    rank = 0
    world_size = 1
    away = None

    def __init__(self, run: Path, keep: int, device: torch.device, observer: RunObserver, claim: Claim | None = None) -> None:
        self.checkpoints = Checkpoints(Folder(run), keep, claim)
        self.device = device
        self.threads = usable_cores()
        self.observer = observer

    def report(self, metrics: dict[str, Any]) -> None:
        self.observer.epoch(metrics)

    def progress(self, progress: Progress) -> None:
        self.observer.progress(progress)

    def note(self, text: str) -> None:
        self.observer.note(text)

    def is_leaving(self) -> bool:
        return False

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        return batches


def gathered(own: Any, context: WorkerContext) -> list[Any]:
    """What each rank has, on every rank: a rank that fails says so here instead of leaving the others to wait."""
    if context.world_size == 1:
        return [own]
    parts: list[Any] = [None] * context.world_size
    distributed.all_gather_object(parts, own)
    return parts
