"""The HTTP application under a real server, in a thread, on a free loopback port."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette

from prodrec.models.bundle import load_bundle
from prodrec.serving.app import create_app
from prodrec.serving.engine import Engine
from prodrec.serving.guard import Guard
from prodrec.serving.local import LocalBackend
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import ServingSettings

# Longer than anything here takes.
PATIENCE_S = 30


@dataclass(frozen=True)
class WebServer:
    """One that listens."""

    port: int
    app: Starlette

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def guard(self) -> Guard:
        """The one that counts places and bytes."""
        layer = self.app.middleware_stack
        while not isinstance(layer, Guard):
            layer = layer.app
        return layer

    def wait_idle(self, sign: Callable[[], bool] | None = None) -> None:
        """Until no request is in work; `sign`: what else must hold."""
        ticks, guard = threading.Event(), self.guard
        for _ in range(int(PATIENCE_S / 0.01)):
            if (guard.in_flight, guard.held_bytes) == (0, 0) and (sign is None or sign()):
                return
            ticks.wait(0.01)
        raise AssertionError(f"still in work: {guard.in_flight} requests, {guard.held_bytes} bytes")

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False, **options)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)


def app_of(bundle: str, backend: Callable[[Engine], LocalBackend] = LocalBackend, **settings) -> FastAPI:
    """As `prodrec.serving.run` makes it."""
    meter = LocalMeter()
    return create_app(backend(Engine(load_bundle(bundle), None, meter)), ServingSettings(**settings), meter)


@contextmanager
def listening(app: Starlette, health: str = "/readyz") -> Iterator[WebServer]:
    """`health`: what must answer first."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=5))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            found = WebServer(listener.getsockname()[1], app)
            with found.client() as client:
                assert client.get(health).status_code == 200
            yield found
        finally:
            server.should_exit = True
            thread.join()
