"""A real web server for tests of fetching, and fetchers that may ask it."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from made import photo

from prodrec.errors import Reject
from prodrec.scoring.fetch import Fetcher, FetchLimits

IMAGE = photo(0, 0)
# Longer than anything here takes; a test that waits so long fails.
PATIENCE_S = 20


class Shop(ThreadingHTTPServer):
    """A real server on a free port; `answers` maps a path to what is done with its handler."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answers: dict[str, Callable[[Asked], object]] = {"/ok.jpg": lambda asked: asked.send(200, IMAGE)}
        self.asked: list[tuple[str, dict[str, str], float]] = []
        self.connections = 0
        self.closing = threading.Event()

    def get_request(self):
        self.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        """A client that hangs up is what several tests want."""

    def uri(self, path: str = "/ok.jpg", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.server_port}{path}"

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


class Asked(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shop

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, time.monotonic()))
        self.server.answers[self.path.partition("?")[0]](self)

    def send(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | {name.replace("_", "-"): value for name, value in headers.items()}).items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self, *, reset: bool = False) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The buffers share the socket: it closes with the last of them.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
        self.close_connection = True

    def log_message(self, *_) -> None:
        pass


@contextmanager
def running(shop: Shop) -> Iterator[Shop]:
    thread = threading.Thread(target=shop.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shop
    finally:
        shop.closing.set()
        shop.shutdown()
        thread.join()
        shop.server_close()


def fetcher(*, resolve=socket.getaddrinfo, **limits) -> Fetcher:
    return Fetcher(FetchLimits(**{"schemes": ("http", "https"), "hosts": ("127.0.0.1",), "allow_private": True, "backoff_s": 0.001, **limits}), resolve)


def refusal(uri: str, **limits) -> Reject:
    """The Reject that a fetch ends with."""
    with fetcher(**limits) as images, pytest.raises(Reject) as raised:
        images.fetch(uri)
    assert "\n" not in raised.value.detail
    return raised.value


def answering(*addresses: str) -> Callable[..., list[tuple]]:
    """A resolver that knows every name."""
    return lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
