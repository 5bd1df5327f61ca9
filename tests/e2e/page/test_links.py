"""Results as links: what they hold, and what hostile ones come to."""

import re

from e2e.browser import choose, named, packed, result, watched
from playwright.sync_api import expect


def test_a_link_holds_the_result_without_the_photo(browser, server, both):
    data, answer = both
    with watched(browser, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        choose(page, data)
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_role("button", name="Link copied")).to_be_visible()
        link = page.evaluate("navigator.clipboard.readText()")
    assert len(link) < 8000
    with watched(browser, server) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link)
        expect(page.get_by_role("heading", level=1)).to_have_text(named(answer["products"][0]))
        expect(page.locator(".box")).to_have_count(len(answer["tags"]))
        for reason in answer["reasons"]:
            expect(page.locator("#reasons")).to_contain_text(reason["detail"])
        assert page.locator("#photo").evaluate("image => image.decode().then(() => Math.max(image.naturalWidth, image.naturalHeight))") <= 96
        expect(page.get_by_label("Show the heat map")).to_be_hidden()
        assert [url for url in asked if "recognize" in url] == []


def test_without_a_clipboard_the_link_is_shown(browser, server, both):
    with watched(browser, server) as page:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no leave')); }")
        choose(page, both[0])
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_label("Copy this link")).to_have_value(re.compile("#r="))


MARKUP = "<img src=x onerror=\"document.title='owned'\">"
HOSTILE = {
    "no base64": "%%%",
    "not packed": "abcd",
    "cut": packed(result())[:-9],
    "null": packed(None),
    "no answer": packed({"v": 1, "name": "x", "thumbnail": None}),
    "another version": packed(result() | {"v": 2}),
    "decision": packed(result(decision="constructor")),
    "probability": packed(result(products=[{"label": "red", "group": None, "probability": 7}])),
    "label": packed(result(products=[{"label": {"a": 1}, "group": None, "probability": 0.5}])),
    "no text": packed(result(reasons=[{"code": "x", "action": "review", "detail": "y" * 1500, "hint": ""}])),
    "a photo of elsewhere": packed(result(products=[{"label": "red", "group": None, "probability": 0.5, "photo": "https://example.com/x.jpg"}])),
    "box outside": packed(result(tags=[{"label": "a", "score": 0.5, "box": [0, 0, 9e5, 5]}])),
    "many boxes": packed(result(tags=[{"label": "a", "score": 0.5, "box": [0, 0, 5, 5]}] * 501)),
    "thumbnail elsewhere": packed(result() | {"thumbnail": "https://example.com/x.png"}),
    "thumbnail of markup": packed(result() | {"thumbnail": "data:image/svg+xml;base64,AAAA"}),
    "a bomb": packed(result() | {"more": "x" * 5_000_000}),
}


def test_hostile_links_come_to_nothing(page, server):
    for kind, fragment in HOSTILE.items():
        page.goto(f"{server.url}/#r={packed(result())}")
        expect(page.get_by_role("heading", level=1)).to_have_text("red")
        page.goto(f"{server.url}/#r={fragment}")
        expect(page.get_by_role("heading", level=1), kind).to_have_text("This link holds no result")
    product = {"label": MARKUP, "title": MARKUP, "group": MARKUP, "group_title": MARKUP, "probability": 0.9, "link": "https://example.com/"}
    tags = [{"label": MARKUP, "score": 0.5, "box": [1, 1, 9, 9]}]
    reason = {"code": MARKUP, "action": "review", "detail": MARKUP, "hint": MARKUP}
    page.goto(f"{server.url}/#r={packed(result(products=[product, product], tags=tags, reasons=[reason]))}")
    expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    expect(page.locator("#detail img[src=x]")).to_have_count(0)
    expect(page.locator("#detail a")).to_have_count(0), "where a stranger's link leads nobody knows"
    assert "owned" not in page.title()
