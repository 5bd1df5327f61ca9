"""The guard as a bare ASGI application: every door, and that places and bytes are given back whatever happens."""

import asyncio
import contextlib
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse

from prodrec.serving.guard import Guard
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.settings import ServingSettings, hash_key

KEY = "k" * 32
PATIENCE_S = 20
# The length is told by nobody.
CHUNKED = ((b"transfer-encoding", b"chunked"),)
BODY = {"body_timeout_s": 0.05, "request_timeout_s": PATIENCE_S}
ANSWER = {"body_timeout_s": PATIENCE_S, "request_timeout_s": 0.05}
SAFE = ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy", "x-request-id")
FOREVER = object()


async def echo(scope, receive, send) -> None:
    """Reads the body and tells its size."""
    await JSONResponse({"size": len(await Request(scope, receive).body())})(scope, receive, send)


class Exchange:
    """One request through a guard, and its answer. `pieces`: of the body; FOREVER: nothing more ever comes; None: the caller hangs up."""

    def __init__(self, app, *pieces, path="/v1/x", method="POST", headers=CHUNKED, root_path="", **settings) -> None:
        self.guard = app if isinstance(app, Guard) else Guard(app, ServingSettings(**settings), LocalMeter(), {"/v1/large": 1_000})
        self.pieces, self.sent = list(pieces), []
        self.waits = asyncio.Event()
        self.scope = {"type": "http", "path": path, "root_path": root_path, "method": method, "headers": list(headers), "query_string": b""}

    async def run(self) -> "Exchange":
        async with asyncio.timeout(PATIENCE_S):
            await self.guard(self.scope, self.receive, self.send)
        return self

    async def receive(self):
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece is FOREVER:
            self.waits.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}

    async def send(self, message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return self.sent[0]["status"] if self.sent else 0

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> dict:
        return json.loads(b"".join(message.get("body", b"") for message in self.sent))

    @property
    def is_idle(self) -> bool:
        return (self.guard.in_flight, self.guard.held_bytes) == (0, 0)


def exchanged(app, *pieces, **options) -> Exchange:
    async def within() -> Exchange:
        return await Exchange(app, *pieces, **options).run()

    found = asyncio.run(within())
    assert found.is_idle
    if found.status:
        assert all(found.headers[name] for name in SAFE)
    return found


def refused(status: int, code: str, found: Exchange) -> Exchange:
    assert (found.status, found.body["code"], found.headers["content-type"]) == (status, code, "application/problem+json")
    return found


@given(pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=8), largest=st.integers(1, 100), held=st.integers(1, 100))
def test_a_body_is_counted_as_it_comes(pieces, largest, held):
    found = exchanged(echo, *pieces, max_body_bytes=largest, max_held_bytes=held)
    size = sum(map(len, pieces))
    if size <= min(largest, held):
        assert (found.status, found.body) == (200, {"size": size})
    else:
        assert found.body["code"] in ({"too_large"} if size > largest else set()) | ({"busy"} if size > held else set())


@pytest.mark.parametrize(("drained", "left", "connection"), [(1_000, 0, None), (60, 1, "close")])
def test_what_is_too_large_is_read_to_its_end_within_limits_and_not_kept(drained, left, connection, monkeypatch):
    """A client that sends all before it looks would else see a broken connection, and no answer."""
    monkeypatch.setattr("prodrec.serving.guard._DRAIN_BYTES", drained)
    found = refused(413, "too_large", exchanged(echo, b"x" * 60, b"x" * 60, b"x" * 60, b"x" * 60, max_body_bytes=100))
    assert (len(found.pieces), found.headers.get("connection")) == (left, connection)


def test_what_is_refused_and_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("prodrec.serving.guard._DRAIN_S", 0.01)
    found = refused(413, "too_large", exchanged(echo, b"x" * 101, FOREVER, max_body_bytes=100))
    assert found.headers["connection"] == "close"


