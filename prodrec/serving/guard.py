"""What stands before the application: keys, places, limits of size and time, and the headers that every answer has.

A plain ASGI middleware, so that a body is counted while it streams, before anything of it is parsed or kept.
"""

import asyncio
import hmac
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prodrec.serving.metrics import REQUEST_SECONDS, REQUESTS, Meter
from prodrec.serving.problems import Problem, busy
from prodrec.serving.settings import ServingSettings, hash_key

# Of a scope: counts bytes that the request holds beside its body.
TAKE = "prodrec.take"
_log = logging.getLogger("prodrec.serving")

# Nothing from elsewhere, no inline scripts or styles, no framing. Source: OWASP Secure Headers Project.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
# What is read of a body that is refused. Source: assumed; a photo of a phone over a slow line.
_DRAIN_BYTES, _DRAIN_S = 64_000_000, 2.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Guard:
    """Wraps an ASGI application.

    Args:
        largest: of bodies by path, bytes; others have `settings.max_body_bytes`.
        names_requests: gives each answer an X-Request-ID; not where a server does that already.
    """

    def __init__(self, app: ASGIApp, settings: ServingSettings, meter: Meter, largest: dict[str, int], names_requests: bool = True) -> None:
        self.app, self.settings, self.meter, self.largest, self.names_requests = app, settings, meter, largest, names_requests
        self.in_flight, self.held_bytes, self.waiting = 0, 0, 0
        self._places = asyncio.Semaphore(settings.max_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, headers = _path(scope), Headers(scope=scope)
        answer, body = _Answer(send, scope, self.names_requests), _Body(self, receive, self.largest.get(path, self.settings.max_body_bytes), headers)
        scope[TAKE] = body.take
        try:
            await self._guarded(path, headers, scope, body, answer)
        except Problem as problem:
            await self._refuse(problem, scope, body, answer)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:  # never the details: they may name paths
            _log.exception("request %s: %s", answer.request_id, type(error).__name__)
            await self._refuse(Problem(500, "internal", f"see the server's log for request {answer.request_id}"), scope, body, answer)
        finally:
            self.held_bytes -= body.size
            self._count(scope, answer)

    async def _guarded(self, path: str, headers: Headers, scope: Scope, body: "_Body", answer: "_Answer") -> None:
        if _is_guarded(path):
            self._check_key(headers)
        if not _is_guarded(path) or path == "/metrics":
            await self.app(scope, body.receive, answer)
            return
        async with self._place():
            limit = asyncio.timeout(None)
            try:
                body.check_length(headers)
                async with limit:
                    body.watch(limit)
                    answer.on_piece = body.allow_answer
                    await self.app(scope, body.receive, answer)
            except TimeoutError as error:
                if not limit.expired():  # one of the application's own
                    raise
                late = Problem(504, "timeout", f"not answered within {self.settings.request_timeout_s:g} s")
                slow = Problem(408, "too_slow_body", f"the body did not come within {self.settings.body_timeout_s:g} s")
                raise (late if body.is_whole else slow) from error

    def _check_key(self, headers: Headers) -> None:
        if not self.settings.api_keys:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        found = hash_key(key.strip())
        # All are compared, in constant time: neither which key nor how much of it is right can be told by the time.
        if scheme.lower() != "bearer" or not sum(hmac.compare_digest(found, known) for known in self.settings.api_keys):
            raise Problem(401, "no_key", "no valid key came with the request", headers={"WWW-Authenticate": "Bearer"})

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A burst that is over in a moment turns nobody away: as many as there are places wait so long for one."""
        if self.waiting >= self.settings.max_in_flight:
            raise busy(self.settings.retry_after_s)
        self.waiting += 1
        try:
            async with asyncio.timeout(self.settings.place_wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise busy(self.settings.retry_after_s) from error
        finally:
            self.waiting -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._places.release()

    async def _refuse(self, problem: Problem, scope: Scope, body: "_Body", answer: "_Answer") -> None:
        if not answer.status:
            response = problem.response()
            if not body.is_whole and not await body.drained():
                response.headers["Connection"] = "close"
            await response(scope, body.receive, answer)

    def _count(self, scope: Scope, answer: "_Answer") -> None:
        route = getattr(scope.get("route"), "path", None)
        if route is None:  # refused before it was looked for
            known = {getattr(route, "path", "") for route in scope["app"].routes} if "app" in scope else set()
            route = _path(scope) if _path(scope) in known else "other"
        self.meter.note(REQUESTS, route=route, status=str(answer.status or 499))
        self.meter.note(REQUEST_SECONDS, time.perf_counter() - answer.begun, route=route)


class _Body:
    """Counts a body as it comes, and gives the answer its own time once it is whole."""

    def __init__(self, guard: Guard, receive: Receive, largest: int, headers: Headers) -> None:
        self.guard, self._receive, self.largest = guard, receive, largest
        # A request without a body: the application may never ask for it.
        self.size, self.is_whole = 0, headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        # Who asks before sending is told before anything is sent.
        self.is_asked_for = headers.get("expect", "").lower() != "100-continue"
        self.limit: asyncio.Timeout | None = None

    def check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.largest:
            raise self._too_large()

    def watch(self, limit: asyncio.Timeout) -> None:
        """Begins the time for the body, or for the answer where there is none."""
        self.limit = limit
        if self.is_whole:
            self.allow_answer()
        else:
            self._allow(self.guard.settings.body_timeout_s)

    def allow_answer(self) -> None:
        """Begins the time for the answer, or for its next piece."""
        self._allow(self.guard.settings.request_timeout_s)

    async def receive(self) -> Message:
        self.is_asked_for = True
        message = await self._receive()
        if message["type"] == "http.request":
            self.take(len(message.get("body", b"")))
            if not message.get("more_body") and not self.is_whole:
                self.is_whole = True
                self.allow_answer()
        return message

    async def drained(self) -> bool:
        """Reads on to the end of what is refused, and keeps nothing of it; False: not within the limits.

        Many clients look for an answer only once they have sent all; a connection that is closed before is all that they see.
        """
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while self.is_asked_for and size < _DRAIN_BYTES:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body"):
                        self.is_whole = True
                        return message["type"] == "http.request"
        return False

    def _allow(self, seconds: float) -> None:
        if self.limit:
            self.limit.reschedule(asyncio.get_running_loop().time() + seconds)

    def take(self, size: int) -> None:
        """Counts bytes that are held for this request until it is answered. Raises: Problem: they are too many."""
        self.size += size
        self.guard.held_bytes += size
        if self.size > self.largest:
            raise self._too_large()
        if self.guard.held_bytes > self.guard.settings.max_held_bytes:
            raise busy(self.guard.settings.retry_after_s, "too many bytes are in work")

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"at most {self.largest:,} bytes are read")


class _Answer:
    """Sends an answer with the headers that all have, and keeps its status (0: none was begun)."""

    def __init__(self, send: Send, scope: Scope, is_named: bool) -> None:
        self.is_named = is_named
        self._send, self.status, self.begun = send, 0, time.perf_counter()
        theirs = Headers(scope=scope).get("x-request-id", "")
        self.request_id = theirs if _REQUEST_ID.fullmatch(theirs) else secrets.token_hex(8)
        self.is_api = _is_guarded(_path(scope))
        self.on_piece: Callable[[], None] = lambda: None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers().items():
                headers.setdefault(name, value)
        await self._send(message)
        if message.get("more_body"):  # a long answer may take its time as long as it goes on
            self.on_piece()

    def _headers(self) -> dict[str, Any]:
        return _HEADERS | ({"X-Request-ID": self.request_id} if self.is_named else {}) | ({"Cache-Control": "no-store"} if self.is_api else {})


def _path(scope: Scope) -> str:
    """As routes see it: a server may have put the application below a path of its own."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _is_guarded(path: str) -> bool:
    return path.startswith("/v1/") or path == "/metrics"
