"""The client against a real HTTP server that does what servers and networks do."""

import asyncio
import inspect
import json
import logging
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec import client as api
from prodrec.client import answers, errors
from prodrec.client.exchange import Request
from prodrec.client.parsing import parse
from prodrec.client.retries import Retries

PNG = b"\x89PNG\r\n\x1a\nrest"
KEY = "s3cret-key-of-the-shop-0123456789"
# Longer than anything here takes; a test that waits so long fails.
PATIENCE_S = 20
ANSWER = {
    "sha256": "9f86",
    "width": 640,
    "height": 480,
    "products": [{"label": "blue-mug", "group": None, "probability": 1, "shelf": "new"}],
    "tags": [{"label": "mug", "score": 0.98, "box": [12, 40.5, 130.2, 210]}],
    "quality": {"short_side": 480, "aspect": 1.33},
    "decision": "review",
    "reasons": [{"code": "unsure", "action": "review", "detail": "97.1%", "hint": "say which"}],
    "bundle_id": "1f+77",
    "classifier_id": "1f",
    "tagger_id": None,
    "policy_id": "c0",
    "timings_ms": {"total": 46.0},
    "explanation": {"label": "blue-mug", "probability": 0.97, "method": "gradcam", "overlay_png": "iVBORw=="},
    "of_a_newer_server": [1, 2],
}
RUN = {"id": "r-1", "status": "running", "images_done": 3, "images": 9, "started": "2026-11-21T17:42:36+00:00"}
DONE = RUN | {"status": "finished", "results": "/v1/bulk/r-1/results"}
HEAT = {"label": "a", "probability": 0.5, "method": "gradcam", "heat": [[0, 1], [0.5, 0]], "frame": [0, 0, 8, 8], "width": 8, "height": 8, "bundle_id": "1f"}


class Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float

    def parts(self) -> list[tuple[str, str, bytes]]:
        """(field, file name, bytes) of each part of a form."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        parts = BytesParser(policy=HTTP).parsebytes(head + self.body).iter_parts()
        found = [(part["Content-Disposition"].params, part.get_payload(decode=True)) for part in parts]
        return [(params["name"], params["filename"], data) for params, data in found]


class Server(ThreadingHTTPServer):
    """A real server on a free port; `answers` are given in turn, the last of them for ever."""

    daemon_threads = True

    def __init__(self, *answers: Callable[["Handler", Asked], object], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers, self.asked, self.connections, self.closing = deque(answers), [], 0, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        self.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        """A client that hangs up is what several tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Asked(self.command, self.path, headers, body, time.monotonic())
        self.server.asked.append(asked)
        answers = self.server.answers
        (answers.popleft() if len(answers) > 1 else answers[0])(self, asked)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_) -> None:
        pass