@pytest.mark.parametrize(("told", "status"), [(b"101", 413), (b"100", 200), (b"3", 413), (b"0", 413), (b"", 413), (b"-7", 413), (b"9" * 18, 413)])
def test_a_length_that_lies_is_not_believed(told, status):
    sent = [b"x" * 50, b"x" * 50] if status == 200 else [b"x" * 90, b"x" * 90]
    assert exchanged(echo, *sent, headers=[(b"content-length", told)], max_body_bytes=100).status == status


def test_a_length_too_large_is_refused_unread():
    headers = [(b"content-length", b"101"), (b"expect", b"100-continue")]
    found = refused(413, "too_large", exchanged(echo, FOREVER, headers=headers, max_body_bytes=100))
    assert found.pieces == [FOREVER]


def test_some_paths_take_more():
    assert exchanged(echo, b"x" * 900, path="/v1/large", max_body_bytes=100).status == 200
    assert exchanged(echo, b"x" * 1_001, path="/v1/large", max_body_bytes=100).status == 413
    assert exchanged(echo, b"x" * 900, path="/v1/large/", max_body_bytes=100).status == 413


@pytest.mark.parametrize("pieces", [[FOREVER], [b"x" * 50, FOREVER], [*[b""] * 3, FOREVER]])
def test_a_body_that_does_not_come(pieces):
    refused(408, "too_slow_body", exchanged(echo, *pieces, **BODY))


def test_an_answer_that_does_not_come():
    async def slow(scope, receive, _send) -> None:
        await Request(scope, receive).body()
        await asyncio.Event().wait()

    refused(504, "timeout", exchanged(slow, b"xx", b"xx", **ANSWER))


def test_an_answer_to_a_request_without_a_body_has_the_same_time():
    async def slow(_scope, _receive, _send) -> None:
        await asyncio.Event().wait()

    for headers in ([], [(b"content-length", b"0")]):
        refused(504, "timeout", exchanged(slow, method="GET", headers=headers, **ANSWER))


def test_the_time_for_the_body_is_not_taken_from_the_answer():
    async def longer_than_a_body_may_take(scope, receive, send) -> None:
        await Request(scope, receive).body()
        await asyncio.sleep(3 * BODY["body_timeout_s"])
        await JSONResponse({})(scope, receive, send)

    assert exchanged(longer_than_a_body_may_take, b"x", **BODY).status == 200


def test_a_timeout_of_the_applications_own_is_a_fault(caplog):
    async def failing(_scope, _receive, _send) -> None:
        raise TimeoutError("/secret/socket timed out")

    refused(500, "internal", exchanged(failing, b"x"))


def test_a_fault_tells_nothing_and_is_logged_under_its_id(caplog):
    async def failing(scope, receive, _send) -> None:
        await Request(scope, receive).body()
        raise RuntimeError("/secret/path")

    with caplog.at_level(logging.ERROR, "prodrec.serving"):
        found = refused(500, "internal", exchanged(failing, b"x" * 9, headers=[*CHUNKED, (b"x-request-id", b"mine-1"), (b"authorization", KEY.encode())]))
    assert "secret" not in json.dumps(found.body) + json.dumps(found.headers)
    assert found.headers["x-request-id"] == "mine-1"
    assert "mine-1" in caplog.text
    assert "/secret/path" in caplog.text
    assert KEY not in caplog.text


