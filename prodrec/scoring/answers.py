"""What a web server's answer comes to: the bytes of an image, a reject, or a failure that another try may not meet."""

import re
import time
from email.utils import mktime_tz, parsedate_tz

import httpcore

from prodrec.errors import Reject, RejectCode
from prodrec.scoring.addresses import Target

# Answers that may be others in a moment. Source: RFC 9110 15.5.9, 15.6; RFC 8470 5.2; RFC 6585 4.
_PASSING = frozenset({408, 425, 429, *range(500, 600)})
# Those that speak of the whole host. Another, such as 500, may be one path's: whoever asks for it must not shut the host for others.
_OF_HOST = frozenset({429, 502, 503, 504})


class Passing(Exception):
    """A failure that another try may not meet.

    Args:
        of_host: other images of the host are likely to meet it as well.
    """

    def __init__(self, code: RejectCode, reason: str, retry_after_s: float | None = None, of_host: bool = True) -> None:
        super().__init__(reason)
        self.code, self.retry_after_s, self.of_host = code, retry_after_s, of_host


def read_answer(target: Target, response: httpcore.Response, max_bytes: int) -> bytes:
    """Reads the body of an answer to `target`, and no more than `max_bytes` of it.

    Raises:
        Reject: another try would end alike: `missing`, `not_allowed` (a redirect), `too_large` or `fetch_failed`.
        Passing: another try may do better.
    """
    _check_head(target, response, max_bytes)
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(target, max_bytes)
    return bytes(body)


def _check_head(target: Target, response: httpcore.Response, max_bytes: int) -> None:
    headers = {name.lower(): value.decode("latin-1").strip() for name, value in response.headers}
    status = response.status
    if status in (404, 410):
        raise Reject(RejectCode.MISSING, f"{target}: HTTP {status}")
    if 300 <= status < 400:
        raise Reject(RejectCode.NOT_ALLOWED, f"{target}: HTTP {status}, a redirect, which is not followed")
    if status in _PASSING:
        raise Passing(RejectCode.FETCH_FAILED, f"HTTP {status}", _retry_after_s(headers.get(b"retry-after", "")), status in _OF_HOST)
    if status != 200:
        raise Reject(RejectCode.FETCH_FAILED, f"{target}: HTTP {status}")
    if (encoding := headers.get(b"content-encoding", "identity").lower()) != "identity":
        raise Reject(RejectCode.FETCH_FAILED, f"{target}: the body comes encoded ({encoding[:20]!r}), which was not asked for")
    if int(headers.get(b"content-length", "0")) > max_bytes:
        raise _too_large(target, max_bytes)


def _too_large(target: Target, max_bytes: int) -> Reject:
    return Reject(RejectCode.TOO_LARGE, f"{target}: at most {max_bytes:,} bytes are read")


def _retry_after_s(value: str) -> float | None:
    """Seconds of a Retry-After header, which gives seconds or a date; None where it gives neither."""
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        date = parsedate_tz(value)
        return max(0.0, mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):
        return None
