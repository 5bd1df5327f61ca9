"""docs/api.md, held against the application under a real server."""

import asyncio
import base64
import io
import json
import logging
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from made import photo, progressive_bomb
from PIL import ExifTags, Image
from prometheus_client.parser import text_string_to_metric_families
from shop import IMAGE, Shop
from shop import running as shop_running
from web_server import PATIENCE_S, app_of, listening

from prodrec.client import Client, NotFound
from prodrec.models.bundle import load_bundle
from prodrec.models.bundle_files import load_info, rewrite_info
from prodrec.scoring import Recognizer
from prodrec.scoring.decision import Decider
from prodrec.scoring.fetch import FetchLimits
from prodrec.scoring.policy import Policy
from prodrec.serving.local import LocalBackend
from prodrec.serving.settings import hash_key
from prodrec.serving.unavailable import Busy, NotReady

KEY = "k" * 32
PHOTO = photo(2, 900)
SHOP_PAGE = "https://shop.example"


@pytest.fixture(scope="session")
def locked(calibrated_bundle):
    """One that asks for a key, lets a shop's page in, and reads little."""
    options = {"api_keys": (hash_key(KEY),), "allow_origins": (SHOP_PAGE,), "max_body_bytes": 50_000, "max_batch_bytes": 60_000, "max_batch_files": 3}
    with listening(app_of(calibrated_bundle, **options)) as server, server.client() as client:
        yield client


def refused(answer, status: int, code: str):
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:prodrec:problem:{code}")
    assert problem["title"]
    assert problem["detail"]
    assert answer.headers["x-request-id"]
    return problem


def assert_alike(products: list[dict], others: list[dict]) -> None:
    """But for what a batch's size does to the last bits of a sum."""
    assert [(one["label"], one["group"]) for one in products] == [(one["label"], one["group"]) for one in others]
    assert [one["probability"] for one in products] == pytest.approx([one["probability"] for one in others], abs=1e-4)


def files(*images: bytes, name: str = "files") -> list:
    return [(name, (f"{number}.jpg", image)) for number, image in enumerate(images)]


def test_an_answer_is_the_recognizers_own_and_its_decision(client, calibrated_bundle):
    images = [photo(number % 4, 900 + number) for number in range(8)]
    bundle = load_bundle(calibrated_bundle, "cpu", "classifier")
    decider = Decider(bundle.info, None, Policy())
    for image, found in zip(images, Recognizer(bundle, None, top_k=20).recognize(images), strict=True):
        answer = client.post("/v1/recognize", content=image, params={"top_k": 20, "category": "even"}).json()
        assert_alike(answer["products"], [vars(product) for product in found.products])
        assert answer["quality"] == found.quality._asdict()
        assert (answer["sha256"], answer["width"], answer["height"]) == (found.sha256, found.width, found.height)
        decision = decider.decide([found], "even")
        assert (answer["decision"], [reason["code"] for reason in answer["reasons"]]) == (decision.decision, [reason.code for reason in decision.reasons])
        assert answer["classifier_id"] == bundle.info.bundle_id
        assert (answer["tagger_id"], answer["tags"], answer["explanation"]) == (None, None, None)
        assert answer["bundle_id"].startswith(bundle.info.bundle_id)
        assert answer["policy_id"] == Policy().policy_id


def test_an_image_is_sent_in_any_of_two_ways(client):
    sent = [{"content": PHOTO}, {"content": PHOTO, "headers": {"content-type": "text/plain"}}, {"content": iter([PHOTO[:99], PHOTO[99:]])}]
    sent += [{"files": {"file": ("a.jpg", PHOTO)}}, {"files": {"other": ("b", PHOTO)}, "data": {"listing_id": "7", "shop": "a"}}]
    answers = [client.post("/v1/recognize", **options).json() | {"timings_ms": 0} for options in sent]
    assert answers == [answers[0]] * len(sent)
    assert answers[0]["products"][0]["label"] == "blue"


@pytest.mark.parametrize("top_k", [1, 3, 20])
def test_as_many_candidates_as_asked_for(client, top_k):
    products = client.post("/v1/recognize", content=PHOTO, params={"top_k": top_k}).json()["products"]
    assert len(products) == min(top_k, 4)
    assert [product["probability"] for product in products] == sorted((product["probability"] for product in products), reverse=True)


