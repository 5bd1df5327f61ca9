"""Which failures another try may mend, and after which wait."""

import random
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeVar

from prodrec.client.errors import Busy, ClientError, GatewayFault, Unreachable
from prodrec.client.exchange import Reply, Request, Steps, good

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when.

    Attributes:
        tries: after the first.
        backoff_s: the longest wait before the second try; doubles with each, the wait is random below it.
            Source: "Exponential Backoff and Jitter", AWS Architecture Blog 2015 (full jitter).
        longest_s: no wait is longer, neither by doubling nor because the server asks for it.
    """

    tries: int
    backoff_s: float
    longest_s: float

    def wait_s(self, request: Request, error: ClientError, tries: int) -> float | None:
        """The wait before the next try, once `tries` have failed; None: there is none."""
        if tries > self.tries or not is_passing(request, error):
            return None
        jitter_s = random.uniform(0, min(self.longest_s, self.backoff_s * 2 ** (tries - 1)))
        asked_s = error.retry_after_s if isinstance(error, Busy) else None
        # On top of what the server asks for: all whom it sent away would come back at once.
        return min(self.longest_s, jitter_s + (asked_s or 0.0))


def is_passing(request: Request, error: ClientError) -> bool:
    """Whether the same request may do better in a moment, and may be sent again.

    Timeouts are none of these: the server may be at it still, and another try would double its work.
    """
    if request.repeat == "never":
        return False
    if isinstance(error, Busy) or (isinstance(error, Unreachable) and not error.may_have_arrived):
        return True
    return request.repeat == "always" and isinstance(error, Unreachable | GatewayFault)


def with_retries(steps: Steps[T], retries: Retries) -> Generator[Request, Reply | ClientError, T]:
    """The same steps with each request as often as it needs; is sent what came of each try."""
    try:
        request = next(steps)
        while True:
            try:
                reply = yield from _tried(request, retries)
            except ClientError as error:
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _tried(request: Request, retries: Retries) -> Generator[Request, Reply | ClientError, Reply]:
    tries = 1
    while True:
        try:
            return good((yield request))
        except ClientError as error:
            wait_s = retries.wait_s(request, error, tries)
            if wait_s is None:
                raise
        request, tries = replace(request, after_s=wait_s), tries + 1
