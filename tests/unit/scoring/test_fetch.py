"""What a web server answers becomes an image or a Reject."""

import gzip
import socket
import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop import IMAGE, PATIENCE_S, Asked, fetcher, refusal

from prodrec.errors import RejectCode
from prodrec.scoring.answers import _retry_after_s


def test_an_image_comes_as_it_was_sent_and_the_request_tells_who_asks(shop, monkeypatch):
    shop.answers["/ok.jpg"] = lambda asked: asked.send(200, IMAGE, Set_Cookie="a=b")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with fetcher() as images:
        for _ in range(2):
            assert images.fetch(shop.uri("/ok.jpg?sig=a%2Fb%3D&x=[1]+2")) == IMAGE
    path, headers, _ = shop.asked[-1]
    assert path == "/ok.jpg?sig=a%2Fb%3D&x=[1]+2"
    assert headers.pop("user-agent").startswith("prodrec/")
    assert headers == {"host": f"127.0.0.1:{shop.server_port}", "accept": "image/*", "accept-encoding": "identity"}


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_missing_at_once(shop, status):
    shop.answers["/gone.jpg"] = lambda asked: asked.send(status)
    assert refusal(shop.uri("/gone.jpg?token=s3cret")).detail == f"{shop.uri('/gone.jpg')}: HTTP {status}"
    assert len(shop.asked) == 1


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 451])
def test_other_answers_fail_at_once(shop, status):
    shop.answers["/no.jpg"] = lambda asked: asked.send(status)
    assert refusal(shop.uri("/no.jpg")).code == RejectCode.FETCH_FAILED
    assert len(shop.asked) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(shop, status):
    shop.answers["/old.jpg"] = lambda asked: asked.send(status, Location=shop.uri())
    found = refusal(shop.uri("/old.jpg"))
    assert (found.code, "redirect" in found.detail) == (RejectCode.NOT_ALLOWED, True)
    assert shop.paths() == ["/old.jpg"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(shop, status):
    left = iter([status, status])
    shop.answers["/busy.jpg"] = lambda asked: asked.send(next(left, 200), IMAGE)
    with fetcher(retries=2) as images:
        assert images.fetch(shop.uri("/busy.jpg")) == IMAGE
    assert len(shop.asked) == 3


def test_tries_are_bounded(shop):
    shop.answers["/down.jpg"] = lambda asked: asked.send(500)
    found = refusal(shop.uri("/down.jpg"), retries=2)
    assert (found.code, found.detail) == (RejectCode.FETCH_FAILED, f"{shop.uri('/down.jpg')}: HTTP 500 (tries: 3)")
    assert len(shop.asked) == 3


@pytest.mark.parametrize(("told", "at_least_s"), [("1", 1.0), ("3600", 1.2), ("Fri, 31 Dec 2100 23:59:59 GMT", 1.2)])
def test_retry_after_is_kept_up_to_a_limit(shop, told, at_least_s):
    left = iter([429])
    shop.answers["/busy.jpg"] = lambda asked: asked.send(next(left, 200), IMAGE, Retry_After=told)
    with fetcher(max_retry_after_s=1.2) as images:
        assert images.fetch(shop.uri("/busy.jpg")) == IMAGE
    (_, _, first), (_, _, second) = shop.asked
    assert at_least_s <= second - first < PATIENCE_S


def test_a_retry_after_beyond_the_time_limit_is_not_waited_for(shop):
    shop.answers["/busy.jpg"] = lambda asked: asked.send(429, Retry_After=50)
    begun = time.monotonic()
    assert refusal(shop.uri("/busy.jpg"), max_retry_after_s=60).code == RejectCode.FETCH_FAILED
    assert time.monotonic() - begun < PATIENCE_S


@given(st.text() | st.sampled_from(["Mon, 01 Jan 99999 00:00:00 GMT", "inf", "-1", "1e9", "٣", "Mon, 32 Jan 2025 00:00:00 -9999", "9" * 500]))
def test_any_retry_after_is_a_wait_or_nothing(value):
    assert (found := _retry_after_s(value)) is None or found >= 0


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_that_breaks_in_the_middle_is_tried_again(shop, reset):
    left = iter([True])

    def answer(asked: Asked) -> None:
        if next(left, False):
            asked.send(200, IMAGE[:100], Content_Length=len(IMAGE))
            asked.hang_up(reset=reset)
        else:
            asked.send(200, IMAGE)

    shop.answers["/flaky.jpg"] = answer
    with fetcher() as images:
        assert images.fetch(shop.uri("/flaky.jpg")) == IMAGE
    assert len(shop.asked) == 2


def test_nobody_there_and_no_http_are_failures_after_all_tries():
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{closed}/a.jpg", retries=1).code == RejectCode.FETCH_FAILED
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"220 smtp.example ESMTP\r\nready\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        assert "(tries: 2)" in refusal(f"http://127.0.0.1:{server.getsockname()[1]}/a.jpg", retries=1).detail
        thread.join()


def test_the_largest_body_comes_whole_and_one_byte_more_is_too_large(shop):
    for chunked in (False, True):
        # Without a length the body ends with the connection.
        length = {"Content_Length": None, "Connection": "close"} if chunked else {}
        shop.answers["/fits.jpg"] = lambda asked, length=length: asked.send(200, bytes(1000), **length)
        shop.answers["/large.jpg"] = lambda asked, length=length: asked.send(200, bytes(1001), **length)
        with fetcher(max_bytes=1000) as images:
            assert images.fetch(shop.uri("/fits.jpg")) == bytes(1000)
        assert refusal(shop.uri("/large.jpg"), max_bytes=1000).code == RejectCode.TOO_LARGE
    assert shop.paths().count("/large.jpg") == 2


def test_an_endless_body_is_cut_off(shop):
    sent = Counter()

    def pour(asked: Asked) -> None:
        asked.send(200, Content_Length=None, Transfer_Encoding="chunked")
        while not shop.closing.is_set():
            asked.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            sent["bytes"] += 65536

    shop.answers["/endless.jpg"] = pour
    assert refusal(shop.uri("/endless.jpg"), max_bytes=1_000_000).code == RejectCode.TOO_LARGE
    # What the sockets' buffers took on top.
    assert sent["bytes"] < 20_000_000


def test_a_length_beyond_the_limit_is_refused_unread(shop):
    def promise(asked: Asked) -> None:
        asked.send(200, Content_Length=10**12)
        shop.closing.wait()

    shop.answers["/promise.jpg"] = promise
    assert refusal(shop.uri("/promise.jpg"), max_bytes=1000).code == RejectCode.TOO_LARGE


def test_a_length_that_is_too_short_harms_no_other_image(shop):
    shop.answers["/liar.jpg"] = lambda asked: asked.send(200, IMAGE, Content_Length=10)
    with fetcher() as images:
        assert images.fetch(shop.uri("/liar.jpg")) == IMAGE[:10]
        assert images.fetch(shop.uri()) == IMAGE


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_encoded_bodies_are_refused_unread(shop, encoding):
    shop.answers["/bomb.jpg"] = lambda asked: asked.send(200, gzip.compress(bytes(10_000_000)), Content_Encoding=encoding)
    found = refusal(shop.uri("/bomb.jpg"), max_bytes=1_000_000)
    assert (found.code, "encoded" in found.detail) == (RejectCode.FETCH_FAILED, True)


@given(st.text() | st.builds("http://{}/{}".format, st.text(), st.text()) | st.builds("https://a.example:{}{}".format, st.text(), st.text()))
def test_any_text_is_answered_by_a_reject(text):
    def resolve(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "no")

    found = refusal(text, hosts=("*",), resolve=resolve)
    assert found.code in {RejectCode.NOT_ALLOWED, RejectCode.FETCH_FAILED}
    assert len(found.detail) < 400


@pytest.mark.parametrize("path", ["/gone.jpg", "/down.jpg", "/old.jpg", "/large.jpg", "/silent.jpg"])
def test_details_show_no_secrets(shop, path):
    shop.answers |= {
        "/gone.jpg": lambda asked: asked.send(404),
        "/down.jpg": lambda asked: asked.send(500),
        "/old.jpg": lambda asked: asked.send(302, Location="/?s3cret"),
        "/large.jpg": lambda asked: asked.send(200, IMAGE),
        "/silent.jpg": lambda asked: shop.closing.wait(),
    }
    asked = shop.uri(f"{path}?X-Signature=s3cret#s3cret")
    for uri in (asked, asked.replace("127", "me:s3cret@127"), asked.replace("http", "ftp"), asked.replace("127.0.0.1", "other.test")):
        detail = refusal(uri, max_bytes=10, read_timeout_s=0.05, retries=0).detail
        assert "s3cret" not in detail
        assert "allowed: " in detail or path in detail