def test_tags_left_out_change_no_decision(client):
    with_tags, without = (client.post("/v1/recognize", content=PHOTO, params={"tags": tags}).json() for tags in ("true", "false"))
    assert without["tags"] is None
    assert with_tags["decision"] == without["decision"]


def test_a_category_of_another_product_is_a_reason(client):
    group = client.post("/v1/recognize", content=PHOTO).json()["products"][0]["group"]
    for category, is_told in ((group, False), ("BLUE", False), ("shoes", True), ("", False)):
        answer = client.post("/v1/recognize", content=PHOTO, params={"category": category}).json()
        assert ("category_mismatch" in [reason["code"] for reason in answer["reasons"]]) == is_told


@pytest.mark.parametrize(
    "query",
    [{"top_k": 0}, {"top_k": 21}, {"top_k": "x"}, {"tags": "perhaps"}, {"explain": "7"}, {"category": "x" * 201}],
    ids=["few", "many", "text", "tags", "explain", "long"],
)
def test_a_query_that_does_not_fit(client, query):
    assert next(iter(query)) in refused(client.post("/v1/recognize", content=PHOTO, params=query), 400, "bad_request")["detail"]


def test_bad_images_cost_themselves_only(client):
    images = [PHOTO, b"no image", photo(0, 0)[:300], b"%PDF-1.7 " + b"x" * 99, b"", photo(1, 900)]
    answer = client.post("/v1/recognize/batch", files=files(*images), params={"top_k": 2})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["name"] for result in results] == [f"{number}.jpg" for number in range(6)]
    assert [result["status"] for result in results] == [200, 422, 422, 415, 422, 200]
    codes = ["not_an_image", "truncated", "unsupported_format", "not_an_image"]
    assert [result["problem"]["code"] for result in results if result["problem"]] == codes
    for image, result in zip(images, results, strict=True):
        assert (result["answer"] is None) != (result["problem"] is None)
        if result["answer"]:
            alone = client.post("/v1/recognize", content=image, params={"top_k": 2}).json()
            assert_alike(result["answer"]["products"], alone["products"])
            assert len(result["answer"]["products"]) == 2


def test_a_batch_of_the_most_files(client):
    images = [photo(number % 4, number) for number in range(64)]
    results = client.post("/v1/recognize/batch", files=files(*images)).json()["results"]
    assert [result["status"] for result in results] == [200] * 64
    refused(client.post("/v1/recognize/batch", files=files(*images, PHOTO)), 413, "too_many_files")


def test_files_names_come_back_without_folders_and_signs(client):
    sent = [("files", (name, PHOTO)) for name in ("../../etc/passwd", "C:\\a\\b.jpg", "ünï.jpg", "a\u202eb.jpg", "x" * 400)]
    names = [result["name"] for result in client.post("/v1/recognize/batch", files=sent).json()["results"]]
    assert names == ["passwd", "b.jpg", "ünï.jpg", "ab.jpg", "x" * 200]


def test_a_batch_that_is_cut_off_is_no_batch_of_fewer(client):
    """Wherever: before its closing boundary nobody knows what else was on its way."""
    request = client.build_request("POST", "/v1/recognize/batch", files=files(PHOTO, PHOTO, PHOTO))
    body, kind = request.read(), {"content-type": request.headers["content-type"]}
    ends = [at for at in range(len(body)) if body.startswith(b"--" + kind["content-type"].partition("boundary=")[2].encode(), at)]
    assert len(ends) == 4
    for cut in (*ends[1:], *(end - 2 for end in ends[1:]), ends[2] + 60, len(body) - 3):
        refused(client.post("/v1/recognize/batch", content=body[:cut], headers=kind), 400, "bad_request")
    assert len(client.post("/v1/recognize/batch", content=body, headers=kind).json()["results"]) == 3


