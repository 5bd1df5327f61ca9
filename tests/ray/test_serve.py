"""The application on a real Ray Serve: equal answers on every path, bundles changed and processes killed under load."""

import asyncio
import json
import shutil
import socket
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest
import yaml
from load import load, quantile_s
from made import photo, run, scene
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from prodrec.client import Client
from prodrec.cluster.serve import APP, application
from prodrec.models.bundle import load_bundle
from prodrec.scoring.policy import PhotoRules
from prodrec.serving.settings import ServingSettings, hash_key

KEY = "a key of more than 22 characters"


@pytest.fixture(scope="module")
def url(cluster):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@contextmanager
def served(url, uris, replicas=1, **settings):
    serve.run(application({kind: str(uri) for kind, uri in uris.items()}, ServingSettings(**settings), replicas=replicas), name=APP)
    try:
        yield httpx.Client(base_url=url, timeout=60, trust_env=False)
    finally:
        serve.delete(APP)


@contextmanager
def under_load(url, clients=4):
    """Yields what has been asked so far; it grows in another thread."""
    ended, asked = threading.Event(), []
    thread = threading.Thread(target=lambda: asyncio.run(load(url, photo(1, 5), clients, ended.is_set, asked)))
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join()


def replicas_of(name: str) -> list[psutil.Process]:
    """Ray gives its processes their names."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile
            if name in "".join(child.cmdline()[:1]):
                found.append(child)
    return found


def addresses(process: psutil.Process) -> set[str]:
    with suppress(psutil.NoSuchProcess):
        return {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    return set()


def until(condition, limit_s=60):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s, "it did not come about"
        time.sleep(0.05)


def test_command_line_bulk_and_http_give_equal_answers(url, calibrated_bundle, tagger_run, tmp_path, capsys):
    folder, tagger = tmp_path / "photos", tagger_run / "bundle"
    folder.mkdir()
    pictures = [photo(number % 4, number) for number in range(8)] + [scene(number)[0] for number in range(200, 212)]
    paths = [folder / f"{number:02}.jpg" for number in range(len(pictures))]
    for path, data in zip(paths, pictures, strict=True):
        path.write_bytes(data)
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump({"several_products": "reject", "photo": {rule: {"action": "off"} for rule in PhotoRules.model_fields}}))
    bundles = ("--classifier", calibrated_bundle, "--tagger", tagger, "--policy", policy)
    capsys.readouterr()
    assert run("recognize", *paths, *bundles, "--json") == 0
    by_hand = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    database = tmp_path / "tags.db"
    assert run("tag", folder, "--to", f"sqlite:///{database}", *bundles, "--workers", "1") == 0
    with served(url, {"classifier": calibrated_bundle, "tagger": tagger}, policy=str(policy)) as client:
        answers = [client.post("/v1/recognize", content=data).raise_for_status().json() for data in pictures]
        several = client.post("/v1/recognize/batch", files=[("files", (path.name, path.read_bytes())) for path in paths]).raise_for_status().json()
    assert sum(bool(answer["tags"]) for answer in answers) > 5 and len({answer["decision"] for answer in answers}) > 1
    with sqlite3.connect(database) as connection:
        predictions = {row[0]: row[1:] for row in connection.execute("SELECT image_sha256, product, probability, bundle_id, quality FROM predictions")}
        decisions = dict(connection.execute("SELECT p.image_sha256, d.decision FROM decisions d JOIN predictions p USING (listing_id, bundle_id)"))
        tags = connection.execute("SELECT image_sha256, label, score, x1, y1, x2, y2 FROM tags ORDER BY image_sha256, tag_no").fetchall()
    for answer, told, beside in zip(answers, by_hand, several["results"], strict=True):
        product, probability, bundle_id, quality = predictions[answer["sha256"]]
        assert [p["label"] for p in answer["products"]] == [p["label"] for p in told["products"]]
        assert (answer["products"][0]["label"], answer["bundle_id"]) == (product, bundle_id)
        assert [p["probability"] for p in answer["products"]] == pytest.approx([p["probability"] for p in told["products"]], abs=1e-3)
        assert probability == pytest.approx(answer["products"][0]["probability"], abs=1e-3)
        assert answer["quality"] == pytest.approx(told["quality"])
        assert answer["quality"] == pytest.approx(json.loads(quality))
        assert answer["decision"] == told["decision"] == decisions[answer["sha256"]] == beside["answer"]["decision"]
        mine = [(tag["label"], tag["score"], *tag["box"]) for tag in answer["tags"]]
        theirs = [(tag["label"], tag["score"], *tag["box"]) for tag in told["tags"]]
        stored = [tuple(row[1:]) for row in tags if row[0] == answer["sha256"]]
        for others in (theirs, stored):
            assert [tag[0] for tag in mine] == [tag[0] for tag in others]
            assert [tag[1:] for tag in mine] == [pytest.approx(tag[1:], abs=1e-2) for tag in others]


def test_keys_metrics_heat_maps_and_health(url, calibrated_bundle):
    with served(url, {"classifier": calibrated_bundle}, api_keys=(hash_key(KEY),)) as client:
        assert set().union(*map(addresses, replicas_of("ray::"))) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert client.post("/v1/recognize", content=photo(0, 1)).status_code == 401
        client.headers["Authorization"] = f"Bearer {KEY}"
        assert {client.post("/v1/recognize", content=photo(0, number)).status_code for number in range(5)} == {200}
        assert client.post("/v1/recognize", content=b"none").status_code == 422
        heat = client.post("/v1/explain", content=photo(0, 1), headers={"Accept": "application/json"}).json()
        assert len(heat["heat"]) == 32 and heat["bundle_id"] == load_bundle(calibrated_bundle).info.bundle_id
        assert client.post("/v1/explain?label=none", content=photo(0, 1)).json()["code"] == "no_such_label"
        assert client.get("/readyz").status_code == client.get("/healthz").status_code == 200
        assert client.get("/").headers["content-type"].startswith("text/html")
        families = text_string_to_metric_families(client.get("/metrics").raise_for_status().text)
        counts = {(one.name, *sorted(value for name, value in one.labels.items() if name != "process")): one.value for f in families for one in f.samples}
        assert counts["prodrec_requests_total", "/v1/recognize", "200"] == counts["prodrec_stage_seconds_count", "classify"] == 5
        assert counts["prodrec_rejects_total", "not_an_image"] == 1
        assert counts["prodrec_batch_size_sum", "classifier"] == 5


def test_a_killed_process_costs_only_what_it_held(url, calibrated_bundle):
    clients = 4
    with served(url, {"classifier": calibrated_bundle}, 2) as client:
        before = replicas_of("ServeReplica:prodrec:Classifier")
        assert len(before) == 2
        with under_load(url, clients) as asked:
            victim = before[0]
            until(lambda: client.get("/readyz").status_code == 200)
            killed = time.perf_counter()
            victim.kill()
            until(lambda: len(replicas_of("ServeReplica:prodrec:Classifier")) == 2)
            until(lambda: client.get("/readyz").status_code == 200)
            back = time.perf_counter()
            until(lambda: time.perf_counter() > back + 2)
    failed = [one for one in asked if one.status != 200]
    assert len(failed) <= clients, [one.status for one in failed]
    assert {one.status for one in failed} <= {503}
    assert all(abs(one.begun - killed) < 5 for one in failed)
    assert any(one.begun > back for one in asked)


def test_overload_is_refused_and_does_no_harm(url, calibrated_bundle):
    """Ten times as many clients as there are places, all asking again at once, until hundreds were let in and hundreds refused."""
    places, clients = 8, 80
    with served(url, {"classifier": calibrated_bundle}, max_in_flight=places) as client:
        before, most = memory_bytes(), 0
        with under_load(url, clients) as asked:
            while sum(one.status == 200 for one in asked) < 200 or sum(one.status == 503 for one in asked) < 200:
                assert {one.status for one in asked} <= {200, 503}
                most = max(most, memory_bytes())
                time.sleep(0.2)
        assert client.post("/v1/recognize", content=photo(1, 5), timeout=5).status_code == 200, "it recovers within 5 s"
    assert most - before < 300_000_000
    # Of those who were let in; on two cores the clients themselves take their share of it.
    assert quantile_s(asked, 0.99) < 10
    assert next(one for one in asked if one.status == 503).answer["code"] == "busy"


def memory_bytes() -> int:
    return sum(process.memory_info().rss for name in ("ServeReplica:prodrec", "ray::ProxyActor") for process in replicas_of(name))


def test_a_bundle_that_is_none_leaves_the_old_one_at_work(url, calibrated_bundle, tmp_path):
    with served(url, {"classifier": calibrated_bundle}) as client:
        shutil.copytree(calibrated_bundle, tmp_path / "bad")
        (tmp_path / "bad" / "model.safetensors").write_bytes(b"cut")
        with pytest.raises(RuntimeError):
            serve.run(application({"classifier": str(tmp_path / "bad")}, ServingSettings()), name=APP)
        answer = client.post("/v1/recognize", content=photo(1, 5)).raise_for_status().json()
        assert answer["bundle_id"] == load_bundle(calibrated_bundle).info.bundle_id


def test_bulk_runs_begin_over_http_with_what_is_served(url, calibrated_bundle, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        (photos / f"{number}.jpg").write_bytes(photo(number % 4, number))
    lines = ["listing_id,uri", *(f"l{number},{photos}/{number}.jpg" for number in range(12)), "bad,/etc/passwd"]
    bulk = {"store": f"sqlite:///{tmp_path}/tags.db", "uploads": str(tmp_path / "uploads"), "inputs": [str(photos)], "workers": (1, 1)}
    with served(url, {"classifier": calibrated_bundle}, bulk=bulk), Client(url) as client:
        begun = client.start_bulk("\n".join(lines).encode())
        run = client.wait_bulk(begun.id, 120, poll_s=0.2)
        assert (run.status, run.rows_in, run.rows_tagged, run.rows_rejected) == ("finished", 13, 12, 1)
        rows = client.bulk_results(run.id, tmp_path / "out.csv").read_text().splitlines()
        answer = client.recognize(photos / "3.jpg")
    assert len(rows) == 14 and next(row for row in rows if row.startswith("l3,")).split(",")[1:3] == [answer.decision, answer.products[0].label]
    assert "not_allowed" in next(row for row in rows if row.startswith("bad,"))