def send(status: int = 200, body: object = b"", length: int | None = None, **headers: object):
    """An answer; with a `length` that is longer than the body it is cut short."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(handler: Handler, _: Asked) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": len(data) if length is None else length} | headers).items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = length is not None

    return answer


def problem(status: int, code: str, **headers: object):
    tree = {"type": f"urn:prodrec:problem:{code}", "title": "t", "status": status, "detail": "what was\nfound", "code": code, "hint": "mend it"}
    return send(status, tree, Content_Type="application/problem+json", X_Request_ID="id-7", **headers)


def drop(handler: Handler, _: Asked) -> None:
    handler.close_connection = True


def hang(handler: Handler, _: Asked) -> None:
    handler.server.closing.wait(PATIENCE_S)
    handler.close_connection = True


def batch(handler: Handler, asked: Asked) -> None:
    """Answers each file with its first byte as label; one that begins with ! is bad."""
    results = []
    for _, name, data in asked.parts():
        answer = ANSWER | {"products": [{"label": data[:1].decode(), "group": None, "probability": 1.0}]}
        bad = {"code": "truncated", "status": 422, "title": "t", "detail": "d", "type": "u"}
        results.append({"name": name, "status": 422, "answer": None, "problem": bad} if data[:1] == b"!" else {"name": name, "status": 200, "answer": answer})
        results[-1].setdefault("problem", None)
    send(200, {"results": results})(handler, asked)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(params=["Client", "AsyncClient"])
def call(request):
    """Makes one call of a client, blocking or awaited, with options `on`."""

    def call(url: str, name: str, *args, on: dict | None = None, **kwargs):
        options = {"backoff_s": 0.001} | (on or {})
        if request.param == "Client":
            with api.Client(url, **options) as client:
                return getattr(client, name)(*args, **kwargs)

        async def awaited():
            async with api.AsyncClient(url, **options) as client:
                return await getattr(client, name)(*args, **kwargs)

        return asyncio.run(awaited())

    return call


def refused(call, url: str, *args, kind=api.ClientError, on: dict | None = None, **kwargs):
    with pytest.raises(kind) as raised:
        call(url, *args, on=on, **kwargs)
    assert "\n" not in str(raised.value)
    return raised.value


def test_an_image_goes_as_the_raw_body_and_comes_back_as_values(call, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with running(Server(send(200, ANSWER))) as server:
        answer = call(server.url + "/behind/", "recognize", b"jpeg", top_k=3, tags=False, explain=True, category="mugs & more", on={"api_key": KEY + "\n"})
    [asked] = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/behind/v1/recognize?top_k=3&tags=false&explain=true&category=mugs+%26+more", b"jpeg")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert (asked.headers["content-type"], asked.headers["accept"]) == ("application/octet-stream", "application/json")
    assert asked.headers["user-agent"].startswith("prodrec-client")
    assert answer.products == (api.Product("blue-mug", None, 1.0),)
    assert answer.tags == (api.Tag("mug", 0.98, (12.0, 40.5, 130.2, 210.0)),)
    assert (answer.quality["short_side"], answer.tagger_id, answer.explanation.overlay_png) == (480, None, b"\x89PNG")


def test_a_proxy_is_asked_where_it_is_named(call):
    with running(Server(send(200, ANSWER))) as proxy:
        call("http://prodrec.test", "recognize", b"x", on={"proxy": proxy.url})
    assert proxy.asked[0].path == "http://prodrec.test/v1/recognize"


def test_nothing_is_asked_for_that_the_caller_did_not_choose(call):
    with running(Server(send(200, ANSWER))) as server:
        call(server.url, "recognize", bytearray(b"x"))
    [asked] = server.asked
    assert asked.path == "/v1/recognize"
    assert "authorization" not in asked.headers


def test_an_address_goes_as_json(call):
    with running(Server(send(200, ANSWER))) as server:
        call(server.url, "recognize", api.Url("https://images.shop.example/1.jpg"))
    assert json.loads(server.asked[0].body) == {"image_url": "https://images.shop.example/1.jpg"}


def test_paths_are_read_and_a_missing_file_is_a_bad_image(call, tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"from disk")
    with running(Server(send(200, ANSWER))) as server:
        call(server.url, "recognize", tmp_path / "1.jpg")
        call(server.url, "recognize", str(tmp_path / "1.jpg"))
        for path in (tmp_path / "2.jpg", tmp_path, "a\0b", "https://images.shop.example/1.jpg"):
            error = refused(call, server.url, "recognize", path, kind=api.BadImage)
            assert (error.code, error.status) == ("missing", 422)
        assert "Url" in error.hint
    assert [asked.body for asked in server.asked] == [b"from disk"] * 2


def test_heat_comes_as_a_picture_or_as_numbers(call):
    with running(Server(send(200, PNG), send(200, HEAT), send(200, b"<html>"))) as server:
        assert call(server.url, "explain", b"x", label="a b", method="occlusion", size=8, stride=4, fill="grey") == PNG
        heat = call(server.url, "heat", b"x")
        refused(call, server.url, "explain", b"x", kind=api.BadAnswer)
    assert (heat.heat, heat.frame) == (((0.0, 1.0), (0.5, 0.0)), (0.0, 0.0, 8.0, 8.0))
    assert server.asked[0].path == "/v1/explain?label=a+b&method=occlusion&size=8&stride=4&fill=grey"
    assert [asked.headers["accept"] for asked in server.asked] == ["image/png", "application/json", "image/png"]


def test_any_number_of_images_goes_in_requests_that_the_server_takes(call, tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"b" * 10)
    images = [b"a" * 10, tmp_path / "b.jpg", str(tmp_path / "none.jpg"), b"!bad", b"d" * 50, b"e"] + [b"f"] * 64
    with running(Server(batch)) as server:
        results = call(server.url, "recognize_batch", iter(images), top_k=1, bytes_per_request=40)
    assert [result.name for result in results] == ["0", str(tmp_path / "b.jpg"), str(tmp_path / "none.jpg"), *(str(i) for i in range(3, 70))]
    labels = [result.answer.products[0].label if result.answer else result.problem.code for result in results]
    assert labels == ["a", "b", "missing", "truncated", "d", "e", *["f"] * 64]
    assert [result.status for result in results[:4]] == [200, 200, 422, 422]
    assert [len(asked.parts()) for asked in server.asked] == [3, 1, 40, 25]
    assert {field for asked in server.asked for field, _, _ in asked.parts()} == {"files"}
    assert not any(str(tmp_path).encode() in asked.body for asked in server.asked)


def test_a_batch_has_at_most_64_files_and_none_needs_no_request(call):
    with running(Server(batch)) as server:
        assert len(call(server.url, "recognize_batch", [b"x"] * 130)) == 130
        assert [len(asked.parts()) for asked in server.asked] == [64, 64, 2]
        assert call(server.url, "recognize_batch", []) == []
        assert call(server.url, "recognize_batch", ["/no/such/file"])[0].problem.code == "missing"
    assert len(server.asked) == 3


def test_what_ends_a_later_request_of_a_batch_costs_no_answer_before_it(call):
    with running(Server(batch, problem(503, "busy", Retry_After=0))) as server:
        results = call(server.url, "recognize_batch", [b"x"] * 200, on={"retries": 1})
    assert [bool(result.answer) for result in results] == [True] * 64 + [False] * 136
    assert {(result.status, result.problem.code) for result in results[64:]} == {(503, "busy")}
    assert len(server.asked) == 3, "what comes after is not sent"
    with running(Server(problem(503, "busy", Retry_After=0))) as server:
        refused(call, server.url, "recognize_batch", [b"x"] * 2, kind=api.Busy, on={"retries": 0})


@pytest.mark.parametrize("status", [404, 500])
def test_what_ray_serve_says_for_an_application_that_is_away_passes(call, status):
    with running(Server(send(status, b"Path '/v1/recognize' not found."), send(200, ANSWER))) as server:
        assert call(server.url, "recognize", b"x").width == 640
    with running(Server(problem(status, "not_found" if status == 404 else "internal"))) as server:
        refused(call, server.url, "recognize", b"x", kind=api.NotFound if status == 404 else api.ServerFault)
    assert len(server.asked) == 1


def test_answers_for_other_images_are_not_taken(call):
    other = {"results": [{"name": name, "status": 200, "answer": ANSWER, "problem": None} for name in ("1", "0")]}
    with running(Server(send(200, other))) as server:
        refused(call, server.url, "recognize_batch", [b"a", b"b"], kind=api.BadAnswer)
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", [drop, problem(503, "busy", Retry_After=0), send(502, b"<html>"), send(504), send(429), send(200, b"{", length=99)])
def test_what_may_pass_is_tried_again(call, fault):
    with running(Server(fault, fault, send(200, ANSWER))) as server:
        assert call(server.url, "recognize", b"x").width == 640
    assert [asked.body for asked in server.asked] == [b"x"] * 3


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(drop, api.Unreachable), (problem(503, "not_ready"), api.Busy), (send(502), api.GatewayFault), (send(200, b"{", length=99), api.Unreachable)],
)
def test_tries_are_bounded(call, fault, kind):
    with running(Server(fault)) as server:
        refused(call, server.url, "recognize", b"x", kind=kind, on={"retries": 2})
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", api.BadRequest),
        (401, "no_key", api.KeyNeeded),
        (403, "not_allowed", api.NotAllowed),
        (404, "not_found", api.NotFound),
        (405, "method_not_allowed", api.Refused),
        (408, "too_slow_body", api.Refused),
        (413, "too_large", api.BadImage),
        (413, "too_many_files", api.BadRequest),
        (415, "unsupported_format", api.BadImage),
        (422, "truncated", api.BadImage),
        (422, "no_such_label", api.BadRequest),
        (422, "bad_manifest", api.BadRequest),
        (500, "internal", api.ServerFault),
        (504, "timeout", api.ServerFault),
    ],
)
def test_a_problem_is_an_error_with_all_that_it_says(call, status, code, kind):
    with running(Server(problem(status, code))) as server:
        error = refused(call, server.url, "recognize", b"x")
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.hint, error.request_id) == (status, code, "what was\nfound", "mend it", "id-7")
    assert str(error) == f"{status} {code}: what was found; mend it (request id-7)"
    assert len(server.asked) == 1


def test_a_refusal_of_a_proxy_has_a_code_too(call):
    with running(Server(send(413, b"<html>nginx"))) as server:
        error = refused(call, server.url, "recognize", b"x", kind=api.BadImage)
    assert (error.code, error.request_id) == ("http_413", None)


def test_the_status_is_what_http_says(call):
    with running(Server(send(413, {"status": 200, "code": "too_large"}))) as server:
        assert refused(call, server.url, "recognize", b"x", kind=api.BadImage).status == 413


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b"null", b"[]", {}, ANSWER | {"width": "640"}, ANSWER | {"width": True}, ANSWER | {"products": None}, b"\xff\xfe"]
)
def test_another_document_is_a_bad_answer(call, body):
    with running(Server(send(200, body))) as server:
        refused(call, server.url, "recognize", b"x", kind=api.BadAnswer)
    assert len(server.asked) == 1


def test_a_body_that_cannot_be_inflated_is_a_bad_answer(call):
    with running(Server(send(200, b"no gzip", Content_Encoding="gzip"))) as server:
        refused(call, server.url, "recognize", b"x", kind=api.BadAnswer)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(call, status):
    with running(Server(send(200, ANSWER))) as other, running(Server(send(status, Location=f"{other.url}/v1/recognize?token=s"))) as server:
        error = refused(call, server.url, "recognize", b"x", kind=api.BadAnswer, on={"api_key": KEY})
    assert (other.asked, len(server.asked)) == ([], 1)
    assert "base_url" in str(error) and "token" not in str(error)


def test_an_answer_that_does_not_come_is_not_asked_for_twice(call):
    with running(Server(hang)) as server:
        refused(call, server.url, "recognize", b"x", kind=api.TimedOut, on={"read_timeout_s": 0.5})
    # Not even once where this machine is so busy that the server has not seen it by then.
    assert len(server.asked) <= 1


def test_nobody_there_is_unreachable_and_nothing_arrived(call):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert not refused(call, f"http://127.0.0.1:{port}", "bundle", kind=api.Unreachable).may_have_arrived


def test_connections_are_used_again():
    with running(Server(send(200, ANSWER), problem(422, "truncated"), send(200, ANSWER))) as server, api.Client(server.url) as client:
        client.recognize(b"x")
        refused(lambda _, name, *args, on: getattr(client, name)(*args), "", "recognize", b"x")
        client.recognize(b"x")
    assert (server.connections, len(server.asked)) == (1, 3)


def test_a_manifest_is_streamed_and_sent_whole_at_each_try(call, tmp_path):
    (tmp_path / "tonight.csv").write_bytes(rows := b"listing_id,uri\n" * 50_000)
    with running(Server(problem(503, "busy"), send(202, RUN))) as server:
        assert call(server.url, "start_bulk", tmp_path / "tonight.csv").id == "r-1"
        call(server.url, "start_bulk", b"PAR1")
        call(server.url, "start_bulk", b"listing_id")
        call(server.url, "start_bulk", api.Url("s3://bucket/m.parquet"))
        with pytest.raises(FileNotFoundError):
            call(server.url, "start_bulk", tmp_path / "none.csv")
    assert [asked.parts() for asked in server.asked[:2]] == [[("file", "tonight.csv", rows)]] * 2
    assert [asked.parts()[0][1] for asked in server.asked[2:4]] == ["manifest.parquet", "manifest.csv"]
    assert json.loads(server.asked[4].body) == {"input": "s3://bucket/m.parquet"}


@pytest.mark.parametrize(("fault", "kind"), [(drop, api.Unreachable), (send(502), api.GatewayFault), (send(202, b"{", length=99), api.Unreachable)])
def test_a_run_that_may_have_begun_is_not_begun_again(call, fault, kind):
    with running(Server(fault)) as server:
        refused(call, server.url, "start_bulk", b"listing_id", kind=kind)
    assert len(server.asked) == 1


def test_a_run_is_looked_at_and_cancelled_by_its_id(call):
    with running(Server(send(200, RUN), send(200, RUN | {"status": "cancelled"}), problem(404, "not_found"))) as server:
        assert call(server.url, "bulk", "r-1").started.isoformat() == "2026-11-21T17:42:36+00:00"
        assert call(server.url, "cancel_bulk", "r-1").status == "cancelled"
        refused(call, server.url, "bulk", "a/../b?c", kind=api.NotFound)
    assert [(asked.method, asked.path) for asked in server.asked] == [("GET", "/v1/bulk/r-1"), ("DELETE", "/v1/bulk/r-1"), ("GET", "/v1/bulk/a%2F..%2Fb%3Fc")]


def test_waiting_for_a_run_outlasts_a_server_that_is_away(call):
    seen = []
    with running(Server(send(200, RUN), drop, problem(503, "busy"), send(502), hang, send(200, DONE))) as server:
        run = call(server.url, "wait_bulk", "r-1", PATIENCE_S, seen.append, poll_s=0.001, on={"read_timeout_s": 0.1})
    assert (run.status, run.results) == ("finished", "/v1/bulk/r-1/results")
    assert seen[-1] == run
    # More where this machine is so busy that an answer takes longer than the time limit.
    assert len(server.asked) >= 6


def test_what_the_caller_raises_ends_the_wait(call):
    def give_up(_: api.BulkRun) -> None:
        raise api.TimedOut("mine")

    with running(Server(send(200, RUN))) as server:
        assert str(refused(call, server.url, "wait_bulk", "r-1", PATIENCE_S, give_up, kind=api.TimedOut)) == "mine"
    assert len(server.asked) == 1


def test_waiting_ends_in_time_and_with_what_waiting_does_not_mend(call):
    with running(Server(send(200, RUN))) as server:
        start = time.monotonic()
        assert "3 of 9" in str(refused(call, server.url, "wait_bulk", "r-1", 0.2, poll_s=60, kind=api.TimedOut))
        assert 0.2 <= time.monotonic() - start < PATIENCE_S
    assert len(server.asked) <= 2
    with running(Server(problem(404, "not_found"))) as server:
        refused(call, server.url, "wait_bulk", "r-1", PATIENCE_S, kind=api.NotFound)
    with running(Server(hang)) as server:
        start = time.monotonic()
        refused(call, server.url, "wait_ready", 0.1, kind=api.TimedOut)
        assert time.monotonic() - start < PATIENCE_S / 2
    with running(Server(send(302, Location="/login"))) as server:
        refused(call, server.url, "wait_ready", PATIENCE_S, kind=api.BadAnswer)


def test_a_server_that_starts_is_waited_for(call):
    with running(Server(drop, send(404), problem(503, "not_ready", Retry_After=PATIENCE_S), send(200, {"status": "ready"}))) as server:
        assert call(server.url, "wait_ready", PATIENCE_S, poll_s=0.001, on={"longest_wait_s": PATIENCE_S}) is None
    assert len(server.asked) == 4
    assert server.asked[3].at_s - server.asked[0].at_s < PATIENCE_S / 2


def test_ready_looks_once(call):
    with running(Server(problem(503, "not_ready"), send(200, {"status": "ready"}), send(502), drop)) as server:
        assert [call(server.url, "ready") for _ in range(3)] == [False, True, False]
        refused(call, server.url, "ready", kind=api.Unreachable)
    assert len(server.asked) == 4


def test_results_are_there_whole_or_not_at_all(call, tmp_path):
    path, rows = tmp_path / "decisions.csv", b"listing_id,decision\n" * 50_000
    cut = send(200, rows, length=len(rows) + 1)
    path.write_bytes(b"of yesterday")
    with running(Server(cut, send(200, rows), cut, cut, problem(404, "not_found"))) as server:
        with path.open("rb") as reader:
            assert call(server.url, "bulk_results", "r-1", path) == path
            assert reader.read() == b"of yesterday"
        assert path.read_bytes() == rows
        refused(call, server.url, "bulk_results", "r-1", path, kind=api.Unreachable, on={"retries": 1})
        refused(call, server.url, "bulk_results", "r-1", str(path), kind=api.NotFound)
        with pytest.raises(FileNotFoundError):
            server.answers.append(send(200, rows))
            server.answers.popleft()
            call(server.url, "bulk_results", "r-1", tmp_path / "none" / "x.csv")
    assert path.read_bytes() == rows
    assert list(tmp_path.iterdir()) == [path]


def test_the_bundle_comes_with_counts_or_names(call):
    served = {"id": "1f", "arch": "resnet50", "labels": 4, "groups": 0, "input_px": 224, "created": "2026", "metrics": {"top1": 0.9, "note": "x"}}
    tree = {"bundle_id": "1f", "policy_id": "c0", "classifier": served, "tagger": None}
    with running(Server(send(200, tree), send(200, tree | {"classifier": served | {"labels": ["a", "b"], "groups": []}}))) as server:
        assert call(server.url, "bundle").classifier.labels == 4
        assert call(server.url, "bundle", labels=True).classifier.labels == ("a", "b")
    assert [asked.path for asked in server.asked] == ["/v1/bundle", "/v1/bundle?labels=true"]


def test_closing_ends_the_wait_between_tries():
    with running(Server(problem(503, "busy", Retry_After=PATIENCE_S))) as server:
        client, ended = api.Client(server.url, longest_wait_s=2 * PATIENCE_S), []

        def work() -> None:
            with pytest.raises(api.ClientError, match="closed"):
                client.recognize(b"x")
            ended.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        while not server.asked:
            thread.join(0.01)
        client.close()
        thread.join(PATIENCE_S / 2)
    assert ended


def test_the_server_says_when_to_come_back_up_to_a_limit(call):
    for asks, limit_s, least_s in ((1, 5, 1.0), (1000, 0.3, 0.3)):
        with running(Server(problem(503, "busy", Retry_After=asks), send(200, ANSWER))) as server:
            call(server.url, "recognize", b"x", on={"longest_wait_s": limit_s})
        assert least_s <= server.asked[1].at_s - server.asked[0].at_s < PATIENCE_S


def test_what_retry_after_says(call):
    values = ["7", "-1", "nan", "soon", "", formatdate(time.time() + 600), formatdate(0)]
    with running(Server(*(problem(503, "busy", Retry_After=value) for value in values))) as server:
        found = [refused(call, server.url, "recognize", b"x", kind=api.Busy, on={"retries": 0}).retry_after_s for _ in values]
    assert found[:5] == [7.0, None, None, None, None]
    assert 600 - PATIENCE_S < found[5] <= 600
    assert found[6] == 0.0


@given(st.integers(0, 6), st.floats(0.001, 10), st.floats(0.001, 20), st.integers(1, 12), st.none() | st.floats(0, 1e6))
def test_waits_are_random_below_a_bound_that_doubles(tries, backoff_s, longest_s, failed, asked_s):
    busy = errors.refusal(api.Problem(503, "busy"), True, None, asked_s)
    wait_s = Retries(tries, backoff_s, longest_s).wait_s(Request("GET", "/"), busy, failed)
    if failed > tries:
        assert wait_s is None
    else:
        assert min(longest_s, asked_s or 0) <= wait_s <= min(longest_s, backoff_s * 2 ** (failed - 1) + (asked_s or 0))


def httpx_errors() -> list[type[Exception]]:
    found = [kind for kind in vars(httpx).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(found) > 25
    return found


@pytest.mark.parametrize("kind", httpx_errors(), ids=lambda kind: kind.__name__)
def test_no_error_of_httpx_comes_through(kind):
    arguments = {"request": None, "response": None} if issubclass(kind, httpx.HTTPStatusError) else {}
    silent = issubclass(kind, httpx.StreamConsumed | httpx.StreamClosed | httpx.ResponseNotRead | httpx.RequestNotRead)
    with pytest.raises(api.ClientError) as raised, errors.mapped("http://s"):
        raise kind(*([] if silent else ["why\nso"]), **arguments)
    known = {httpx.ConnectTimeout: api.Unreachable, httpx.ReadTimeout: api.TimedOut, httpx.PoolTimeout: api.TimedOut, httpx.DecodingError: api.BadAnswer}
    assert type(raised.value) is known.get(kind, type(raised.value))
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> str:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not here")
    folder = tmp_path_factory.mktemp("tls")
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subprocess.run([openssl, "req", "-x509", *key, *name, "-keyout", "both.pem", "-out", "ca.pem"], cwd=folder, check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "both.pem").read_text() + (folder / "ca.pem").read_text())
    return str(folder)


def test_a_certificate_is_checked_and_an_unknown_one_is_not_tried_again(call, certificate):
    server = Server(send(200, ANSWER))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{certificate}/both.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server):
        url = server.url.replace("http:", "https:")
        assert "ca_file" in str(refused(call, url, "recognize", b"x", kind=api.Untrusted))
        refused(call, url, "wait_ready", PATIENCE_S, kind=api.Untrusted)
        assert (server.connections, server.asked) == (2, [])
        assert call(url, "recognize", b"x", on={"ca_file": f"{certificate}/ca.pem"}).width == 640
        assert call(url, "recognize", b"x", on={"verify": False}).width == 640


def test_the_key_is_neither_shown_nor_logged(call, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with running(Server(problem(401, "no_key"))) as server:
        error = refused(call, server.url, "recognize", b"x", kind=api.KeyNeeded, on={"api_key": KEY})
    client = api.Client(server.url, api_key=KEY)
    shown = [caplog.text, *capfd.readouterr(), repr(client), repr(error), str(error), repr(error.__context__)]
    # Not by the text: Ray, where another test has started it, writes it without the names.
    assert {"httpx", "httpcore"} & {record.name.partition(".")[0] for record in caplog.records}
    assert not any("s3cret" in text for text in shown)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("127.0.0.1:8000", {}),
        ("ftp://server", {}),
        ("http://", {}),
        ("http://s3cret:s3cret@server", {}),
        ("http://key:s3cret", {}),
        ("http://server?key=s3cret", {}),
        ("http://server:99999", {}),
        (f"http://{'a' * 64}.example", {}),
        ("http://server", {"api_key": ""}),
        ("http://server", {"api_key": "s3cret\nX-Other: 1"}),
        ("http://server", {"api_key": "s3crét"}),
        ("http://server", {"ca_file": "/no/such/file"}),
        ("http://server", {"proxy": "gopher://me:s3cret@proxy"}),
        ("http://server", {"proxy": "http://me:s3cret"}),
        ("http://server", {"retries": -1}),
        ("http://server", {"read_timeout_s": 0}),
    ],
)
@pytest.mark.parametrize("kind", [api.Client, api.AsyncClient])
def test_wrong_options_are_told_without_secrets(kind, url, options):
    with pytest.raises(ValueError) as raised:
        kind(url, **options)
    shown = str(raised.value) + repr(raised.value.__cause__)
    assert "s3cr" not in shown


def test_errors_can_be_sent_between_processes():
    refusal = errors.refusal(api.Problem(503, "busy", "d", "h"), True, "id", 2.0)
    again = pickle.loads(pickle.dumps(refusal))
    assert (type(again), str(again), again.retry_after_s, again.problem) == (api.Busy, str(refusal), 2.0, refusal.problem)
    assert not pickle.loads(pickle.dumps(api.Unreachable("m", may_have_arrived=False))).may_have_arrived


def test_both_clients_have_the_same_documented_calls():
    calls = {name for name in vars(api.Client) if not name.startswith("_")}
    assert calls == {name for name in vars(api.AsyncClient) if not name.startswith("_")}
    for name in calls - {"close"}:
        blocking, awaited = getattr(api.Client, name), getattr(api.AsyncClient, name)
        assert inspect.signature(blocking) == inspect.signature(awaited)
        assert next(iter(inspect.signature(blocking).parameters)) == "self"
        assert "Generator" not in str(inspect.signature(blocking).return_annotation)
        assert blocking.__doc__
        assert inspect.iscoroutinefunction(awaited)


def test_the_client_needs_nothing_else_of_prodrec():
    code = "import sys, prodrec.client; print(*(n for n in sys.modules if n.startswith(('prodrec', 'torch', 'ray', 'pydantic', 'numpy'))))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in loaded if name != "prodrec" and not name.startswith("prodrec.client")] == []


def test_what_does_not_fit_is_told_with_its_place():
    with pytest.raises(ValueError, match=r"^\.tags\[0\]\.box: expected 4 items, found 3$"):
        parse(answers.Answer, ANSWER | {"tags": [{"label": "mug", "score": 1, "box": [1, 2, 3]}]})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.dictionaries(st.sampled_from(sorted(ANSWER)), JSON, max_size=3), st.sets(st.sampled_from(sorted(ANSWER)), max_size=2))
def test_whatever_json_comes_is_an_answer_or_a_value_error(changed, gone):
    tree = {name: value for name, value in (ANSWER | changed).items() if name not in gone}
    try:
        answer = parse(answers.Answer, tree)
    except ValueError as error:
        assert str(error)
    else:
        assert answer.sha256 == tree["sha256"] and set(asdict(answer)) - {"explanation"} <= set(tree)


def test_a_photo_is_asked_for_of_the_server_alone():
    """A whole address would take the key to another server."""
    with api.Client("http://127.0.0.1:9", api_key="secret") as client:
        for path in ("https://elsewhere.example/v1/photos/0", "//elsewhere.example/v1/photos/0", "/v1/bundle"):
            with pytest.raises(ValueError, match="begins with /v1/photos/"):
                client.photo(path)
