"""The web page, as a merchandiser uses it: in a browser, on a real server with small bundles."""

import base64
import csv
import io
import json
import re
import zlib

import pytest
from e2e.browser import Server, check_access, choose, launch, picture, watched
from made import photo, run, scene
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from prodrec.models.bundle import load_bundle
from prodrec.serving.settings import ServingSettings, hash_key

KEY = "a-key-that-nobody-guesses-1"
# Few proposals: most of the time goes into them (tests/contract/test_tagger_run.py).
ARGS = "{min_anchor: 10, rpn_post_nms_top_n_train: 50, rpn_post_nms_top_n_test: 40, box_batch_size_per_image: 48, rpn_batch_size_per_image: 64}"
SETTINGS = ["train.epochs=30", "input.size=96", "train.batch_size=4", "data.threads=1", f"model.args={ARGS}", "train.ema_decay=0.9"]
SETTINGS += ["augment.min_crop_area=1", "augment.mix=0", "optim.lr=0.003", "optim.warmup_epochs=1", "tags.target_precision=0.8"]
COUNT_URLS = """
window.live = new Set();
const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
URL.createObjectURL = what => { const url = make(what); live.add(url); return url; };
URL.revokeObjectURL = url => { live.delete(url); revoke(url); };
"""
HAND_OVER = """([kind, files]) => {
  const carried = new DataTransfer();
  for (const [name, base64] of files) carried.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], name));
  const event = kind === 'paste' ? new ClipboardEvent('paste', {clipboardData: carried, bubbles: true, cancelable: true})
                                 : new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def classifier(calibrated_bundle):
    return load_bundle(calibrated_bundle)


@pytest.fixture(scope="module")
def tagger(box_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger") / "run"
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    assert run("train", box_shards, "--recipe", "fasterrcnn_tiny", "--out", folder, "--local", *options) == 0
    return load_bundle(str(folder / "bundle"))


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


@pytest.fixture(scope="module")
def accepted(server):
    """A photo that is accepted but for what the tagger says of it."""
    return ("accepted.jpg", photo(2, 900))


def test_a_photo_gets_the_answer_of_the_api(page, server, both):
    data, answer = both
    choose(page, data)
    best = answer["products"][0]
    expect(page.get_by_role("heading", level=1)).to_have_text(best["label"])
    expect(page.locator("#group")).to_contain_text(f"{best['probability']:.1%}")
    expect(page.locator("#decision")).to_contain_text({"accept": "Accept", "review": "Review", "reject": "Reject"}[answer["decision"]])
    for reason in answer["reasons"]:
        expect(page.locator("#reasons")).to_contain_text(reason["detail"])
        expect(page.locator("#reasons")).to_contain_text(reason["hint"])
    labels = page.get_by_role("region", name="Candidates").locator(".label")
    expect(labels).to_have_text([product["label"] for product in answer["products"]])
    stage = page.locator("#stage").bounding_box()
    scale = stage["width"] / answer["width"]
    assert stage["height"] == pytest.approx(answer["height"] * scale, abs=1)
    for box, tag in zip(page.locator(".box").all(), answer["tags"], strict=True):
        left, top, right, bottom = (edge * scale for edge in tag["box"])
        drawn = box.bounding_box()
        expected = (stage["x"] + left, stage["y"] + top, right - left, bottom - top)
        assert (drawn["x"], drawn["y"], drawn["width"], drawn["height"]) == pytest.approx(expected, abs=1)
    page.get_by_text("Boxes in words").click()
    expect(page.get_by_text(re.compile(r"^(red|green), score [01]\.\d\d: \d+ px from the left"))).to_have_count(len(answer["tags"]))
    page.get_by_text("All scores").click()
    expect(page.get_by_text(re.compile("^64 px"))).to_be_visible()
    expect(page.get_by_role("contentinfo")).to_contain_text("4 products in 2 groups")
    expect(page.locator("#status")).to_contain_text(best["label"])


def test_boxes_are_switched_by_label(page, both):
    data, answer = both
    choose(page, data)
    count = {label: sum(tag["label"] == label for tag in answer["tags"]) for label in ("red", "green")}
    red = page.get_by_label(f"red ({count['red']})")
    visible = page.locator(".box:visible")
    expect(visible).to_have_count(len(answer["tags"]))
    red.uncheck()
    expect(visible).to_have_count(count["green"])
    assert {box.get_attribute("data-label") for box in visible.all()} == {"green"}
    red.check()
    expect(visible).to_have_count(len(answer["tags"]))


def test_the_heat_map_is_painted_over_what_the_network_sees(page, both):
    data, answer = both
    choose(page, data)
    heat, requests = page.locator("#heat"), []
    page.on("request", lambda request: requests.append(request.url))
    page.get_by_label("Show the heat map").check()
    expect(heat).to_be_visible()
    painted = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 3).join()"
    strengths = [int(level) for level in heat.evaluate(painted).split(",")]
    assert max(strengths) == 255
    assert len(set(strengths)) > 20
    words = page.get_by_role("region", name="What the answer rests on")
    expect(words).to_contain_text(answer["products"][0]["label"])
    page.get_by_label("Opacity").fill("20")
    assert heat.evaluate("canvas => canvas.style.opacity") == "0.2"
    page.get_by_label("Thorough").check()
    expect(words).to_contain_text("hiding the hot places")
    other = answer["products"][1]["label"]
    page.get_by_label("For which product").select_option(other)
    expect(words).to_contain_text(f"{other} with")
    page.get_by_label("For which product").select_option(answer["products"][0]["label"])
    expect(words).to_contain_text(f"{answer['products'][0]['label']} with")
    assert sum("/v1/explain" in url for url in requests) == 3, "what was asked for once is kept"
    page.get_by_label("Show the heat map").uncheck()
    expect(heat).to_be_hidden()


def test_wrong_files_are_told_in_words(browser, serve):
    noise = Image.effect_noise((900, 900), 200)
    large = io.BytesIO()
    noise.save(large, "PNG")
    cases = {
        "not an image": b"words",
        "not supported": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "damaged": photo(0, 1)[:700],
        "too large": large.getvalue(),
    }
    with watched(browser, serve(max_body_bytes=100_000)) as page:
        for words, data in cases.items():
            choose(page, ("it.jpg", data))
            expect(page.get_by_role("heading", level=1)).to_contain_text(words)
            expect(page.get_by_role("region", name="What went wrong")).to_be_visible()
            expect(page.locator("#answer")).to_be_hidden()
        choose(page, ("good.jpg", photo(0, 1)))
        expect(page.locator("#decision")).to_be_visible()
        expect(page.get_by_role("region", name="What went wrong")).to_be_hidden()


def test_what_took_too_long_can_be_tried_again(browser, serve):
    with watched(browser, serve(request_timeout_s=1e-4)) as page:
        choose(page, ("it.jpg", photo(0, 1)))
        expect(page.get_by_role("heading", level=1)).to_have_text("The server took too long")
        with page.expect_response(re.compile("/v1/recognize")) as response:
            page.get_by_role("button", name="Try again").click()
        assert response.value.status == 504


def test_large_photos_are_told_what_a_server_says_before_it_has_read_them(browser, serve):
    large = ("large.jpg", photo(0, 1) + bytes(20_000_000))
    with watched(browser, serve(max_body_bytes=1_000_000)) as page:
        choose(page, large)
        expect(page.get_by_role("heading", level=1)).to_have_text("The file is too large")
    server = serve(max_in_flight=1, retry_after_s=1)
    with watched(browser, server) as page:
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        with server.without_places():
            choose(page, large)
            expect(page.get_by_text("The server is busy.")).to_be_visible()
        expect(page.locator("#answer")).to_be_visible()


def test_several_files_are_cards_and_a_csv(page, server):
    photos = {f"{number}.jpg": photo(number, 500) for number in range(4)} | {"=1+1,'x'.jpg": photo(0, 501), "bad.jpg": b"words"}
    choose(page, *photos.items())
    expect(page.get_by_role("heading", level=1)).to_have_text("6 photos")
    cards = page.get_by_role("list", name="Results").get_by_role("button")
    expect(cards).to_have_count(6)
    expect(cards.nth(5)).to_contain_text("This is not an image")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"), newline="")))
    assert [row["name"] for row in rows] == [f"{number}.jpg" for number in range(4)] + ["'=1+1,'x'.jpg", "bad.jpg"]
    for row, data in zip(rows[:5], photos.values(), strict=False):
        answer = server.answer(data)
        best = answer["products"][0]
        assert (row["product"], row["group"], row["decision"], row["sha256"]) == (best["label"], best["group"], answer["decision"], answer["sha256"])
        assert float(row["probability"]) == pytest.approx(best["probability"], abs=1e-4)
        assert [part.partition(":")[0] for part in row["reasons"].split("; ") if part] == [reason["code"] for reason in answer["reasons"]]
    assert rows[5]["problem"].startswith("not_an_image")
    page.get_by_role("button", name="No answer 1").click()
    expect(cards.locator("visible=true")).to_have_count(1)
    page.get_by_role("button", name="All 6").click()
    cards.nth(2).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(rows[2]["product"])
    expect(page.get_by_text("3 of 6")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(rows[3]["product"])
    page.go_back()
    expect(cards.nth(3)).to_be_focused()


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_photos_are_pasted_and_dropped(page, kind):
    files = [[f"{number}.jpg", base64.b64encode(photo(number, 7)).decode()] for number in range(2)]
    if kind == "drop":
        page.evaluate(HAND_OVER, ["dragover", files])
        expect(page.get_by_text("Drop the photos")).to_be_visible()
    page.evaluate(HAND_OVER, [kind, files])
    expect(page.get_by_text("Drop the photos")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 photos")


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
        expect(page.get_by_role("heading", level=1)).to_have_text(answer["products"][0]["label"])
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


def packed(tree) -> str:
    packer = zlib.compressobj(9, wbits=-15)
    return base64.urlsafe_b64encode(packer.compress(json.dumps(tree).encode()) + packer.flush()).decode().rstrip("=")


def result(**changes) -> dict:
    answer = {"width": 80, "height": 64, "products": [{"label": "red", "group": None, "probability": 0.9}], "tags": None, "quality": None}
    answer |= {"decision": "review", "reasons": [], "bundle_id": "1f0c"}
    return {"v": 1, "name": "x.jpg", "answer": answer | changes, "thumbnail": None}


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
    "no text": packed(result(reasons=[{"code": "x", "action": "review", "detail": "y" * 500, "hint": ""}])),
    "box outside": packed(result(tags=[{"label": "a", "score": 0.5, "box": [0, 0, 9e5, 5]}])),
    "many boxes": packed(result(tags=[{"label": "a", "score": 0.5, "box": [0, 0, 5, 5]}] * 501)),
    "thumbnail elsewhere": packed(result() | {"thumbnail": "https://example.com/x.png"}),
    "thumbnail of markup": packed(result() | {"thumbnail": "data:image/svg+xml;base64,AAAA"}),
    "a bomb": packed(result(bundle_id="x" * 50_000_000)),
}


def test_hostile_links_come_to_nothing(page, server):
    for kind, fragment in HOSTILE.items():
        page.goto(f"{server.url}/#r={packed(result())}")
        expect(page.get_by_role("heading", level=1)).to_have_text("red")
        page.goto(f"{server.url}/#r={fragment}")
        expect(page.get_by_role("heading", level=1), kind).to_have_text("This link holds no result")
    product = {"label": MARKUP, "group": MARKUP, "probability": 0.9}
    tags = [{"label": MARKUP, "score": 0.5, "box": [1, 1, 9, 9]}]
    page.goto(
        f"{server.url}/#r={packed(result(products=[product, product], tags=tags, reasons=[{'code': MARKUP, 'action': 'review', 'detail': MARKUP, 'hint': MARKUP}]))}"
    )
    expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    expect(page.locator("#detail img[src=x]")).to_have_count(0)
    assert "owned" not in page.title()


def test_the_keyboard_is_enough(page, both):
    def tab_to(locator, most=40):
        for _ in range(most):
            page.keyboard.press("Tab")
            if locator.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"no way to {locator}")

    chooser_button = page.get_by_label("Choose photos")
    tab_to(chooser_button)
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
        page.evaluate(COUNT_URLS)
        expect(page.get_by_role("contentinfo")).to_contain_text("Classifier")
        with server.without_places():
            choose(page, ("first.jpg", photo(0, 1)))
            expect(page.get_by_text("The server is busy.")).to_be_visible()
            choose(page, ("second.jpg", photo(2, 1)))
            expect(page.get_by_text("The server is busy.")).to_be_visible()
        expect(page.locator("#answer")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text(server.answer(photo(2, 1))["products"][0]["label"])
        expect(page.locator("figcaption")).to_contain_text("second.jpg")
        assert page.evaluate("live.size") == 1, "the first picture is let go"


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
        assert page.evaluate("[localStorage.length, document.cookie, location.href.includes('key')]") == [0, "", False]
        other = page.context.new_page()
        other.goto(server.url)
        expect(other.get_by_label("API key")).to_be_visible()


def test_what_the_browser_cannot_show_gets_boxes_all_the_same(page, server, both):
    data, answer = both
    tiff = io.BytesIO()
    Image.open(io.BytesIO(data[1])).save(tiff, "TIFF")
    choose(page, ("it.tiff", tiff.getvalue()))
    expect(page.get_by_text("Your browser cannot show this file.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(answer["products"][0]["label"])
    expect(page.locator(".box:visible")).to_have_count(len(server.answer(tiff.getvalue())["tags"]))


def test_a_photo_taken_sideways_is_upright(page, server, both):
    image, turned = Image.open(io.BytesIO(both[0][1])), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right to see it upright
    image.save(turned, "JPEG", exif=exif, quality=95)
    answer = server.answer(turned.getvalue())
    assert (answer["width"], answer["height"]) == (image.height, image.width)
    choose(page, ("turned.jpg", turned.getvalue()))
    expect(page.locator("#answer")).to_be_visible()
    assert page.locator("#photo").evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [image.height, image.width]
    stage = page.locator("#stage").bounding_box()
    assert stage["width"] / stage["height"] == pytest.approx(image.height / image.width, rel=0.01)


def test_either_bundle_alone_is_enough(browser, serve, both):
    with watched(browser, serve(with_tagger=False)) as page:
        choose(page, both[0])
        expect(page.get_by_text("This server looks for no things on photos.")).to_be_visible()
    with watched(browser, serve(with_classifier=False)) as page:
        choose(page, both[0])
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^(red, green|green, red)$"))
        expect(page.get_by_label("Show the heat map")).to_be_hidden()
        expect(page.get_by_role("region", name="Candidates")).to_be_hidden()
