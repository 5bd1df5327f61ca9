"""A process that hangs ends itself: whoever launched it can then go on without it."""

import faulthandler
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")

# Seconds without a batch or a step after which a process counts as hung. Reading from a store that throttles, compiling a model and
# writing a large checkpoint take minutes, and a run that is ended in the midst of them would never get further. Source: assumed.
STALL_S = 600.0
_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again


class Watchdog:
    """Watches over iterations of this process.

    Args:
        stall_s: the longest time between two items, seconds.
        tell: one line for a person, before the process ends.
    """

    def __init__(self, tell: Callable[[str], Any], stall_s: float = STALL_S) -> None:
        self.tell, self.stall_s, self.deadline = tell, stall_s, math.inf
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def watched(self, items: Iterator[Item]) -> Iterator[Item]:
        """Passes items on; each must come, and be worked off, in time."""
        try:
            self.deadline = time.monotonic() + self.stall_s
            for item in items:
                self.deadline = time.monotonic() + self.stall_s
                yield item
                self.deadline = time.monotonic() + self.stall_s
        finally:
            self.deadline = math.inf

    def _watch(self) -> None:
        while time.monotonic() < self.deadline:
            time.sleep(min(1.0, self.stall_s / 10))
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr, all_threads=True)
        self.tell(f"no batch or step for {self.stall_s:.0f} s: process {os.getpid()} ends itself; where its threads stand is in its log")
        time.sleep(1)  # what is told is sent by another thread
        os._exit(_EXIT_CODE)
