"""What a person sees in the terminal: bars where there is a terminal, lines where there is none."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prodrec.catalog.records import RunRecord
from prodrec.training.progress import Progress as RunProgress
from prodrec.training.progress import head_tried

if TYPE_CHECKING:
    from prodrec.cluster.estimate import Estimate

console = Console(highlight=False, soft_wrap=True)


class RunDisplay:
    """One line an epoch or a trial, and under it a bar with loss, accuracy, images/s and the time left."""

    def __init__(self, bar: Progress, name: str = "") -> None:
        self.bar = bar
        self.name = name and f"{name}  "
        self.task = bar.add_task(f"{self.name}starting", total=None, facts="")

    def progress(self, progress: RunProgress) -> None:
        facts = f"{_facts(progress.metrics)}  {progress.images_per_s:,.0f} images/s  {_duration(progress.eta_s)} left"
        done = (progress.epoch - 1) * progress.steps + progress.step
        total = progress.epochs * progress.steps
        self.bar.update(self.task, description=f"{self.name}epoch {progress.epoch}/{progress.epochs}", completed=done, total=total, facts=facts)

    def epoch(self, metrics: dict[str, Any]) -> None:
        splits = [f"{split} {_facts(metrics, f'{split}_')}" for split in ("train", "val") if f"{split}_loss" in metrics]
        if "trial" in metrics:
            self.bar.console.print(f"{self.name}trial {metrics['trial']:>3}  {head_tried(metrics):<30}  {'  '.join(splits)}  {metrics['seconds']:.1f} s")
        else:
            pace = f"{metrics['images_per_s']:,.0f} images/s, {metrics['data_wait_s']:.1f} s waiting for input"
            skipped = f"  {metrics['skipped_steps']} steps left out (gradient not finite)" if metrics.get("skipped_steps") else ""
            self.bar.console.print(f"{self.name}epoch {metrics['epoch']:>3}  {'  '.join(splits)}  {pace}{skipped}")

    def embedding(self, done: int, total: int, images_per_s: float) -> None:
        left = f"{_duration((total - done) / images_per_s)} left" if images_per_s else ""
        self.bar.update(self.task, description="embedding", completed=done, total=total, facts=f"{images_per_s:,.0f} images/s  {left}")

    def note(self, text: str) -> None:
        self.bar.console.print(text)


@contextmanager
def run_display() -> Iterator[RunDisplay]:
    """A display for the time of a run."""
    with _run_bars() as bar:
        yield RunDisplay(bar)


@contextmanager
def runs_display() -> Iterator[Callable[[str], RunDisplay]]:
    """Displays of several runs, by name, a bar for each."""
    with _run_bars() as bar:
        yield lambda name: RunDisplay(bar, name)


def _run_bars() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
    return Progress(*columns, console=console, disable=not sys.stdout.isatty(), transient=True)


class PrepareDisplay:
    """A bar over the rows of a source; without a terminal, a line at each tenth.

    Args:
        doing, done: what, such as `preparing` and `prepared`.
    """

    def __init__(self, bar: Progress, doing: str, done: str) -> None:
        self.bar, self.done = bar, done
        self.task = bar.add_task(doing, total=None, facts="")
        self.tenths = 0

    def __call__(self, done: int, rejected: int, total: int) -> None:
        facts = f"{rejected} rejected"
        self.bar.update(self.task, completed=done, total=total, facts=facts)
        if self.bar.disable and done * 10 // total > self.tenths:
            self.tenths = done * 10 // total
            self.bar.console.print(f"{self.done} {done:,} of {total:,} images, {facts}")


@contextmanager
def prepare_display(doing: str = "preparing", done: str = "prepared", quiet: bool = False) -> Iterator[PrepareDisplay]:
    """A display for the time of a pass over all images; a quiet one leaves stdout to what a program reads."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    more = (TextColumn("{task.fields[facts]}"), TimeElapsedColumn(), TimeRemainingColumn())
    where = Console(stderr=True, highlight=False, soft_wrap=True) if quiet else console
    with Progress(*columns, *more, console=where, disable=not where.is_terminal, transient=True) as bar:
        yield PrepareDisplay(bar, doing, done)


class BulkDisplay:
    """A bar over the images of a bulk run; without a terminal, a line at each twentieth."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("tagging", total=None, facts="")
        self.told = 0

    def __call__(self, done: int, total: int, rate: float) -> None:
        left = f"{_duration((total - done) / rate)} left" if rate else ""
        facts = f"{rate:,.0f} images/s  {left}" if rate >= 0.5 else left
        self.bar.update(self.task, total=total, completed=done, facts=facts)
        if self.bar.disable and done * 20 // total > self.told:
            self.told = done * 20 // total
            self.bar.console.print(f"done: {done:,} of {total:,} images  {facts.strip()}")


@contextmanager
def bulk_display() -> Iterator[BulkDisplay]:
    """A display for the time of a bulk run."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"), TimeElapsedColumn())
    # What a program reads goes to stdout, and nothing else does.
    with Progress(*columns, console=Console(stderr=True, highlight=False, soft_wrap=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        yield BulkDisplay(bar)


def summary_text(run: RunRecord, duplicates: int) -> str:
    """The accounting of a finished run, for people."""
    again = f" ({duplicates:,} named twice)" if duplicates else ""
    rows = f"{run.rows_in:,} images in = {run.rows_tagged:,} tagged + {run.rows_skipped:,} skipped{again} + {run.rows_rejected:,} rejected"
    decided = f"{run.accepted:,} accepted, {run.reviewed:,} to review, {run.refused:,} rejected"
    unchanged = (run.listings or 0) - (run.accepted or 0) - (run.reviewed or 0) - (run.refused or 0)
    return f"{rows}\n{run.listings:,} listings: {decided}, {unchanged:,} unchanged\nrun {run.run_id}, bundle {run.bundle_id}, policy {run.policy_id}"


def estimate_text(estimate: "Estimate", price_per_hour: float | None) -> str:
    """What a dry run says, for people."""
    counts, places = estimate.counts, f"{estimate.workers} {estimate.worker}{'s' if estimate.workers > 1 else ''}"
    decided = f"{counts['accepted']:,} accepted, {counts['reviewed']:,} to review, {counts['refused']:,} rejected"
    cost = f", {estimate.seconds / 3600 * estimate.workers * price_per_hour:,.2f} at {price_per_hour:g} an hour for each" if price_per_hour is not None else ""
    return (
        f"sample of {estimate.sampled:,} images: {estimate.images_per_s:,.0f} images/s on {places}; {counts['rows_rejected']:,} images rejected; "
        f"of {counts['listings']:,} listings {decided}\n"
        f"{estimate.images:,} images: {_duration(estimate.seconds)} on {places}{cost}, and up to a minute to start; nothing was written"
    )


def _facts(metrics: dict[str, Any], prefix: str = "") -> str:
    shares = {"top1": "top-1", "ap50": "AP50"}
    said = [f"{words} {metrics[prefix + name]:.1%}" for name, words in shares.items() if prefix + name in metrics]
    # Plain where it is known, so that train and val can be compared.
    loss = metrics.get(f"{prefix}nll", metrics[f"{prefix}loss"])
    return "  ".join([f"loss {loss:.3f}", *said])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
