"""Connections to checked addresses, under a time limit that no slow server can stretch.

A name is resolved once, when its connection is opened; every address is checked, and the connection goes to one of those,
so a name that resolves otherwise a moment later (DNS rebinding) gains nothing. TLS still checks the certificate by name.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import httpcore

from prodrec.errors import RejectCode
from prodrec.scoring.addresses import Web

T = TypeVar("T")
# The signature of socket.getaddrinfo.
Resolve = Callable[..., list[tuple[Any, ...]]]

# httpcore's time-outs start anew with each read; a server that sends one byte a second would never meet them.
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class Refused(Exception):
    """A connection that is not to be made, however often it is tried."""

    def __init__(self, code: RejectCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Everything that this thread does on connections within must end in `seconds`."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_left() -> float:
    """Of the time limit; infinite outside of one."""
    return _deadline.get() - time.monotonic()


class Connector(httpcore.NetworkBackend):
    """Opens connections for httpcore.

    Args:
        web: which addresses a host may have.
        resolve: socket.getaddrinfo or one with its signature.
    """

    def __init__(self, web: Web, resolve: Resolve) -> None:
        self._web = web
        self._resolve = resolve
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Raises: Refused: a name that does not exist, or that has an address which may not be connected to."""
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in self._addresses(host, port, timeout):
            try:
                return _Stream(self._plain.connect_tcp(address, port, _clipped(timeout), local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        try:
            found = _within(_clipped(timeout), lambda: self._resolve(host, port, type=socket.SOCK_STREAM))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("resolving the name") from error
        except OSError as error:
            if isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise Refused(RejectCode.FETCH_FAILED, "no such host") from error
            raise httpcore.ConnectError(error) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # One bad address condemns the name. It is not told which: that would map the network behind for whoever asks.
        if not all(self._web.may_connect(host, port, address) for address in addresses):
            raise Refused(RejectCode.NOT_ALLOWED, "the host has an address that is not public")
        return addresses


class _Stream(httpcore.NetworkStream):
    """A connection whose every step also keeps the time limit of the thread that uses it."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _clipped(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _clipped(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> httpcore.NetworkStream:
        """Raises: Refused: the certificate is not for this name, or of no trusted authority."""
        try:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, _clipped(timeout)))
        except BaseException as error:
            self.close()
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise Refused(RejectCode.FETCH_FAILED, f"bad certificate: {error.__cause__.verify_message}") from error
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _clipped(timeout: float | None) -> float | None:
    """The shorter of `timeout` and what is left.

    Raises:
        httpcore.TimeoutException: nothing is left.
    """
    left = seconds_left()
    if left <= 0:
        raise httpcore.TimeoutException("the time limit of the image")
    return left if timeout is None else min(timeout, left)


def _within(timeout: float | None, work: Callable[[], T]) -> T:
    """Runs what cannot be interrupted in a thread of its own, so that a name server that stalls holds up nobody else.

    The thread outlives a time-out until the resolver gives up. Source: resolv.conf(5), by default 5 s, 2 attempts a server.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="resolve", daemon=True).start()
    return answer.result(timeout)