def test_a_bomb_is_refused_at_once_alone_and_among_others(client):
    bomb = progressive_bomb(3000, 3000, 400)
    refused(client.post("/v1/recognize", content=bomb), 422, "too_costly")
    refused(client.post("/v1/explain", content=bomb), 422, "too_costly")
    results = client.post("/v1/recognize/batch", files=files(PHOTO, bomb)).json()["results"]
    assert [result["status"] for result in results] == [200, 422]
    assert results[1]["problem"]["code"] == "too_costly"


def test_what_is_no_batch(client):
    for options in ({"content": PHOTO}, {"data": {"files": "text"}, "files": {}}, {"json": {}}):
        refused(client.post("/v1/recognize/batch", **options), 400, "bad_request")


def test_an_explanation_as_a_picture_and_as_numbers(client):
    picture = client.post("/v1/explain", content=PHOTO)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(picture.content)).size == (48, 48)
    for method in ("gradcam", "occlusion"):
        heat = client.post("/v1/explain", content=PHOTO, params={"method": method}, headers={"accept": "application/json"}).json()
        assert (heat["label"], heat["method"], heat["width"], heat["height"]) == ("blue", method, 48, 48)
        assert {len(row) for row in heat["heat"]} == {len(heat["heat"])}
        assert len(heat["frame"]) == 4
    other = client.post("/v1/explain", content=PHOTO, params={"label": "red"}, headers={"accept": "application/json"}).json()
    assert other["label"] == "red"
    assert other["probability"] < heat["probability"]


def test_an_answer_with_its_explanation(client):
    answer = client.post("/v1/recognize", content=PHOTO, params={"explain": "true"}).json()
    explanation = answer["explanation"]
    assert (explanation["label"], explanation["method"]) == ("blue", "gradcam")
    assert base64.b64decode(explanation["overlay_png"]) == client.post("/v1/explain", content=PHOTO).content


def test_products_are_named_for_people_with_link_and_reference_photo(client, tmp_path, calibrated_bundle):
    plain = client.post("/v1/recognize", content=PHOTO).json()["products"][0]
    assert (plain["label"], plain["title"], plain["group_title"], plain["link"]) == ("blue", None, None, None)
    shutil.copytree(calibrated_bundle, tmp_path / "bundle")
    info = load_info(tmp_path / "bundle")
    words = {"title": "Blue mug <b>", "group_title": "杯子", "link": "https://shop.example/b?x=1"}
    rewrite_info(tmp_path / "bundle", info.model_copy(update={"labels": [label.model_copy(update=words) for label in info.labels]}))
    with listening(app_of(str(tmp_path / "bundle"))) as server, server.client() as named:
        answer = named.post("/v1/recognize", content=PHOTO, params={"explain": "true", "category": "杯子"}).json()
        product = answer["products"][0]
        assert product == {
            **words,
            "label": "blue",
            "group": plain["group"],
            "probability": pytest.approx(plain["probability"], abs=1e-4),
            "photo": plain["photo"],
        }
        assert answer["explanation"]["title"] == "Blue mug <b>"
        assert all("Blue mug <b> (blue)" in reason["detail"] for reason in answer["reasons"] if reason["code"] == "unsure")
        assert "category_mismatch" not in {reason["code"] for reason in answer["reasons"]}
        found = named.get(product["photo"])
        assert (found.status_code, found.headers["content-type"]) == (200, "image/jpeg")
        assert found.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert Image.open(io.BytesIO(found.content)).format == "JPEG"
        with Client(server.url) as theirs:
            best = theirs.recognize(PHOTO).products[0]
            assert (best.title, best.group_title, best.link, theirs.photo(best.photo)) == (*words.values(), found.content)
            with pytest.raises(NotFound):
                theirs.photo("/v1/photos/0000000000000000")
        refused(named.get("/v1/photos/0000000000000000"), 404, "not_found")
        refused(named.get("/v1/photos/..%2fbundle"), 404, "not_found")
        refused(named.get("/v1/photos/bundle.json"), 400, "bad_request")


def test_photos_are_behind_the_key(locked):
    refused(locked.get("/v1/photos/0000000000000000"), 401, "no_key")
    refused(locked.get("/v1/photos/0000000000000000", headers={"authorization": f"Bearer {KEY}"}), 404, "not_found")


