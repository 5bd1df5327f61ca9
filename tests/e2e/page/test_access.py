"""The web page for everyone: by keyboard, on a phone, in both colour schemes, with a screen reader."""

import re

import pytest
from e2e.browser import check_access, choose, packed, picture, result, watched
from made import photo
from playwright.sync_api import expect

from prodrec.serving.settings import hash_key

KEY = "a-key-that-nobody-guesses-1"


def test_the_keyboard_is_enough(page, both):
    def tab_to(locator, most=40):
        for _ in range(most):
            page.keyboard.press("Tab")
            if locator.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"no way to {locator}")

    # From now on, and not only while one is expected: what is switched on together with the key comes too late now and then.
    page.on("filechooser", lambda chooser: None)
    tab_to(page.get_by_label("Choose photos"))
    assert page.locator("label[for=files]").evaluate("label => getComputedStyle(label).outlineStyle") == "solid", "the focus is visible"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    files = [{"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": both[0][1]} for number in range(2)]
    chooser.value.set_files(files)
    tab_to(page.get_by_role("button", name=re.compile("1.jpg")))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page.get_by_label("Show the heat map"))
    page.keyboard.press("Space")
    expect(page.locator("#heat")).to_be_visible()
    tab_to(page.get_by_label(re.compile("^red ")))
    page.keyboard.press("Space")
    expect(page.locator(".box[data-label=red]").first).to_be_hidden()
    tab_to(page.get_by_role("button", name="All photos"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("2 photos")
    expect(page.get_by_role("button", name=re.compile("1.jpg"))).to_be_focused()


def test_it_fits_a_phone(browser, server, both, tmp_path):
    with watched(browser, server, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as page:

        def check(name):
            assert page.evaluate("document.documentElement.scrollWidth") == 360, name
            picture(page, f"phone-{name}", tmp_path)

        camera = page.get_by_label("Take a photo")
        assert camera.get_attribute("capture") == "environment"
        expect(page.locator("label[for=camera]")).to_be_visible()
        check("empty")
        choose(page, ("a-file-of-a-merchandiser-with-a-rather-long-name-and-no-break_IMG_20261121.jpg", both[0][1]))
        expect(page.locator("#answer")).to_be_visible()
        assert page.get_by_role("heading", level=1).bounding_box()["y"] < 740 / 2, "which product it is, without scrolling"
        page.get_by_label("Show the heat map").check()
        expect(page.locator("#heat")).to_be_visible()
        check("one")
        choose(page, both[0], ("bad.jpg", b"words"))
        expect(page.get_by_role("heading", level=1)).to_have_text("2 photos")
        check("several")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_accessible_in_both_schemes(browser, serve, server, both, tmp_path, scheme):
    def check(page, name):
        check_access(page)
        picture(page, f"{scheme}-{name}", tmp_path)

    with watched(browser, server, color_scheme=scheme) as page:
        light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(level => level > 128)")
        assert light == (scheme == "light")
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        check(page, "empty")
        choose(page, both[0])
        page.get_by_text("Boxes in words").click()
        page.get_by_text("All scores").click()
        check(page, "one")
        page.get_by_label("Show the heat map").check()
        expect(page.locator("#heat")).to_be_visible()
        check(page, "heat")
        choose(page, ("bad.jpg", b"words"))
        expect(page.get_by_role("heading", level=1)).to_have_text("This is not an image")
        check(page, "problem")
        choose(page, both[0], *((f"{number}.jpg", photo(number, 3)) for number in range(4)), ("bad.jpg", b"words"))
        expect(page.get_by_role("heading", level=1)).to_have_text("6 photos")
        check(page, "several")
        page.get_by_role("button", name=re.compile("0.jpg")).click()
        expect(page.locator("#answer")).to_be_visible()
        check(page, "one-of-several")
        page.goto(f"{server.url}/#r={packed(result())}")
        expect(page.get_by_role("heading", level=1)).to_have_text("red")
        check(page, "link")
        page.goto(f"{server.url}/#r=nothing")
        expect(page.get_by_role("heading", level=1)).to_have_text("This link holds no result")
        check(page, "no-link")
    locked = serve(api_keys=(hash_key(KEY),))
    with watched(browser, locked, color_scheme=scheme) as page:
        expect(page.get_by_label("API key")).to_be_visible()
        check(page, "key")
    busy = serve(max_in_flight=1, retry_after_s=60)
    with watched(browser, busy, color_scheme=scheme) as page:
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        with busy.without_places():
            choose(page, both[0])
            expect(page.get_by_text("The server is busy.")).to_be_visible()
            check(page, "busy")


@pytest.mark.parametrize(("decision", "words"), [("accept", "it may go live"), ("reject", "it cannot be used")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_decision_looks_its_part(browser, serve, tmp_path, scheme, decision, words):
    policy = tmp_path / "policy.yaml"
    too_small = "off" if decision == "accept" else "reject"
    policy.write_text(f"{{unsure: off, unknown_product: off, photo: {{too_small: {{action: {too_small}}}, low_contrast: {{action: off}}}}}}")
    server = serve(policy=str(policy))
    with watched(browser, server, color_scheme=scheme) as page:
        choose(page, ("it.jpg", photo(2, 900)))
        expect(page.locator("#decision")).to_contain_text(words)
        reasons = server.answer(photo(2, 900))["reasons"]
        expect(page.get_by_role("region", name="Why").get_by_role("listitem")).to_have_count(max(1, len(reasons)))
        expect(page.get_by_text("Nothing speaks against it.")).to_have_count(int(decision == "accept"))
        check_access(page)
        picture(page, f"{scheme}-{decision}", tmp_path)
