"""Looking again and again until a time limit."""

import time

from prodrec.client.errors import TimedOut
from prodrec.client.exchange import Request

# The last look before a time limit has at least so long. Source: assumed.
LAST_LOOK_S = 1.0


class Looks:
    """A time limit, from when it is made."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    def next(self, path: str, pause_s: float) -> Request:
        """The next look, after a pause, both within the limit."""
        left_s = max(0.0, self._end - time.monotonic())
        pause_s = min(pause_s, left_s)
        return Request("GET", path, repeat="never", after_s=pause_s, at_most_s=max(LAST_LOOK_S, left_s - pause_s))

    def check(self, message: str) -> None:
        """Raises: TimedOut: the limit has passed."""
        if time.monotonic() >= self._end:
            raise TimedOut(message)
