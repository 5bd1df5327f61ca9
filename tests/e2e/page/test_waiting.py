"""The web page while the server is busy, slow, down, or wants a key."""

import re

import pytest
from e2e.browser import check_access, choose, named, watched
from made import photo
from playwright.sync_api import expect

from prodrec.serving.settings import hash_key

KEY = "a-key-that-nobody-guesses-1"
WATCH_PHOTOS = """
window.live = new Set();
const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
URL.createObjectURL = what => { const url = make(what); live.add(url); return url; };
URL.revokeObjectURL = url => { live.delete(url); revoke(url); };
window.sent = [];
const ask = window.fetch;
window.fetch = (path, options) => { if (options?.body) sent.push(options.body.name); return ask(path, options); };
"""


def test_what_took_too_long_can_be_tried_again(browser, serve):
    with watched(browser, serve(request_timeout_s=1e-4)) as page:
        choose(page, ("it.jpg", photo(0, 1)))
        expect(page.get_by_role("heading", level=1)).to_have_text("The server took too long")
        with page.expect_response(re.compile("/v1/recognize")) as response:
            page.get_by_role("button", name="Try again").click()
        assert response.value.status == 504


def test_large_photos_are_told_what_a_server_says_before_it_has_read_them(browser, serve, tmp_path):
    large = tmp_path / "large.jpg"
    large.write_bytes(photo(0, 1) + bytes(20_000_000))
    with watched(browser, serve(max_body_bytes=1_000_000)) as page:
        page.get_by_label("Choose photos").set_input_files(large)
        expect(page.get_by_role("heading", level=1)).to_have_text("The file is too large")
    server = serve(max_in_flight=1, retry_after_s=1)
    with watched(browser, server) as page:
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        with server.without_places():
            page.get_by_label("Choose photos").set_input_files(large)
            expect(page.get_by_text("The server is busy.")).to_be_visible()
        expect(page.locator("#answer")).to_be_visible()


@pytest.mark.parametrize("way", ["by itself", "at once"])
def test_a_busy_server_is_asked_again(browser, serve, way):
    server = serve(max_in_flight=1, retry_after_s=2 if way == "by itself" else 600)
    with watched(browser, server) as page:
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        with server.without_places():
            choose(page, ("0.jpg", photo(0, 1)), ("1.jpg", photo(1, 1)))
            expect(page.get_by_text("The server is busy.")).to_be_visible()
            expect(page.get_by_text(re.compile(r"Trying again in (1|2|600|599|598) s"))).to_be_visible()
            expect(page.get_by_role("heading", level=1)).to_have_text("0 of 2 photos")
        while way == "at once" and page.get_by_role("heading", level=1).inner_text() != "2 photos":
            # One place, two photos: one of them is sent away once more.
            retry = page.get_by_role("button", name="Try now").or_(page.get_by_role("heading", level=1, name="2 photos", exact=True)).first
            retry.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("2 photos")
        expect(page.get_by_text("The server is busy.")).to_be_hidden()


def test_a_new_photo_takes_the_place_of_one_on_its_way(browser, serve):
    server = serve(max_in_flight=1, retry_after_s=1)
    with watched(browser, server) as page:
        page.evaluate(WATCH_PHOTOS)
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        with server.without_places():
            choose(page, ("first.jpg", photo(0, 1)))
            expect(page.get_by_text("The server is busy.")).to_be_visible()
            choose(page, ("second.jpg", photo(2, 1)))
            expect(page.get_by_text("The server is busy.")).to_be_visible()
        expect(page.locator("#answer")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text(named(server.answer(photo(2, 1))["products"][0]))
        expect(page.locator("figcaption")).to_contain_text("second.jpg")
        assert page.evaluate("live.size") == 1, "the first picture is let go"
        sent = page.evaluate("sent")
        assert "first.jpg" not in sent[sent.index("second.jpg") :]


def test_a_server_that_was_down_is_found_again(browser, serve):
    server = serve()
    with watched(browser, server) as page:
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        server.stop()
        choose(page, ("0.jpg", photo(0, 1)))
        expect(page.get_by_text("The server does not answer.")).to_be_visible()
        check_access(page)
        server.start()
        expect(page.locator("#answer")).to_be_visible()
        expect(page.get_by_text("The server does not answer.")).to_be_hidden()


def test_a_key_is_asked_for_and_kept_for_the_tab(browser, serve):
    server = serve(api_keys=(hash_key(KEY),))
    with watched(browser, server) as page:
        for key, words in (("ключ", "This is no key."), ("a-wrong-one", "This key is not accepted.")):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Use this key").click()
            expect(page.get_by_role("alert")).to_contain_text(words)
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        expect(page.get_by_label("API key")).to_be_hidden()
        page.reload()
        choose(page, ("0.jpg", photo(0, 1)))
        expect(page.locator("#answer")).to_be_visible()
        shot = page.locator("#candidates .reference img").first
        expect(shot).to_have_attribute("src", re.compile("^blob:"))
        assert shot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0, "asked for with the key"
        assert page.evaluate("[localStorage.length, document.cookie, location.href.includes('key')]") == [0, "", False]
        other = page.context.new_page()
        other.goto(server.url)
        expect(other.get_by_label("API key")).to_be_visible()
