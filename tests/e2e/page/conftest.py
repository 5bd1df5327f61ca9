"""Fixtures of the page's tests: servers of small bundles, and a browser."""

from dataclasses import replace

import pytest
from e2e.browser import Server, launch, watched
from made import scene
from playwright.sync_api import sync_playwright

from prodrec.models.bundle import load_bundle
from prodrec.serving.settings import ServingSettings

# One label in four has no title, so that both are seen.
TITLES = {
    "red": "Stainless-Steel Vacuum-Insulated Travel Mug, Leak-Proof Lid, 0.5 l, Dishwasher Safe, for Coffee and Tea, with Two Spare Seals, Fire Red",
    "green": "كوب قهوة أخضر (كبير)",
    "blue": "青い <b>マグカップ</b>",
}


@pytest.fixture(scope="session")
def classifier(calibrated_bundle):
    """Its labels have titles, links and reference photos, but not all of them."""
    bundle = load_bundle(calibrated_bundle)
    words = {name: {"title": title, "group_title": "Mugs & cups", "link": "https://shop.example/mug?a=1&b=2"} for name, title in TITLES.items()}
    labels = [label.model_copy(update=words.get(label.name, {"photo": None})) for label in bundle.info.labels]
    return replace(bundle, info=bundle.info.model_copy(update={"labels": labels}))


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
