"""CPU time and memory of a process and all that it started: what a system costs that spreads over many processes."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

import psutil

# Ray alone takes 0.1 of a core. Source: measured. The rest: assumed.
_IDLE_CORES, _SETTLE_S, _SETTLE_TRIES = 0.3, 2.0, 30


class Cost(NamedTuple):
    """What a run took: images shown, CPU seconds of all its processes, seconds."""

    images: int
    cpu_s: float
    wall_s: float


class TreeClock:
    """CPU seconds of this process and its descendants, those of looking left out.

    They are looked at all the time, as a process that ends takes its clock along: at most its last `every_s` are lost.
    """

    def __init__(self, every_s: float = 0.25) -> None:
        self._root, self._seconds, self._looking_s = psutil.Process(), dict[psutil.Process, float](), 0.0
        self._every_s, self._done, self._lock = every_s, threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def read(self) -> float:
        with self._lock:
            started = time.thread_time()
            for process in _tree(self._root):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    self._seconds[process] = times.user + times.system
            self._looking_s += time.thread_time() - started
            return sum(self._seconds.values()) - self._looking_s

    def settle(self) -> None:
        """Waits until the tree is nearly idle: a Ray actor's first call, which loads its libraries for seconds, may come after the run that made it."""
        for _ in range(_SETTLE_TRIES):
            before = self.read()
            time.sleep(_SETTLE_S)
            if self.read() - before < _IDLE_CORES * _SETTLE_S:
                return

    def cost(self, run: Callable[[int], int], epochs: int) -> Cost:
        """What `run(epochs)` takes; it returns the number of images."""
        cpu_s, wall_s = self.read(), time.monotonic()
        images = run(epochs)
        return Cost(images, self.read() - cpu_s, time.monotonic() - wall_s)

    def _watch(self) -> None:
        while not self._done.wait(self._every_s):
            self.read()


def resident_bytes(root: psutil.Process) -> int:
    """Proportional set size of the tree: pages that processes share are counted once."""
    resident = 0
    for process in _tree(root):
        with suppress(psutil.NoSuchProcess):
            resident += process.memory_full_info().pss
    return resident


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
