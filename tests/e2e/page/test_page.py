"""The web page, as a merchandiser uses it: in a browser, on a real server with small bundles."""

import base64
import csv
import io
import re

import pytest
from e2e.browser import choose, named, watched
from made import photo
from PIL import Image
from playwright.sync_api import expect

HAND_OVER = """([kind, files]) => {
  const carried = new DataTransfer();
  for (const [name, base64] of files) carried.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], name));
  const event = kind === 'paste' ? new ClipboardEvent('paste', {clipboardData: carried, bubbles: true, cancelable: true})
                                 : new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


def test_a_photo_gets_the_answer_of_the_api(page, server, both):
    data, answer = both
    choose(page, data)
    best = answer["products"][0]
    expect(page.get_by_role("heading", level=1)).to_have_text(named(best))
    expect(page.locator("#group")).to_contain_text(f"{best['probability']:.1%}")
    expect(page.locator("#decision")).to_contain_text({"accept": "Accept", "review": "Review", "reject": "Reject"}[answer["decision"]])
    for reason in answer["reasons"]:
        expect(page.locator("#reasons")).to_contain_text(reason["detail"])
        expect(page.locator("#reasons")).to_contain_text(reason["hint"])
    labels = page.get_by_role("region", name="Candidates").locator(".label")
    expect(labels).to_have_text([named(product) for product in answer["products"]])
    shops = page.get_by_role("region", name="Candidates").get_by_role("link", name="Open in the shop")
    expect(shops).to_have_count(sum(product["link"] is not None for product in answer["products"]))
    assert {shop.get_attribute("rel") for shop in shops.all()} == {"noopener noreferrer"}
    photos = page.locator("#candidates .reference img")
    expect(photos).to_have_count(sum(product["photo"] is not None for product in answer["products"]))
    assert all(shot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0 for shot in photos.all())
    assert page.locator("#reference img").count() == (best["photo"] is not None)
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
    expect(page.locator("#status")).to_contain_text(named(best))


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
    expect(words).to_contain_text(named(answer["products"][0]))
    page.get_by_label("Opacity").fill("20")
    assert heat.evaluate("canvas => canvas.style.opacity") == "0.2"
    page.get_by_label("Thorough").check()
    expect(words).to_contain_text("hiding the hot places")
    other = answer["products"][1]["label"]
    page.get_by_label("For which product").select_option(other)
    expect(words).to_contain_text(re.compile(rf"\b{other}\)? with"))
    page.get_by_label("For which product").select_option(answer["products"][0]["label"])
    expect(words).to_contain_text(re.compile(rf"\b{answer['products'][0]['label']}\)? with"))
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
        assert (row["title"], row["group_title"], row["link"]) == tuple(best[name] or "" for name in ("title", "group_title", "link"))
        assert float(row["probability"]) == pytest.approx(best["probability"], abs=1e-4)
        assert [part.partition(":")[0] for part in row["reasons"].split("; ") if part] == [reason["code"] for reason in answer["reasons"]]
    assert rows[5]["problem"].startswith("not_an_image")
    page.get_by_role("button", name="No answer 1").click()
    expect(cards.locator("visible=true")).to_have_count(1)
    page.get_by_role("button", name="All 6").click()
    cards.nth(2).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(rows[2]["title"] or rows[2]["product"])
    expect(page.get_by_text("3 of 6")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(rows[3]["title"] or rows[3]["product"])
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


def test_what_the_browser_cannot_show_gets_boxes_all_the_same(page, server, both):
    data, answer = both
    tiff = io.BytesIO()
    Image.open(io.BytesIO(data[1])).save(tiff, "TIFF")
    choose(page, ("it.tiff", tiff.getvalue()))
    expect(page.get_by_text("Your browser cannot show this file.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text(named(answer["products"][0]))
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
