"""Images by URI from the web, within limits: a hostile or broken URI costs itself only.

Requests go out through httpcore itself, not an httpx client: it follows no redirect, keeps no cookie, reads no proxy from
the environment and inflates no body. Not covered: whether the bytes are an image (the decoder tells), files and object
stores (prodrec.sources.image_bytes).
"""

import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Literal, Self

import httpcore
import httpx
from pydantic import Field, field_validator

from prodrec.config import Frozen, PositiveFloat, PositiveInt
from prodrec.errors import ConfigError, Reject, RejectCode
from prodrec.scoring.addresses import Entry, Target, Web
from prodrec.scoring.answers import Passing, read_answer
from prodrec.scoring.connections import Connector, Refused, Resolve, seconds_left, time_limit
from prodrec.scoring.limits import CircuitBreaker, ConcurrencyLimiter
from prodrec.version import code_version

# An idle connection is kept this long. Source: httpx's default; Apache's servers hang up after 5 s.
KEEP_ALIVE_S = 5.0
# Of a reason in a reject's detail. Source: assumed.
_REASON_CHARS = 120


class FetchLimits(Frozen):
    """What is fetched, and what it may cost.

    Attributes:
        schemes: `http` must be asked for.
        hosts: what may be fetched: `shop.example`, `.shop.example` for the hosts below it, `shop.example:8080` (other ports than
            80 and 443), or `*` for any host with public addresses. (): nothing is fetched.
        allow_private: hosts that are listed by name may have loopback, private and other special addresses, and any port.
        ca_file: PEM file of the only authorities to trust; None: those that certifi lists.
        max_bytes: of an image. Source: as prodrec.images.decode.ImageLimits.
        connect_timeout_s, read_timeout_s, write_timeout_s: of one step: the connection (name, TCP and TLS each), the wait for
            bytes, sending. Source: httpx's default of 5 s; reading twice that, as image servers may scale on demand (assumed).
        pool_timeout_s: the longest wait for a slot, before an image's own time starts. Source: concurrency / per_host = 6 turns
            of total_timeout_s.
        total_timeout_s: of an image once it has its slot, with all its tries and the waits between. Source: assumed.
        retries: tries after the first. Source: assumed.
        backoff_s: the longest wait before the second try; doubles with each, the wait is random below it.
            Source: "Exponential Backoff and Jitter", AWS Architecture Blog 2015 (full jitter).
        max_retry_after_s: a server's longer Retry-After is cut to this. Source: assumed.
        silent_after: a host that has not answered to so many images in a row, all their tries taken, is not asked for `silence_s`
            seconds, and then by one image at a time: a dead host must not cost each of its images total_timeout_s. What counts
            is no connection, no answer in time, or HTTP 429, 502, 503 or 504. Source: assumed.
        patience_s: how long the images of such a host wait for it before they are refused; 0 where a person waits for the answer.
        concurrency: images in flight at once, and held at once by `fetch_all`. Source: assumed; at 200 ms an image, 160 a second.
        per_host: of them, from one host. Source: six is what browsers open to a host.
    """

    schemes: Annotated[tuple[Literal["https", "http"], ...], Field(min_length=1)] = ("https",)
    hosts: tuple[str, ...] = ()
    allow_private: bool = False
    ca_file: str | None = None
    max_bytes: PositiveInt = 50_000_000
    connect_timeout_s: PositiveFloat = 5.0
    read_timeout_s: PositiveFloat = 10.0
    write_timeout_s: PositiveFloat = 5.0
    pool_timeout_s: PositiveFloat = 180.0
    total_timeout_s: PositiveFloat = 30.0
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    backoff_s: PositiveFloat = 0.5
    max_retry_after_s: PositiveFloat = 10.0
    silent_after: PositiveInt = 5
    silence_s: PositiveFloat = 60.0
    patience_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    concurrency: Annotated[int, Field(ge=1, le=256)] = 32
    per_host: PositiveInt = 6

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            Entry.parse(host)
        return hosts


