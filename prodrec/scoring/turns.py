"""Whose turn it is to be fetched, and which hosts are not asked for a while."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prodrec.errors import Reject, RejectCode


class Turns:
    """So many at once, and so many of one host; hosts that nobody waits for leave no trace.

    Args:
        wait_s: the longest wait for a turn.
    """

    def __init__(self, per_host: int, in_all: int, wait_s: float) -> None:
        self._per_host, self._in_all, self._wait_s = per_host, in_all, wait_s
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, host: str, shown: str) -> Iterator[None]:
        """Raises: Reject: `fetch_timeout`: no turn within the wait; `shown` names the image in it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(host), self._wait_s):
                raise Reject(RejectCode.FETCH_TIMEOUT, f"{shown}: no turn in {self._wait_s:g} s")
            self._busy[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= Counter([host])
                self._changed.notify_all()

    def _is_free(self, host: str) -> bool:
        return self._busy[host] < self._per_host and self._busy.total() < self._in_all


class Silence:
    """Hosts that did not answer to `after` images in a row are not asked for `for_s` seconds; then one image at a time tries again."""

    def __init__(self, after: int, for_s: float) -> None:
        self._after, self._for_s = after, for_s
        self._unanswered: Counter[str] = Counter()
        self._asked_again_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, host: str, shown: str) -> None:
        """Raises: Reject: `fetch_failed`: the host is silent."""
        with self._lock:
            now_s = time.monotonic()
            if self._unanswered[host] < self._after:
                return
            if now_s < self._asked_again_s[host]:
                raise Reject(
                    RejectCode.FETCH_FAILED, f"{shown}: {host} did not answer to {self._unanswered[host]} images in a row, and is not asked for a while"
                )
            self._asked_again_s[host] = now_s + self._for_s

    def note(self, host: str, answered: bool) -> None:
        """What came of an image."""
        with self._lock:
            if answered:
                self._unanswered.pop(host, None)
                self._asked_again_s.pop(host, None)
            else:
                self._unanswered[host] += 1
                self._asked_again_s[host] = time.monotonic() + self._for_s
