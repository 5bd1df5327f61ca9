"""Where a run on the cluster posts how far it is. Needs no torch: its actor starts in a moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from prodrec.training.progress import Progress, RunObserver

# For news of a run; on a busy machine an actor may be slow. Source: assumed.
_LOOK_TIMEOUT_S = 30


class Board:
    """Where rank 0 posts how far it is, for the driver to look at."""

    def __init__(self) -> None:
        self.latest: Progress | None = None
        self.news: list[dict[str, Any] | str] = []

    def progress(self, progress: Progress) -> None:
        self.latest = progress

    def epoch(self, metrics: dict[str, Any]) -> None:
        self.news.append(metrics)

    def note(self, text: str) -> None:
        self.news.append(text)

    def look(self, seen: int) -> tuple[Progress | None, list[dict[str, Any] | str]]:
        return self.latest, self.news[seen:]


@contextmanager
def observed(board: Any, observer: RunObserver, every_s: float = 0.5) -> Iterator[None]:
    """Passes the board's news to the observer while the block runs, and the last of them at its end."""
    done, seen = threading.Event(), 0

    def look() -> None:
        nonlocal seen
        try:
            progress, news = ray.get(board.look.remote(seen), timeout=_LOOK_TIMEOUT_S)
        except (RayError, TimeoutError):
            return
        seen += len(news)
        for item in news:
            if isinstance(item, str):
                observer.note(item)
            else:
                observer.epoch(item)
        if progress:
            observer.progress(progress)

    def watch() -> None:
        while not done.wait(every_s):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look()