def test_a_fault_within_an_answer_ends_it():
    async def failing(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    assert [message["type"] for message in exchanged(failing, b"x").sent] == ["http.response.start"]


@pytest.mark.parametrize("pieces", [[None], [b"x" * 50, None]])
def test_a_caller_who_hangs_up_is_not_answered(pieces, caplog):
    assert exchanged(echo, *pieces).sent == []
    assert not caplog.text


@given(st.lists(st.sampled_from(["answer", "hang up", "break", "cancel", "large", "disconnect later"]), min_size=1, max_size=12))
def test_places_and_bytes_are_given_back_in_every_case(kinds):
    async def app(scope, receive, send) -> None:
        size = len(await Request(scope, receive).body())
        if size == 7:
            raise RuntimeError("broken")
        if size == 8:
            raise ClientDisconnect
        await JSONResponse({})(scope, receive, send)

    bodies = {
        "answer": [b"x"],
        "hang up": [b"x", None],
        "break": [b"x" * 7],
        "cancel": [b"xx", FOREVER],
        "large": [b"x" * 99] * 2,
        "disconnect later": [b"x" * 8],
    }

    async def main() -> Guard:
        guard = Guard(app, ServingSettings(max_body_bytes=100), LocalMeter(), {})
        exchanges = [Exchange(guard, *bodies[kind]) for kind in kinds]
        tasks = [asyncio.create_task(exchange.run()) for exchange in exchanges]
        for kind, exchange, task in zip(kinds, exchanges, tasks, strict=True):
            if kind == "cancel":
                await exchange.waits.wait()
                assert guard.in_flight >= 1
                assert guard.held_bytes >= 2
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return guard

    logging.disable()
    try:
        guard = asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)
    assert (guard.in_flight, guard.held_bytes, guard.waiting) == (0, 0, 0)
    assert guard._places._value == guard.settings.max_in_flight


def test_one_more_than_there_are_places_is_told_to_come_later():
    async def main() -> None:
        guard = Guard(echo, ServingSettings(max_in_flight=2, place_wait_s=0.01, retry_after_s=7), LocalMeter(), {})
        held = [Exchange(guard, b"x", FOREVER) for _ in range(2)]
        tasks = [asyncio.create_task(exchange.run()) for exchange in held]
        for exchange in held:
            await exchange.waits.wait()
        found = refused(503, "busy", await Exchange(guard, b"x").run())
        assert found.headers["retry-after"] == "7"
        assert (await Exchange(guard, path="/metrics", method="GET").run()).status == 200
        assert (await Exchange(guard, path="/healthz", method="GET").run()).status == 200
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert (await Exchange(guard, b"x").run()).status == 200
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert (guard.in_flight, guard.held_bytes) == (0, 0)

    asyncio.run(main())


def test_all_bodies_together_are_limited():
    async def main() -> None:
        guard = Guard(echo, ServingSettings(max_held_bytes=100), LocalMeter(), {})
        first = Exchange(guard, b"x" * 80, FOREVER)
        task = asyncio.create_task(first.run())
        await first.waits.wait()
        assert (await Exchange(guard, b"x" * 20).run()).status == 200
        refused(503, "busy", await Exchange(guard, b"x" * 21).run())
        assert guard.held_bytes == 80
        task.cancel()
        await asyncio.wait([task])
        assert (await Exchange(guard, b"x" * 100).run()).status == 200

    asyncio.run(main())


def authorized(value: bytes | None, path: str = "/v1/x", **options) -> int:
    headers = [] if value is None else [(b"authorization", value)]
    return exchanged(echo, b"", path=path, headers=headers, api_keys=(hash_key("other" * 9), hash_key(KEY)), **options).status


@pytest.mark.parametrize("value", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_a_key_opens(value):
    assert authorized(value.encode()) == 200


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer {hash_key(KEY)}", "Bearer \xff", f"Bearer\t{KEY}"],
)
def test_nothing_else_does(value):
    value = value.encode("latin-1")
    assert authorized(None) == 401
    assert authorized(value) == 401
    assert authorized(value, "/metrics") == 401


def test_a_key_is_asked_for_before_anything_is_read():
    found = refused(401, "no_key", exchanged(echo, FOREVER, headers=[*CHUNKED, (b"expect", b"100-continue")], api_keys=(hash_key(KEY),)))
    assert (found.headers["www-authenticate"], found.headers["connection"], found.pieces) == ("Bearer", "close", [FOREVER])


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/static/page.js", "/openapi.json"])
def test_what_needs_no_key(path):
    assert authorized(None, path) == 200


def test_an_application_below_a_path_is_guarded_alike():
    """A route prefix of Ray Serve, or a proxy's."""
    assert authorized(None, "/shop/v1/x", root_path="/shop") == 401
    assert authorized(None, "/shop/metrics", root_path="/shop") == 401
    assert authorized(f"Bearer {KEY}".encode(), "/shop/v1/x", root_path="/shop") == 200
    assert exchanged(echo, b"x" * 101, path="/shop/v1/x", root_path="/shop", max_body_bytes=100).status == 413
    assert exchanged(echo, b"x" * 900, path="/shop/v1/large", root_path="/shop", max_body_bytes=100).status == 200


