"""How many images are fetched at once, and which hosts are not asked for a while."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prodrec.errors import Reject, RejectCode


class ConcurrencyLimiter:
    """Fetches at once, in all and of one host; hosts that nobody waits for leave no trace.

    Args:
        wait_s: the longest wait for a slot.
    """

    def __init__(self, per_host: int, in_all: int, wait_s: float) -> None:
        self._per_host, self._in_all, self._wait_s = per_host, in_all, wait_s
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def slot(self, host: str, shown: str) -> Iterator[None]:
        """Raises: Reject: `fetch_timeout`: no free slot within the wait; `shown` names the image in it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(host), self._wait_s):
                raise Reject(RejectCode.FETCH_TIMEOUT, f"{shown}: no free slot in {self._wait_s:g} s")
            self._busy[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= Counter([host])
                self._changed.notify_all()

    def _is_free(self, host: str) -> bool:
        return self._busy[host] < self._per_host and self._busy.total() < self._in_all


class CircuitBreaker:
    """Hosts that did not answer to `after` images in a row are not asked for `for_s` seconds; then one image at a time tries again.

    Args:
        patience_s: how long the images of a host wait for it from when it fell silent; later ones, and all if it is 0, are refused
            at once. It is halved with each host that falls silent, and whole again when one of them answers: many dead hosts cost
            twice of it in all.
    """

    def __init__(self, after: int, for_s: float, patience_s: float) -> None:
        self._after, self._for_s, self._patience_s = after, for_s, patience_s
        self._left_s = patience_s
        self._unanswered: Counter[str] = Counter()
        self._asked_again_s: dict[str, float] = {}
        self._waited_for_s: dict[str, float] = {}
        self._is_closed = False
        self._changed = threading.Condition()

    def wait(self, host: str, shown: str) -> None:
        """Until an image of the host may ask for a slot; `may_ask` says whether it still may once it has one.

        Raises: Reject: `fetch_failed`: the host is silent, and was waited for.
        """
        with self._changed:
            while (wait_s := self._silent_for_s(host)) > 0:
                left_s = 0.0 if self._is_closed else self._waited_for_s[host] - time.monotonic()
                if left_s <= 0:
                    detail = f"{shown}: {host} did not answer to {self._unanswered[host]} images in a row, and is not asked for a while"
                    raise Reject(RejectCode.FETCH_FAILED, detail)
                self._changed.wait(min(wait_s, left_s))

    def may_ask(self, host: str) -> bool:
        """Whether the image that has a slot may ask; of a silent host, the one that tries again."""
        with self._changed:
            if self._silent_for_s(host) > 0:
                return False
            if self._unanswered[host] >= self._after:
                self._asked_again_s[host] = time.monotonic() + self._for_s
            return True

    def note(self, host: str, answered: bool) -> None:
        """What came of an image."""
        with self._changed:
            if answered:
                self._unanswered.pop(host, None)
                self._asked_again_s.pop(host, None)
                if self._waited_for_s.pop(host, None):
                    self._left_s = self._patience_s
                    self._changed.notify_all()
                return
            now_s = time.monotonic()
            self._unanswered[host] += 1
            self._asked_again_s[host] = now_s + self._for_s
            if self._unanswered[host] >= self._after and host not in self._waited_for_s:
                self._waited_for_s[host] = now_s + self._left_s
                self._left_s /= 2

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _silent_for_s(self, host: str) -> float:
        return self._asked_again_s[host] - time.monotonic() if self._unanswered[host] >= self._after else 0.0
