"""No server and no name server takes more than an image's time."""

import socket
import threading
import time

import pytest
from shop import PATIENCE_S, Asked, fetcher, refusal

from prodrec.errors import Reject, RejectCode


@pytest.mark.parametrize("where", ["body", "head", "before"])
def test_a_trickle_ends_with_the_images_time(shop, where):
    def trickle(asked: Asked) -> None:
        if where != "before":
            asked.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 1000\r\n\r\n" if where == "body" else b"X: "))
        while not shop.closing.wait(0.02):
            asked.wfile.write(b"x" if where != "before" else b"HTTP/1.1 100 Continue\r\n\r\n")

    shop.answers["/slow.jpg"] = trickle
    begun = time.monotonic()
    assert refusal(shop.uri("/slow.jpg"), total_timeout_s=0.5).code == RejectCode.FETCH_TIMEOUT
    assert 0.4 < time.monotonic() - begun < 5


def test_a_silent_server_is_tried_again_and_times_out(shop):
    shop.answers["/silent.jpg"] = lambda asked: shop.closing.wait() and asked.hang_up()
    assert refusal(shop.uri("/silent.jpg"), read_timeout_s=0.05, retries=1).code == RejectCode.FETCH_TIMEOUT
    assert len(shop.asked) == 2


def test_a_name_server_that_stalls_ends_with_the_images_time():
    done = threading.Event()

    def stall(*_, **__):
        done.wait(PATIENCE_S)
        return []

    begun = time.monotonic()
    assert refusal("http://slow.example/", hosts=("slow.example",), resolve=stall, total_timeout_s=0.2).code == RejectCode.FETCH_TIMEOUT
    assert time.monotonic() - begun < 5
    done.set()


def test_a_tls_handshake_that_stalls_ends_with_the_images_time():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        begun = time.monotonic()
        assert refusal(f"https://127.0.0.1:{deaf.getsockname()[1]}/", total_timeout_s=0.2).code == RejectCode.FETCH_TIMEOUT
        assert time.monotonic() - begun < 5


def test_closing_ends_the_wait_between_tries(shop):
    answered = threading.Event()
    shop.answers["/down.jpg"] = lambda asked: (asked.send(503, Retry_After=40), answered.set())
    images = fetcher(max_retry_after_s=40, total_timeout_s=60)
    found: list[bytes | Reject] = []
    thread = threading.Thread(target=lambda: found.extend(images.fetch_all([shop.uri("/down.jpg")])))
    thread.start()
    assert answered.wait(PATIENCE_S)
    images.close()
    thread.join(PATIENCE_S)
    assert isinstance(found[0], Reject)