@given(st.binary(max_size=80))
def test_a_requests_id_is_taken_only_where_it_is_plain(theirs):
    found = exchanged(echo, b"", headers=[(b"x-request-id", theirs)]).headers["x-request-id"]
    is_plain = 0 < len(theirs) <= 64 and all(chr(byte).isascii() and (chr(byte).isalnum() or byte in b"-_") for byte in theirs)
    assert (found == theirs.decode("latin-1")) == is_plain
    assert found.isascii()


def test_answers_of_the_api_are_kept_nowhere():
    assert exchanged(echo, b"").headers["cache-control"] == "no-store"
    assert "cache-control" not in exchanged(echo, b"", path="/static/page.js").headers


def test_what_the_application_says_is_not_overwritten():
    async def own(scope, receive, send) -> None:
        await JSONResponse({}, headers={"Referrer-Policy": "origin"})(scope, receive, send)

    assert exchanged(own, b"").headers["referrer-policy"] == "origin"


def test_an_answer_in_pieces_may_take_longer_than_its_beginning():
    """The decisions of a bulk run: megabytes of CSV to a slow reader."""

    async def long(scope, receive, send) -> None:
        async def pieces():
            for _ in range(6):
                await asyncio.sleep(0.15)
                yield b"1,"

        await StreamingResponse(pieces())(scope, receive, send)

    found = exchanged(long, method="GET", headers=[], body_timeout_s=0.5, request_timeout_s=0.5)
    assert b"".join(message.get("body", b"") for message in found.sent) == b"1," * 6
    assert not found.sent[-1].get("more_body")


def test_an_answer_in_pieces_that_stops_is_given_up():
    async def stuck(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1,", "more_body": True})
        await asyncio.Event().wait()

    assert exchanged(stuck, method="GET", headers=[], **ANSWER).sent[-1]["more_body"]


@pytest.mark.parametrize(
    ("path", "pieces", "settings", "status"),
    [("/v1/x", [b"x"], {}, "200"), ("/v1/x", [b"xx"], {"max_body_bytes": 1}, "413"), ("/v1/x", [b"x", None], {}, "499")],
)
def test_every_request_is_counted(path, pieces, settings, status):
    found = exchanged(echo, *pieces, path=path, **settings)
    text = asyncio.run(found.guard.meter.text())
    assert f'prodrec_requests_total{{route="other",status="{status}"}} 1.0' in text


def test_what_is_no_http_is_passed_on():
    seen = []

    async def app(scope, _receive, _send) -> None:
        seen.append(scope["type"])

    asyncio.run(Guard(app, ServingSettings(), LocalMeter(), {})({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_a_burst_that_is_over_in_a_moment_turns_nobody_away():
    """As many as there are places wait for one, in turn; one more of them is sent away at once."""

    async def main() -> None:
        guard = Guard(echo, ServingSettings(max_in_flight=2, place_wait_s=600), LocalMeter(), {})
        held = [Exchange(guard, b"x", FOREVER) for _ in range(2)]
        tasks = [asyncio.create_task(exchange.run()) for exchange in held]
        for exchange in held:
            await exchange.waits.wait()
        waiting = [asyncio.create_task(Exchange(guard, b"x").run()) for _ in range(2)]
        while guard.waiting < 2:
            await asyncio.sleep(0)
        refused(503, "busy", await Exchange(guard, b"x").run())
        for task in tasks:
            task.cancel()
        assert [(await task).status for task in waiting] == [200, 200]
        await asyncio.wait(tasks)
        gone = asyncio.create_task(Exchange(guard, b"x", FOREVER).run())
        gone.cancel()
        await asyncio.wait([gone])
        assert (guard.in_flight, guard.waiting, guard.held_bytes) == (0, 0, 0)
        assert guard._places._value == 2

    asyncio.run(main())