def test_what_cannot_be_explained(client):
    refused(client.post("/v1/explain", content=PHOTO, params={"label": "nobody"}), 422, "no_such_label")
    refused(client.post("/v1/explain", content=PHOTO, params={"method": "occlusion", "size": 2_000}), 422, "cannot_explain")
    refused(client.post("/v1/explain", content=PHOTO, params={"method": "magic"}), 400, "bad_request")
    refused(client.post("/v1/explain", content=PHOTO, params={"method": "attention"}), 422, "cannot_explain")
    refused(client.post("/v1/explain", content=b"no image"), 422, "not_an_image")


def test_what_is_served(client, calibrated_bundle):
    info = load_bundle(calibrated_bundle, "cpu", "classifier").info
    counted, named = (client.get("/v1/bundle", params={"labels": names}).json() for names in ("false", "true"))
    assert (counted["classifier"]["id"], counted["classifier"]["labels"], counted["classifier"]["groups"]) == (info.bundle_id, 4, 2)
    assert named["classifier"]["labels"] == [label.name for label in info.labels]
    assert named["classifier"]["groups"] == ["even", "odd"]
    assert counted["classifier"]["accepts_from"] == info.acceptance.threshold
    assert counted["tagger"] is None
    assert client.get("/readyz").json() == {"status": "ready", "bundle_id": counted["bundle_id"]}
    assert client.get("/healthz").json() == {"status": "ok"}


def numbers(client) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {f"{sample.name} {' '.join(sorted(sample.labels.values()))}".strip(): sample.value for family in families for sample in family.samples}


def test_numbers_add_up(client):
    before = numbers(client)
    for image in (PHOTO, photo(1, 900), b"no image"):
        client.post("/v1/recognize", content=image)
    client.post("/v1/recognize/batch", files=files(PHOTO, b"no image", b"%PDF"))
    client.get("/v1/nothing")
    after = numbers(client)
    new = {name: value - before.get(name, 0) for name, value in after.items() if "_created" not in name}
    assert new["prodrec_requests_total /v1/recognize 200"] == 2
    assert new["prodrec_requests_total /v1/recognize 422"] == 1
    assert new["prodrec_requests_total /v1/recognize/batch 200"] == 1
    assert new["prodrec_requests_total 404 other"] == 1
    assert new["prodrec_request_seconds_count /v1/recognize"] == 3
    assert (new["prodrec_rejects_total not_an_image"], new["prodrec_rejects_total unsupported_format"]) == (2, 1)
    assert sum(value for name, value in new.items() if name.startswith("prodrec_decisions_total")) == 3
    assert new["prodrec_batch_size_sum classifier"] == 3
    assert new["prodrec_stage_seconds_count classify"] == new["prodrec_stage_seconds_count prepare"] == 3


