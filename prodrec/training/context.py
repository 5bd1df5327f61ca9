"""What a training process knows of its surroundings, and the surroundings of a single process.

The loop speaks upward only through this: it reports, it never asks who launched it.
"""

import math
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from prodrec.files import writing
from prodrec.machine import usable_cores
from prodrec.shards.feed import Away
from prodrec.training.checkpoint import is_complete, read_facts
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

    @property
    def away(self) -> Away | None:
        """Reads and decodes where the recipe says `data.decode=stream`; None: there is nowhere but here."""

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        """Hands over an epoch's metrics and, on rank 0, a checkpoint folder that the callee takes away. Every rank calls it once an epoch."""

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        """The checkpoint to go on from, or None."""

    def progress(self, progress: Progress) -> None:
        """Called on rank 0 after each step; cheap."""


class LocalContext:
    """One process without a launcher: checkpoints under RUN/checkpoints.

    Args:
        keep: the best this many checkpoints, by the `score` among their facts, stay beside the latest.
    """

    rank = 0
    world_size = 1
    away = None

    def __init__(self, run: Path, keep: int, device: torch.device, observer: RunObserver) -> None:
        self.folder = run / "checkpoints"
        self.keep = keep
        self.device = device
        self.threads = usable_cores()
        self.observer = observer

    def report(self, metrics: dict[str, Any], checkpoint: Path | None) -> None:
        self.observer.epoch(metrics)
        if checkpoint is None:
            return
        target = self.folder / f"epoch-{metrics['epoch']:04d}"
        with writing(str(target)):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Moved from another filesystem, files arrive in any order: aside first, so that half a checkpoint never has the name.
            aside = target.with_name(f".{target.name}.part")
            for old in (aside, target):
                shutil.rmtree(old, ignore_errors=True)
            shutil.move(checkpoint, aside)
            aside.rename(target)
        checkpoints = self._checkpoints()
        scores = {path: read_facts(path).get("score", -math.inf) for path in checkpoints}
        best = sorted(scores, key=lambda path: (scores[path], path), reverse=True)[: self.keep]
        for old in checkpoints:
            if old not in (target, *best):
                shutil.rmtree(old)

    def latest_checkpoint(self) -> AbstractContextManager[Path | None]:
        return nullcontext(max(self._checkpoints(), default=None))

    def progress(self, progress: Progress) -> None:
        self.observer.progress(progress)

    def _checkpoints(self) -> list[Path]:
        return [path for path in self.folder.glob("epoch-*") if is_complete(path)]
