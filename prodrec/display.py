"""What a person sees in the terminal: bars where there is a terminal, lines where there is none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prodrec.training.context import Progress as RunProgress

console = Console(highlight=False, soft_wrap=True)


class RunDisplay:
    """One line an epoch, and under it a bar with loss, accuracy, images/s and the time left."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("starting", total=None, facts="")

    def progress(self, progress: RunProgress) -> None:
        facts = f"{_facts(progress.metrics)}  {progress.images_per_s:,.0f} images/s  {_duration(progress.eta_s)} left"
        done = (progress.epoch - 1) * progress.steps + progress.step
        total = progress.epochs * progress.steps
        self.bar.update(self.task, description=f"epoch {progress.epoch}/{progress.epochs}", completed=done, total=total, facts=facts)

    def epoch(self, metrics: dict[str, Any]) -> None:
        splits = [f"{split} {_facts(metrics, f'{split}_')}" for split in ("train", "val") if f"{split}_loss" in metrics]
        self.bar.console.print(f"epoch {metrics['epoch']:>3}  {'  '.join(splits)}  {metrics['images_per_s']:,.0f} images/s")


@contextmanager
def run_display() -> Iterator[RunDisplay]:
    """A display for the time of a run."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=console, disable=not sys.stdout.isatty(), transient=True) as bar:
        yield RunDisplay(bar)


class PrepareDisplay:
    """A bar over the rows of a source; without a terminal, a line at each tenth."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("preparing", total=None, facts="")
        self.tenths = 0

    def __call__(self, done: int, rejected: int, total: int) -> None:
        facts = f"{rejected} rejected"
        self.bar.update(self.task, completed=done, total=total, facts=facts)
        if self.bar.disable and done * 10 // total > self.tenths:
            self.tenths = done * 10 // total
            console.print(f"prepared {done:,} of {total:,} images, {facts}")


@contextmanager
def prepare_display() -> Iterator[PrepareDisplay]:
    """A display for the time of a prepare."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    more = (TextColumn("{task.fields[facts]}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *more, console=console, disable=not sys.stdout.isatty(), transient=True) as bar:
        yield PrepareDisplay(bar)


def _facts(metrics: dict[str, Any], prefix: str = "") -> str:
    shares = {"top1": "top-1", "ap50": "AP50"}
    said = [f"{words} {metrics[prefix + name]:.1%}" for name, words in shares.items() if prefix + name in metrics]
    return "  ".join([f"loss {metrics[f'{prefix}loss']:.3f}", *said])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
