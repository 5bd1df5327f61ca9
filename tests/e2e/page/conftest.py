"""Fixtures of the page's tests: servers of small bundles, and a browser."""

import pytest
from e2e.browser import Server, launch, watched
from made import scene
from playwright.sync_api import sync_playwright

from prodrec.models.bundle import load_bundle
from prodrec.serving.settings import ServingSettings


@pytest.fixture(scope="session")
def classifier(calibrated_bundle):
    return load_bundle(calibrated_bundle)


@pytest.fixture(scope="session")
def tagger(tagger_run):
    return load_bundle(str(tagger_run / "bundle"))


@pytest.fixture(scope="module")
def serve(classifier, tagger):
    """Makes servers with settings of their own."""
    servers = []

    def make(with_classifier=True, with_tagger=True, **settings) -> Server:
        servers.append(Server(classifier if with_classifier else None, tagger if with_tagger else None, ServingSettings(**settings)))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(serve):
    return serve()


@pytest.fixture(scope="module")
def browser():
    """Not of the session: while it is there, an event loop runs in this thread."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    with watched(browser, server) as page:
        yield page


@pytest.fixture(scope="module")
def both(server):
    """A photo on which things of both labels are found, and what the API says of it."""
    for number in range(200, 260):
        data = scene(number)[0]
        answer = server.answer(data)
        if {tag["label"] for tag in answer["tags"]} == {"red", "green"}:
            return ("both.jpg", data), answer
    raise AssertionError("the tagger finds no two things on any of 60 photos")
