"""The client against the application itself, with a trained bundle."""

import asyncio
import dataclasses
import json
import socket
import threading
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from made import photo
from shop import IMAGE, Shop
from shop import running as shop_running

from prodrec import client as api
from prodrec.models.bundle import load_bundle
from prodrec.scoring.fetch import FetchLimits
from prodrec.serving import schemas
from prodrec.serving.app import create_app
from prodrec.serving.engine import Engine
from prodrec.serving.local import LocalBackend
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import ServingSettings, hash_key

KEY = "k" * 32
PATIENCE_S = 60


@contextmanager
def serving(bundle: str, **settings):
    """The address of an application that runs in a thread, on a free port."""
    meter = LocalMeter()
    app = create_app(LocalBackend(Engine(load_bundle(bundle), None, meter)), ServingSettings(**settings), meter)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def url(calibrated_bundle):
    with serving(calibrated_bundle, max_body_bytes=100_000) as url:
        with api.Client(url) as client:
            client.wait_ready(PATIENCE_S)
        yield url


@pytest.fixture(scope="module")
def client(url):
    with api.Client(url) as client:
        yield client


def refused(kind: type[api.Refused], call, *args, **kwargs) -> api.Refused:
    with pytest.raises(api.Refused) as raised:
        call(*args, **kwargs)
    assert type(raised.value) is kind
    assert raised.value.request_id
    return raised.value


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (api.Answer, schemas.Answer),
        (api.Product, schemas.ProductOut),
        (api.Tag, schemas.TagOut),
        (api.Reason, schemas.ReasonOut),
        (api.Explanation, schemas.ExplanationOut),
        (api.HeatMap, schemas.HeatOut),
        (api.BatchResult, schemas.BatchResult),
        (api.BulkRun, schemas.BulkOut),
        (api.ServedBundle, schemas.ServedBundle),
        (api.ServedBundles, schemas.ServedBundles),
    ],
)
def test_the_client_knows_every_member_of_an_answer(ours, theirs):
    assert {field.name for field in dataclasses.fields(ours)} == set(theirs.model_fields)


def test_both_clients_tell_what_the_server_answers(client, url):
    raw = httpx.post(f"{url}/v1/recognize", content=photo(2, 900), params={"top_k": 2}, trust_env=False).json()
    answer = client.recognize(photo(2, 900), top_k=2)

    async def awaited() -> api.Answer:
        async with api.AsyncClient(url) as client:
            return await client.recognize(photo(2, 900), top_k=2)

    again = asyncio.run(awaited())
    assert answer.products[0].label == "blue"
    for found in (answer, again):
        tree = json.loads(json.dumps(dataclasses.asdict(found)))
        assert tree | {"timings_ms": 0} == raw | {"timings_ms": 0}


def test_an_answer_can_come_with_its_heat(client):
    answer = client.recognize(photo(0, 900), explain=True)
    assert answer.explanation.label == answer.products[0].label
    assert answer.explanation.overlay_png == client.explain(photo(0, 900))
    heat = client.heat(photo(0, 900), label="blue", method="occlusion", size=16, stride=16, fill="grey")
    assert (heat.label, heat.method, heat.width, len(heat.heat)) == ("blue", "occlusion", 48, len(heat.heat[0]))


def test_a_declared_category_is_heard(client):
    right, wrong = (client.recognize(photo(0, 900), category=category) for category in ("even", "odd"))
    assert {reason.code for reason in wrong.reasons} - {reason.code for reason in right.reasons}


def test_a_batch_of_any_size_keeps_its_order(client, tmp_path):
    (tmp_path / "last.jpg").write_bytes(photo(1, 900))
    images = [photo(number % 4, 900 + number) for number in range(66)]
    images[3], images[65] = b"no image", photo(0, 0)[:300]
    results = client.recognize_batch([*images, tmp_path / "last.jpg"], top_k=1)
    assert [result.name for result in results] == [*map(str, range(66)), str(tmp_path / "last.jpg")]
    assert {number: result.problem.code for number, result in enumerate(results) if result.problem} == {3: "not_an_image", 65: "truncated"}
    alone = [client.recognize(image, top_k=1).products[0].label for image in (images[0], images[64], tmp_path / "last.jpg")]
    assert [results[number].answer.products[0].label for number in (0, 64, 66)] == alone


def test_bad_images_are_told_by_their_code(client):
    bad = {"not_an_image": b"text", "truncated": photo(0, 0)[:300], "too_large": b"\xff\xd8" + b"x" * 200_000, "unsupported_format": b"%PDF-1.7 " + b"x" * 99}
    for code, data in bad.items():
        assert refused(api.BadImage, client.recognize, data).code == code
    assert refused(api.BadImage, client.recognize, b"").code == "not_an_image"


def test_what_is_asked_wrongly_is_no_bad_image(client):
    assert refused(api.BadRequest, client.explain, photo(0, 0), label="nobody").code == "no_such_label"
    assert refused(api.BadRequest, client.recognize, photo(0, 0), top_k=99).code == "bad_request"
    assert refused(api.BadRequest, client.recognize_batch, [b"x"] * 65, files_per_request=65).code == "too_many_files"


def test_doors_that_are_shut(client):
    for call in (
        lambda: client.recognize(api.Url("https://images.shop.example/1.jpg")),
        lambda: client.start_bulk(b"listing_id,uri\n"),
        lambda: client.start_bulk(api.Url("s3://bucket/m.csv")),
        lambda: client.bulk("r-1"),
        lambda: client.cancel_bulk("r-1"),
    ):
        assert refused(api.NotAllowed, call).code == "not_allowed"


def test_what_is_served(client):
    counted, named = client.bundle(), client.bundle(labels=True)
    assert (counted.classifier.labels, sorted(named.classifier.labels), counted.tagger) == (4, ["blue", "green", "red", "yellow"], None)
    assert counted.bundle_id == client.recognize(photo(0, 0)).bundle_id
    assert client.ready()


def test_a_key_opens_and_no_other(calibrated_bundle):
    with serving(calibrated_bundle, api_keys=(hash_key(KEY),)) as url:
        with api.Client(url, api_key=KEY + "\n") as client:
            client.wait_ready(PATIENCE_S)
            assert client.recognize(photo(0, 0)).width == 48
        for key in (None, "x" * 32):
            with api.Client(url, api_key=key) as stranger:
                assert refused(api.KeyNeeded, stranger.recognize, photo(0, 0)).code == "no_key"


def test_a_busy_server_says_when_to_come_back(calibrated_bundle):
    with serving(calibrated_bundle, max_held_bytes=1, retry_after_s=1) as url, api.Client(url, retries=1, backoff_s=0.001, longest_wait_s=0.01) as client:
        client.wait_ready(PATIENCE_S)
        assert refused(api.Busy, client.recognize, photo(0, 0)).retry_after_s == 1


def test_an_address_is_fetched_by_the_server(calibrated_bundle):
    limits = FetchLimits(schemes=("http",), hosts=("127.0.0.1",), allow_private=True)
    with shop_running(Shop()) as shop, serving(calibrated_bundle, image_url=limits) as url, api.Client(url) as client:
        client.wait_ready(PATIENCE_S)
        assert client.recognize(api.Url(shop.uri())).sha256 == client.recognize(IMAGE).sha256
        shop.answers["/gone.jpg"] = lambda asked: asked.send(404)
        assert refused(api.BadImage, client.recognize, api.Url(shop.uri("/gone.jpg"))).code == "missing"
        assert refused(api.NotAllowed, client.recognize, api.Url("http://localhost/1.jpg")).code == "not_allowed"
