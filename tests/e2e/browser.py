"""A browser and a real server for tests of the page."""

import base64
import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Playwright

from prodrec.models.bundle import Bundle
from prodrec.serving.app import create_app
from prodrec.serving.engine import Engine
from prodrec.serving.local import LocalBackend
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import ServingSettings

# It asks nothing of the network by itself.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS += ["--disable-sync"]
# Violations of the content security policy, beside what the console says of them.
WATCH = "addEventListener('securitypolicyviolation', event => console.error('CSP', event.violatedDirective, event.blockedURI))"
ANSWER_S = 20
Photo = tuple[str, bytes]


class Server:
    """The application on a free loopback port, in a thread; it can be stopped and started again on the same port."""

    def __init__(self, classifier: Bundle | None, tagger: Bundle | None, settings: ServingSettings) -> None:
        self.classifier, self.tagger, self.settings = classifier, tagger, settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        meter = LocalMeter()
        app = create_app(LocalBackend(Engine(self.classifier, self.tagger, meter)), self.settings, meter)
        config = uvicorn.Config(app, "127.0.0.1", self.port, log_level="critical", ws="none", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.02)
            assert self._thread.is_alive(), "the server did not start"
        assert self._status("/readyz") == 200

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def answer(self, data: bytes) -> dict:
        """What the API says of an image."""
        return httpx.post(f"{self.url}/v1/recognize?top_k=5", content=data, timeout=ANSWER_S, trust_env=False).raise_for_status().json()

    @contextmanager
    def without_places(self) -> Iterator[None]:
        """Sends so many requests whose bodies do not come that one more is told to come later."""
        head = b"POST /v1/recognize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n..."
        connection = socket.create_connection(("127.0.0.1", self.port))
        with connection:
            connection.sendall(head)
            self._wait_until(full=True)
            yield
        self._wait_until(full=False)

    def _wait_until(self, full: bool) -> None:
        end = time.monotonic() + ANSWER_S
        while (self._status("/v1/bundle") == 503) != full:
            assert time.monotonic() < end, "the places are not taken, or not given back"

    def _status(self, path: str) -> int:
        return httpx.get(self.url + path, trust_env=False).status_code


def launch(playwright: Playwright) -> Browser:
    """The machine's Chromium, else Playwright's own."""
    try:
        return playwright.chromium.launch(executable_path="/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else None, args=ARGUMENTS)
    except Error as error:
        pytest.skip(f"left out: the tests of the page, as there is no Chromium ({str(error).splitlines()[0]})")


@contextmanager
def watched(browser: Browser, server: Server, **options: object) -> Iterator[Page]:
    """A page that is shut without an error on its console, a violation of its policy, or a request to another place."""
    context = browser.new_context(**options)
    context.add_init_script(WATCH)
    page, wrong = context.new_page(), []

    def note(message: ConsoleMessage) -> None:
        # What the browser says of each answer that is not 200, and of a server that is down.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((server.url, "blob:", "data:")) else wrong.append(request.url))
    page.set_default_timeout(ANSWER_S * 1000)
    page.goto(server.url)
    yield page
    context.close()
    assert wrong == []


def choose(page: Page, *photos: Photo) -> None:
    """Chooses files by the page's button."""
    files = [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in photos]
    page.get_by_label("Choose photos").set_input_files(files)


def check_access(page: Page) -> None:
    """Nothing serious or critical is found by axe-core."""
    found = Axe().run(page).response["violations"]
    grave = [(violation["id"], [node["target"] for node in violation["nodes"]]) for violation in found if violation["impact"] in ("serious", "critical")]
    assert grave == [], json.dumps(grave, indent=1)


def picture(page: Page, name: str, tmp_path: Path) -> None:
    """Keeps a picture of the page for people: in $PRODREC_ARTEFACTS where that is set."""
    folder = Path(os.environ.get("PRODREC_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"page-{name}.png", full_page=True)
    assert (folder / f"page-{name}.png").stat().st_size > 2000


def named(product: dict) -> str:
    """What the page calls it."""
    return product["title"] or product["label"]


def packed(tree) -> str:
    """What follows `#r=` in the address of a result."""
    packer = zlib.compressobj(9, wbits=-15)
    return base64.urlsafe_b64encode(packer.compress(json.dumps(tree).encode()) + packer.flush()).decode().rstrip("=")


def result(**changes) -> dict:
    """A result as a link holds it."""
    answer = {"width": 80, "height": 64, "products": [{"label": "red", "group": None, "probability": 0.9}], "tags": None, "quality": None}
    answer |= {"decision": "review", "reasons": [], "bundle_id": "1f0c"}
    return {"v": 1, "name": "x.jpg", "answer": answer | changes, "thumbnail": None}