class Fetcher:
    """Fetches images; any number of threads may use one. Connections are kept and used again.

    Args:
        limits: what is fetched, and what it may cost.
        resolve: socket.getaddrinfo or one with its signature.

    Raises:
        ConfigError: `limits.ca_file` cannot be read.
    """

    def __init__(self, limits: FetchLimits, resolve: Resolve = socket.getaddrinfo) -> None:
        self._limits = limits
        self._web = Web(limits.schemes, limits.hosts, limits.allow_private)
        self._limiter = ConcurrencyLimiter(limits.per_host, limits.concurrency, limits.pool_timeout_s)
        self._breaker = CircuitBreaker(limits.silent_after, limits.silence_s, limits.patience_s)
        self._threads = ThreadPoolExecutor(limits.concurrency, "fetch")
        self._closing = threading.Event()
        self._timeouts = {"connect": limits.connect_timeout_s, "read": limits.read_timeout_s, "write": limits.write_timeout_s, "pool": limits.pool_timeout_s}
        self._agent = f"prodrec/{code_version().partition('+')[0]}".encode()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_trust(limits.ca_file),
            max_connections=limits.concurrency,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=Connector(self._web, resolve),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends waits between tries, lets requests under way end, and closes all connections."""
        self._closing.set()
        self._breaker.close()
        self._threads.shutdown(cancel_futures=True)
        self._pool.close()

    def fetch(self, uri: str) -> bytes:
        """Fetches one image.

        Raises:
            Reject: `not_allowed` (scheme, host, port, address, redirect), `missing` (404, 410), `too_large`, `fetch_timeout`,
                or `fetch_failed`. Its detail shows neither a query nor a user's name.
        """
        target = self._web.target(uri)
        while True:
            # Before the slot and its time: images that wait for a silent host hold up no other.
            self._breaker.wait(target.host, str(target))
            with self._limiter.slot(target.host, str(target)), time_limit(self._limits.total_timeout_s):
                if self._breaker.may_ask(target.host):
                    return self._noted(target)

    def _noted(self, target: Target) -> bytes:
        try:
            data = self._try(target)
        except Reject as reject:
            self._breaker.note(target.host, answered=not (isinstance(reject.__cause__, Passing) and reject.__cause__.of_host))
            raise
        self._breaker.note(target.host, answered=True)
        return data

    def fetch_all(self, uris: Iterable[str]) -> Iterator[bytes | Reject]:
        """Fetches images side by side and yields them in order; at most `concurrency` of them are held."""
        pending: deque[Future[bytes | Reject]] = deque()
        try:
            for uri in uris:
                pending.append(self._threads.submit(self._attempt, uri))
                if len(pending) == self._limits.concurrency:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _attempt(self, uri: str) -> bytes | Reject:
        try:
            return self.fetch(uri)
        except Reject as reject:
            # A new one: the raised one holds, by its traceback, what was read of the body.
            return Reject(reject.code, reject.detail)

    def _try(self, target: Target) -> bytes:
        tries = 1
        while True:
            try:
                return self._ask(target)
            except Passing as failure:
                wait_s = self._wait_s(tries, failure)
                if tries > self._limits.retries or wait_s >= seconds_left() or self._closing.wait(wait_s):
                    raise Reject(failure.code, f"{target}: {failure} (tries: {tries})") from failure
            tries += 1

    def _wait_s(self, tries: int, failure: "Passing") -> float:
        if failure.retry_after_s is not None:
            return min(failure.retry_after_s, self._limits.max_retry_after_s)
        return random.uniform(0, self._limits.backoff_s * 2 ** (tries - 1))

    def _ask(self, target: Target) -> bytes:
        """One request.

        Raises:
            Reject: another try would end alike.
            Passing: another try may do better.
        """
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.target)
        headers = [(b"Host", target.netloc), (b"User-Agent", self._agent), (b"Accept", b"image/*"), (b"Accept-Encoding", b"identity")]
        try:
            with self._pool.stream("GET", url, headers=headers, extensions={"timeout": self._timeouts}) as response:
                return read_answer(target, response, self._limits.max_bytes)
        except Refused as refused:
            raise Reject(refused.code, f"{target}: {refused}") from refused
        except httpcore.TimeoutException as error:
            raise Passing(RejectCode.FETCH_TIMEOUT, f"no answer in time ({type(error).__name__})") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Passing(RejectCode.FETCH_FAILED, " ".join(str(error).split())[:_REASON_CHARS] or type(error).__name__) from error


def _trust(ca_file: str | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"cannot read the certificates of {ca_file}: {error}; give a PEM file of the authorities to trust") from error