def test_paths_and_methods_that_are_none(client):
    for path in ("/v1/nothing", "/nothing", "/static/nothing.js", "/static/../guard.py", "/v1", "/V1/recognize", "//v1/recognize"):
        refused(client.get(path), 404, "not_found")
    for method, path in (("GET", "/v1/recognize"), ("PUT", "/v1/recognize/batch"), ("POST", "/v1/bundle"), ("PATCH", "/healthz"), ("POST", "/static/page.js")):
        answer = client.request(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"]


def test_doors_that_are_shut_by_default(client):
    refused(client.post("/v1/recognize", json={"image_url": "https://images.shop.example/1.jpg"}), 403, "not_allowed")
    refused(client.post("/v1/bulk", json={"input": "s3://bucket/m.csv"}), 403, "not_allowed")
    for method, path in (("GET", "/v1/bulk/r-1"), ("DELETE", "/v1/bulk/r-1"), ("GET", "/v1/bulk/r-1/results")):
        refused(client.request(method, path), 403, "not_allowed")


def test_a_page_of_another_site_may_not_ask(client):
    asked = client.options("/v1/recognize", headers={"origin": SHOP_PAGE, "access-control-request-method": "POST"})
    refused(asked, 405, "method_not_allowed")
    answer = client.post("/v1/recognize", content=PHOTO, headers={"origin": SHOP_PAGE})
    assert not [name for name in (*asked.headers, *answer.headers) if name.startswith("access-control")]


def test_a_page_on_the_list_may_ask(locked):
    wants = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    asked = locked.options("/v1/recognize", headers={"origin": SHOP_PAGE, **wants})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SHOP_PAGE)
    answer = locked.post("/v1/recognize", content=PHOTO, headers={"origin": SHOP_PAGE, "authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP_PAGE)
    assert locked.post("/v1/recognize", headers={"origin": SHOP_PAGE}).headers["access-control-allow-origin"] == SHOP_PAGE
    other = locked.options("/v1/recognize", headers={"origin": "https://evil.example", **wants})
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


def test_without_the_key_there_is_nothing(locked):
    for method, path in (("POST", "/v1/recognize"), ("POST", "/v1/recognize/batch"), ("POST", "/v1/explain"), ("GET", "/v1/bundle"), ("GET", "/metrics")):
        for headers in ({}, {"authorization": f"Bearer {'x' * 32}"}, {"authorization": KEY}):
            answer = locked.request(method, path, headers=headers)
            refused(answer, 401, "no_key")
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert locked.get(path).status_code == 200
    assert locked.get("/v1/bundle", headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_a_key_is_logged_nowhere(locked, caplog):
    with caplog.at_level(logging.DEBUG):
        for content in (PHOTO, b"no image", b"x" * 60_000):
            locked.post("/v1/recognize", content=content, headers={"authorization": f"Bearer {KEY}"})
        locked.post("/v1/recognize", content=PHOTO, headers={"authorization": f"Bearer {KEY}x"})
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpcore", "httpx", "hpack"))]
    assert KEY not in "\n".join(ours)


@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_too_large(locked, is_told):
    def asked(path: str, body: bytes):
        headers = {"authorization": f"Bearer {KEY}", "content-type": "multipart/form-data; boundary=b" if body.startswith(b"--b") else "image/jpeg"}
        return locked.post(path, content=body if is_told else iter([body[:1_000], body[1_000:]]), headers=headers)

    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="1.jpg"\r\n\r\n%b\r\n--b--\r\n'
    assert "50,000" in refused(asked("/v1/recognize", b"x" * 50_001), 413, "too_large")["detail"]
    refused(asked("/v1/recognize", b"x" * 50_000), 422, "not_an_image")
    assert "60,000" in refused(asked("/v1/recognize/batch", form % (b"x" * 60_000)), 413, "too_large")["detail"]
    assert asked("/v1/recognize/batch", form % (b"x" * 59_000)).json()["results"][0]["status"] == 422


def test_too_many_files(locked):
    headers = {"authorization": f"Bearer {KEY}"}
    assert locked.post("/v1/recognize/batch", files=files(*[PHOTO] * 3), headers=headers).status_code == 200
    refused(locked.post("/v1/recognize/batch", files=files(*[PHOTO] * 4), headers=headers), 413, "too_many_files")
    refused(locked.post("/v1/recognize", files=files(PHOTO, PHOTO), headers=headers), 413, "too_many_files")


@pytest.fixture(scope="module")
def fetching(calibrated_bundle):
    """A shop's image server, and an application that may ask it."""
    with shop_running(Shop()) as shop:
        limits = FetchLimits(schemes=("http",), hosts=("127.0.0.1", "localhost"), allow_private=True, retries=0)
        with listening(app_of(calibrated_bundle, image_url=limits)) as server, server.client() as client:
            yield shop, client


def test_an_image_by_its_url(fetching):
    shop, client = fetching
    answer = client.post("/v1/recognize", json={"image_url": shop.uri()}).json()
    assert answer["products"] == client.post("/v1/recognize", content=IMAGE).json()["products"]
    assert client.post("/v1/explain", json={"image_url": shop.uri()}).headers["content-type"] == "image/png"


def test_urls_that_are_not_fetched(fetching):
    shop, client = fetching
    shop.answers["/away"] = lambda asked: asked.send(302, Location="http://169.254.169.254/latest")
    shop.answers["/broken"] = lambda asked: asked.send(500)
    shop.answers["/gone"] = lambda asked: asked.send(404)
    shop.answers["/text"] = lambda asked: asked.send(200, b"no image")
    before = len(shop.asked)
    for url in (
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "https://127.0.0.1/a.jpg",
        "",
        "x",
        "http://user:pw@127.0.0.1/a",
        "\ud800",
    ):
        body = json.dumps({"image_url": url})
        refused(client.post("/v1/recognize", content=body, headers={"content-type": "application/json"}), 403, "not_allowed")
    assert len(shop.asked) == before
    for path, status, code in (("/away", 403, "not_allowed"), ("/broken", 422, "fetch_failed"), ("/gone", 422, "missing"), ("/text", 422, "not_an_image")):
        problem = refused(client.post("/v1/recognize", json={"image_url": shop.uri(f"{path}?signature=s3cret")}), status, code)
        assert "s3cret" not in json.dumps(problem)


def test_a_host_that_hangs_holds_up_no_other(calibrated_bundle):
    """Twice as many as may be fetched at once: all are told in time, and their threads are free."""
    with shop_running(Shop()) as shop:
        shop.answers["/hangs"] = lambda asked: shop.closing.wait(PATIENCE_S)
        limits = FetchLimits(schemes=("http",), hosts=("127.0.0.1", "localhost"), allow_private=True, concurrency=4, per_host=2)
        with listening(app_of(calibrated_bundle, image_url=limits, request_timeout_s=2.0)) as server, server.client() as client:
            with ThreadPoolExecutor(8) as callers:
                hanging = shop.uri("/hangs", host="localhost")
                for answer in callers.map(lambda _: client.post("/v1/recognize", json={"image_url": hanging}), range(8)):
                    assert answer.json()["code"] in ("fetch_timeout", "timeout")
            assert client.post("/v1/recognize", json={"image_url": shop.uri()}).status_code == 200
            shop.closing.set()


def test_private_addresses_are_fetched_only_where_it_is_allowed(calibrated_bundle):
    with shop_running(Shop()) as shop:
        limits = FetchLimits(schemes=("http",), hosts=("*", f"127.0.0.1:{shop.server_port}"), retries=0)
        with listening(app_of(calibrated_bundle, image_url=limits)) as server, server.client() as client:
            refused(client.post("/v1/recognize", json={"image_url": shop.uri()}), 403, "not_allowed")
        assert shop.asked == []


def test_where_a_photo_was_taken_is_told_to_nobody(client):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Erika Mustermann"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.3456)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSMapDatum] = "s3cret-place"
    data = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(data, "JPEG", exif=exif, comment=b"s3cret-comment")
    assert b"s3cret-place" in data.getvalue()
    answer = client.post("/v1/recognize", content=data.getvalue(), params={"explain": "true"})
    picture = client.post("/v1/explain", content=data.getvalue()).content
    batch = client.post("/v1/recognize/batch", files=files(data.getvalue()))
    for told in (answer.content, picture, batch.content, base64.b64decode(answer.json()["explanation"]["overlay_png"])):
        assert not re.search(rb"s3cret|Mustermann|12\.3456|eXIf|tEXt", told)
    assert not Image.open(io.BytesIO(picture)).getexif()


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/healthz", "/openapi.json", "/v1/bundle", "/v1/nothing", "/static/nothing"])
def test_every_answer_is_safe_in_a_browser(client, path):
    headers = client.get(path, headers={"X-Request-ID": "mine-1"}).headers
    assert (headers["x-content-type-options"], headers["x-frame-options"], headers["x-request-id"]) == ("nosniff", "DENY", "mine-1")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers


class Held(LocalBackend):
    """The real one, which can be held up or be away."""

    def __init__(self, engine) -> None:
        super().__init__(engine)
        self.begun, self.going, self.error = threading.Event(), threading.Event(), None
        self.going.set()

    async def recognize(self, images):
        self.begun.set()
        if self.error:
            raise self.error
        while not self.going.is_set():
            await asyncio.sleep(0.005)
        return await super().recognize(images)

    async def served(self):
        if self.error:
            raise self.error
        return await super().served()


@pytest.fixture(scope="module")
def held(calibrated_bundle):
    made: list[Held] = []

    def backend(engine) -> Held:
        made.append(Held(engine))
        return made[0]

    options = {"max_in_flight": 2, "place_wait_s": 0.05, "retry_after_s": 3, "body_timeout_s": 0.3, "request_timeout_s": 0.5}
    with listening(app_of(calibrated_bundle, backend, **options)) as server:
        yield server, made[0]


def test_a_server_that_is_full_or_has_no_bundle(held):
    server, backend = held
    with server.client() as client:
        for error, code in ((Busy(), "busy"), (NotReady(), "not_ready")):
            backend.error = error
            for answer in (client.post("/v1/recognize", content=PHOTO), client.get("/readyz"), client.get("/v1/bundle")):
                refused(answer, 503, code)
                assert answer.headers["retry-after"] == "3"
            assert client.get("/healthz").status_code == 200
        backend.error = None
        assert client.get("/readyz").status_code == 200


def test_an_answer_that_takes_too_long(held):
    server, backend = held
    backend.going.clear()
    with server.client() as client:
        refused(client.post("/v1/recognize", content=PHOTO), 504, "timeout")
        backend.going.set()
        server.wait_idle()
        assert client.post("/v1/recognize", content=PHOTO).status_code == 200


def test_a_body_that_takes_too_long(held):
    server, _ = held
    with server.socket() as connection:
        connection.sendall(b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
        connection.settimeout(PATIENCE_S)
        found = b""
        while piece := connection.recv(65_536):
            found += piece
    assert found.startswith(b"HTTP/1.1 408")
    assert b"too_slow_body" in found
    server.wait_idle()


def test_one_more_than_there_are_places(held):
    server, _ = held
    server.wait_idle()
    waiting = [server.socket() for _ in range(2)]
    for connection in waiting:
        connection.sendall(b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
    ticks = threading.Event()
    while server.guard.in_flight < 2:
        ticks.wait(0.005)
    with server.client() as client:
        assert refused(client.post("/v1/recognize", content=PHOTO), 503, "busy")["hint"]
        assert client.get("/metrics").status_code == 200
        for connection in waiting:
            connection.close()
        server.wait_idle()
        assert client.post("/v1/recognize", content=PHOTO).status_code == 200


def test_a_body_that_is_refused_half_way_is_answered_even_to_those_who_send_all_first(server):
    async def ask() -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(f"{server.url}/v1/recognize", content=b"x" * 60_000_000, timeout=30)).status_code

    assert asyncio.run(ask()) == 413


def test_slashes_at_the_end_lead_nowhere_and_load_balancers_may_ask_by_head(client):
    answer = client.post("/v1/recognize/", content=b"x", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"], "location" in answer.headers) == (404, "not_found", False)
    assert [client.head(f"/{path}").status_code for path in ("healthz", "readyz")] == [200, 200]


def until(sign) -> None:
    ticks = threading.Event()
    for _ in range(int(PATIENCE_S / 0.005)):
        if sign():
            return
        ticks.wait(0.005)
    raise AssertionError("it did not come about")


class Stuck(LocalBackend):
    """Bundles that do not answer, as while their only process is started again."""

    async def served(self):
        await asyncio.Event().wait()


def test_whoever_asks_whether_it_is_ready_is_told_soon(calibrated_bundle):
    with listening(app_of(calibrated_bundle, Stuck), "/healthz") as server, server.client() as client:
        refused(client.get("/readyz", timeout=10), 503, "not_ready")


def test_one_callers_many_images_do_not_keep_another_waiting(server):
    """A photo beside two requests of 64 is answered before them."""
    large = Image.new("RGB", (3000, 2000), (90, 140, 30))
    out = io.BytesIO()
    large.save(out, "JPEG")

    def many() -> float:
        with server.client() as client:
            assert client.post("/v1/recognize/batch", files=files(*[out.getvalue()] * 64), timeout=120).status_code == 200
        return time.perf_counter()

    with ThreadPoolExecutor(2) as pool, server.client() as client:
        waiting = [pool.submit(many) for _ in range(2)]
        until(lambda: server.guard.in_flight == 2)
        start = time.perf_counter()
        assert client.post("/v1/recognize", content=PHOTO, timeout=60).status_code == 200
        alone, ends = time.perf_counter(), [one.result() for one in waiting]
    assert alone - start < 0.5 * (min(ends) - start)
