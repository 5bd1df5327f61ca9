"""One request and its answer as plain data: what is sent, where a body goes, and what an answer comes to. Sends nothing itself."""

import io
import json
import re
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from email.utils import mktime_tz, parsedate_tz
from http.client import responses
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias, TypeVar

import httpx

from prodrec.client.answers import Problem
from prodrec.client.errors import BadAnswer, ClientError, Refused, refusal
from prodrec.client.parsing import parse

T = TypeVar("T")

_ANY_TYPE = "application/octet-stream"


class Part(NamedTuple):
    """One file of a form; a Path is read while it is sent."""

    field: str
    name: str
    data: bytes | Path


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        path: after the base URL.
        repeat: `always`: sent twice it does no more than once; `unseen`: to be sent again only where the server has not taken it up;
            `never`: the caller asks again itself.
        after_s: is waited first, seconds. at_most_s: bounds each timeout of the client, seconds.
        save_to: the file that the body of a good answer becomes; None: it stays in memory.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    accept: str = "application/json"
    content: bytes | None = None
    json: Mapping[str, str] | None = None
    parts: tuple[Part, ...] = ()
    repeat: Literal["always", "unseen", "never"] = "always"
    after_s: float = 0.0
    at_most_s: float | None = None
    save_to: Path | None = None

    @contextmanager
    def opened(self, timeout: httpx.Timeout) -> Iterator[dict[str, Any]]:
        """The arguments of `httpx.Client.stream`; files are open within.

        Raises:
            OSError: a file to be sent cannot be read.
        """
        headers = {"Accept": self.accept} | ({} if self.content is None else {"Content-Type": _ANY_TYPE})
        limits = {name: limit if self.at_most_s is None else min(limit, self.at_most_s) for name, limit in timeout.as_dict().items() if limit is not None}
        with ExitStack() as stack:
            files = [(part.field, (part.name, _opened(part.data, stack), _ANY_TYPE)) for part in self.parts]
            yield {
                "method": self.method,
                "url": self.path,
                "params": dict(self.params),
                "headers": headers,
                "content": self.content,
                "json": self.json,
                "files": files or None,
                "timeout": httpx.Timeout(**limits),
            }


@dataclass(frozen=True, slots=True)
class Reply:
    """What came: the status, the headers, and the body as far as it was not saved."""

    url: str
    status: int
    headers: httpx.Headers
    file: BinaryIO

    def body(self) -> bytes:
        """All of it, from memory."""
        self.file.seek(0)
        return self.file.read()

    def parsed(self, kind: type[T]) -> T:
        """The body as a value.

        Raises:
            BadAnswer: it is another document.
        """
        try:
            return parse(kind, json.loads(self.body()))
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"{self.url} is no answer of prodrec that this client knows: {error}; check base_url, or update the client") from error


# An exchange of several requests: yields each, is sent its reply or thrown its error, returns what comes of them.
Steps: TypeAlias = Generator[Request, Reply, T]


@contextmanager
def arriving(request: Request, response: httpx.Response) -> Iterator[Reply]:
    """Where an answer's body is written to, piece by piece. A saved one takes its name once it is whole.

    Raises:
        OSError: the file cannot be written.
    """
    url = str(response.url.copy_with(query=None))
    if request.save_to is None or not response.is_success:
        yield Reply(url, response.status_code, response.headers, io.BytesIO())
        return
    aside = request.save_to.with_name(f".{request.save_to.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with aside.open("xb") as file:
            yield Reply(url, response.status_code, response.headers, file)
        aside.replace(request.save_to)
    finally:
        aside.unlink(missing_ok=True)


def good(outcome: Reply | ClientError) -> Reply:
    """A reply that is an answer.

    Raises:
        ClientError: what else came of the request.
    """
    if isinstance(outcome, ClientError):
        raise outcome
    if 200 <= outcome.status < 300:
        return outcome
    if outcome.status < 400:
        target = outcome.headers.get("Location", "").partition("?")[0]
        raise BadAnswer(f"{outcome.url} answered with {outcome.status}, a redirect to {target!r}, and none is followed; give the final address as base_url")
    raise _refused(outcome)


def query(**values: str | int | None) -> dict[str, str]:
    """Only what is given: the rest is the server's to choose."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _refused(reply: Reply) -> Refused:
    request_id, retry_after_s = reply.headers.get("X-Request-ID"), _retry_after_s(reply.headers.get("Retry-After", ""))
    try:
        problem = replace(reply.parsed(Problem), status=reply.status)
    except BadAnswer:
        detail = f"{reply.url}: {responses.get(reply.status, 'unknown status')}"
        problem = Problem(reply.status, f"http_{reply.status}", detail, "this answer is not of prodrec but of what is in between")
        return refusal(problem, False, request_id, retry_after_s)
    return refusal(problem, True, request_id, retry_after_s)


def _retry_after_s(value: str) -> float | None:
    """Seconds of a Retry-After header, which gives seconds or a date; None where it gives neither."""
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        date = parsedate_tz(value)
        return max(0.0, mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):
        return None


def _opened(data: bytes | Path, stack: ExitStack) -> bytes | BinaryIO:
    return stack.enter_context(data.open("rb")) if isinstance(data, Path) else data
