"""`Client` and `AsyncClient`. They differ in how they wait and send; what they send is in the modules of the calls."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx

from prodrec.client import bulk_runs, recognizing, server
from prodrec.client.connection import Connection
from prodrec.client.errors import ClientError, mapped
from prodrec.client.exchange import Reply, Request, Steps, arriving
from prodrec.client.retries import with_retries

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(steps: Callable[P, Steps[T]]) -> Callable[Concatenate["Client", P], T]:
    @wraps(steps)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(steps(*args, **kwargs))

    _sign(method, steps)
    return method


def _awaited(steps: Callable[P, Steps[T]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    @wraps(steps)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(steps(*args, **kwargs))

    _sign(method, steps)
    return method


def _sign(method: Any, steps: Callable[..., object]) -> None:
    """Lets `help` show a method as it is called: with self, and with what comes of the steps."""
    signature = inspect.signature(steps)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters, return_annotation=get_args(signature.return_annotation)[-1])


class Client(Connection[httpx.Client]):
    """Calls that block. Any number of threads may use one; its options are those of `Connection`."""

    _http_class = httpx.Client

    recognize = _blocking(recognizing.recognize)
    recognize_batch = _blocking(recognizing.recognize_batch)
    explain = _blocking(recognizing.explain)
    heat = _blocking(recognizing.heat)
    photo = _blocking(recognizing.photo)
    start_bulk = _blocking(bulk_runs.start_bulk)
    bulk = _blocking(bulk_runs.bulk)
    cancel_bulk = _blocking(bulk_runs.cancel_bulk)
    wait_bulk = _blocking(bulk_runs.wait_bulk)
    bulk_results = _blocking(bulk_runs.bulk_results)
    bundle = _blocking(server.bundle)
    ready = _blocking(server.ready)
    wait_ready = _blocking(server.wait_ready)

    def close(self) -> None:
        """Closes all connections; waits between tries end."""
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        tries = with_retries(steps, self._retries)
        try:
            request = next(tries)
            while True:
                if self._closed.wait(request.after_s):
                    raise ClientError(f"{self!r} was closed")
                request = tries.send(self._try(request))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _try(self, request: Request) -> Reply | ClientError:
        try:
            with mapped(self.base_url), request.opened(self._timeout) as arguments, self._http.stream(**arguments) as response:
                with arriving(request, response) as reply:
                    for piece in response.iter_bytes():
                        reply.file.write(piece)
                return reply
        except ClientError as error:
            return error


class AsyncClient(Connection[httpx.AsyncClient]):
    """The same calls to be awaited, in one asyncio loop; its options are those of `Connection`.

    Files are read and written within the loop: an image in milliseconds, a large manifest piece by piece.
    """

    _http_class = httpx.AsyncClient

    recognize = _awaited(recognizing.recognize)
    recognize_batch = _awaited(recognizing.recognize_batch)
    explain = _awaited(recognizing.explain)
    heat = _awaited(recognizing.heat)
    photo = _awaited(recognizing.photo)
    start_bulk = _awaited(bulk_runs.start_bulk)
    bulk = _awaited(bulk_runs.bulk)
    cancel_bulk = _awaited(bulk_runs.cancel_bulk)
    wait_bulk = _awaited(bulk_runs.wait_bulk)
    bulk_results = _awaited(bulk_runs.bulk_results)
    bundle = _awaited(server.bundle)
    ready = _awaited(server.ready)
    wait_ready = _awaited(server.wait_ready)

    async def close(self) -> None:
        """Closes all connections."""
        self._closed.set()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        tries = with_retries(steps, self._retries)
        try:
            request = next(tries)
            while True:
                await asyncio.sleep(request.after_s)
                if self._closed.is_set():
                    raise ClientError(f"{self!r} was closed")
                request = tries.send(await self._try(request))
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _try(self, request: Request) -> Reply | ClientError:
        try:
            with mapped(self.base_url), request.opened(self._timeout) as arguments:
                async with self._http.stream(**arguments) as response:
                    with arriving(request, response) as reply:
                        async for piece in response.aiter_bytes():
                            reply.file.write(piece)
                    return reply
        except ClientError as error:
            return error
