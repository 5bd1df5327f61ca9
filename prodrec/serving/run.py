"""The application in this process, until it is interrupted."""

import signal
import socket
import threading

import uvicorn

from prodrec.errors import ConfigError
from prodrec.machine import torch_device
from prodrec.models.bundle import load_bundle
from prodrec.scoring.fetch import Fetcher
from prodrec.scoring.policy import load_policy
from prodrec.serving.app import create_app
from prodrec.serving.engine import Engine
from prodrec.serving.local import LocalBackend
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import ServingSettings

# For requests under way when the server is asked to end, seconds. Source: assumed.
GRACE_S = 20


def serve_here(classifier: str | None, tagger: str | None, settings: ServingSettings, host: str, port: int, gpu: bool) -> None:
    """Raises: BundleError, ConfigError: what is wrong with bundles, settings or the port."""
    check_port(host, port)
    device, meter = torch_device(gpu).type, LocalMeter()
    loaded = [load_bundle(uri, device, kind) if uri else None for uri, kind in ((classifier, "classifier"), (tagger, "tagger"))]
    app = create_app(LocalBackend(Engine(loaded[0], loaded[1], meter, device, settings.engine)), settings, meter)
    print(f"listening on {page_url(host, port)} (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE_S)


def page_url(host: str, port: int) -> str:
    """Where a person on this machine finds the page."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def check_port(host: str, port: int) -> None:
    """Raises: ConfigError: the address cannot be listened on."""
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error.strerror or error}; choose others") from error


def check_settings(settings: ServingSettings) -> None:
    """What the application reads when it is made, read here: on Ray it is made elsewhere, minutes later.

    Raises: ConfigError: the policy or the certificates of `image_url` cannot be read.
    """
    load_policy(settings.policy)
    if settings.image_url:
        Fetcher(settings.image_url).close()


def until_interrupted() -> None:
    """Waits for Ctrl-C or SIGTERM."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # With a limit: Python handles signals between waits, and not within one on every platform.
        while not ended.wait(1.0):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
