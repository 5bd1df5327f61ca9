"""Many images side by side: in order, bounded, and each on its own."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from made import photo
from shop import IMAGE, PATIENCE_S, Asked, answering, fetcher

from prodrec.errors import Reject, RejectCode


def test_connections_are_used_again(shop):
    with fetcher() as images:
        assert [images.fetch(shop.uri()) for _ in range(5)] == [IMAGE] * 5
    assert shop.connections == 1


def test_one_bad_among_many_costs_itself_only(shop):
    shop.answers["/bad.jpg"] = lambda asked: asked.hang_up(reset=True)
    for number in range(40):
        shop.answers[f"/{number}.jpg"] = lambda asked, number=number: asked.send(200, photo(number, 0))
    uris = [shop.uri(f"/{number}.jpg") for number in range(40)]
    uris[7], uris[20], uris[33] = shop.uri("/bad.jpg"), "file:///etc/passwd", "http://10.0.0.1/"
    with fetcher(concurrency=8) as images:
        found = list(images.fetch_all(uris))
    rejects = {place: item for place, item in enumerate(found) if isinstance(item, Reject)}
    assert {place: reject.code for place, reject in rejects.items()} == {7: "fetch_failed", 20: "not_allowed", 33: "not_allowed"}
    assert all(item == photo(number, 0) for number, item in enumerate(found) if number not in rejects)
    # A traceback would keep what was read of the body.
    assert all(reject.__traceback__ is reject.__context__ is reject.__cause__ is None for reject in rejects.values())


def test_images_come_side_by_side_and_in_order(shop):
    # Nobody is answered before all four are there, and the first is answered last.
    all_there, last = threading.Barrier(4), threading.Event()

    def answer(asked: Asked) -> None:
        all_there.wait(PATIENCE_S)
        if asked.path == "/0.jpg":
            last.wait(PATIENCE_S)
        asked.send(200, asked.path.encode())
        if asked.path == "/3.jpg":
            last.set()

    shop.answers |= {f"/{number}.jpg": answer for number in range(4)}
    with fetcher(concurrency=4) as images:
        assert list(images.fetch_all(shop.uri(f"/{number}.jpg") for number in range(4))) == [b"/0.jpg", b"/1.jpg", b"/2.jpg", b"/3.jpg"]


def test_as_many_are_held_as_may_be_in_flight(shop):
    drawn = Counter()
    with fetcher(concurrency=3) as images:
        found = images.fetch_all(shop.uri(f"/ok.jpg?{drawn.update(['uri']) or number}") for number in count())
        for number in range(3, 10):
            assert next(found) == IMAGE
            assert drawn["uri"] == number
        found.close()


def test_a_host_is_asked_so_much_at_once_and_holds_up_no_other(shop):
    # The first two of a and the one of b, which comes later, are answered when all three are there.
    meeting, met, lock, now, most = threading.Barrier(3), threading.Event(), threading.Lock(), Counter(), Counter()

    def answer(asked: Asked) -> None:
        host = asked.headers["Host"].partition(":")[0]
        with lock:
            now[host] += 1
            most[host] = max(most[host], now[host])
        if not met.is_set():
            meeting.wait(PATIENCE_S)
            met.set()
        with lock:
            now[host] -= 1
        asked.send(200, host.encode())

    shop.answers["/x.jpg"] = answer
    with fetcher(hosts=(".test",), resolve=answering("127.0.0.1"), concurrency=8, per_host=2, retries=0) as images:
        hosts = ["a.test"] * 7 + ["b.test"] + ["a.test"] * 12
        assert list(images.fetch_all(shop.uri("/x.jpg", host) for host in hosts)) == [host.encode() for host in hosts]
    assert most == {"a.test": 2, "b.test": 1}


def test_all_hosts_together_are_bounded_for_any_number_of_threads(shop):
    lock, now, most = threading.Lock(), Counter(), Counter()

    def answer(asked: Asked) -> None:
        with lock:
            now["all"] += 1
            most["all"] = max(most["all"], now["all"])
        shop.closing.wait(0.01)
        with lock:
            now["all"] -= 1
        asked.send(200, IMAGE)

    shop.answers["/x.jpg"] = answer
    with fetcher(hosts=(".test",), resolve=answering("127.0.0.1"), concurrency=3, per_host=2) as images, ThreadPoolExecutor(12) as threads:
        uris = [shop.uri("/x.jpg", f"{number % 6}.test") for number in range(48)]
        assert set(threads.map(images.fetch, uris)) == {IMAGE}
    assert most["all"] <= 3


def test_a_slot_that_does_not_come_is_a_timeout(shop):
    came = threading.Event()
    shop.answers["/long.jpg"] = lambda asked: (came.set(), shop.closing.wait(), asked.hang_up())
    with fetcher(per_host=1, pool_timeout_s=0.05, total_timeout_s=3, retries=0) as images:
        thread = threading.Thread(target=lambda: list(images.fetch_all([shop.uri("/long.jpg")])))
        thread.start()
        assert came.wait(PATIENCE_S)
        with pytest.raises(Reject, match=r"fetch_timeout.*no free slot"):
            images.fetch(shop.uri())
        shop.closing.set()
        thread.join()


def test_a_dead_host_is_not_asked_for_each_of_its_images(shop):
    dead = {"on": True}
    shop.answers["/a.jpg"] = lambda asked: asked.send(503) if dead["on"] else asked.send(200, IMAGE)
    with fetcher(retries=0, per_host=1, silent_after=3, silence_s=0.2) as images:
        codes = [found.code for found in images.fetch_all([shop.uri("/a.jpg")] * 20)]
        assert codes == [RejectCode.FETCH_FAILED] * 20
        assert len(shop.asked) == 3
        dead["on"] = False
        deadline = time.monotonic() + PATIENCE_S
        while isinstance(found := next(images.fetch_all([shop.uri("/a.jpg")])), Reject):
            assert time.monotonic() < deadline
        assert found == IMAGE
        assert list(images.fetch_all([shop.uri("/a.jpg")] * 5)) == [IMAGE] * 5


def test_a_job_waits_for_a_host_that_falls_silent(shop):
    left = iter([503] * 5)
    shop.answers["/a.jpg"] = lambda asked: asked.send(next(left, 200), IMAGE)
    with fetcher(retries=0, silent_after=3, silence_s=0.05, per_host=1, patience_s=PATIENCE_S) as images:
        found = list(images.fetch_all([shop.uri("/a.jpg")] * 20))
    # The three after which it was silent, and the two that asked again in vain.
    assert sum(isinstance(item, Reject) for item in found) == 5
    assert len(shop.asked) == 20


def test_patience_ends_and_many_dead_hosts_share_it(shop):
    shop.answers["/a.jpg"] = lambda asked: asked.send(503)
    limits = {"retries": 0, "concurrency": 4, "per_host": 1, "silent_after": 1, "silence_s": 0.1, "patience_s": 0.5}
    with fetcher(hosts=(".test",), resolve=answering("127.0.0.1"), **limits) as images:
        begun = time.monotonic()
        found = list(images.fetch_all(shop.uri("/a.jpg", f"{number}.test") for number in range(20) for _ in range(8)))
        took_s = time.monotonic() - begun
    assert {item.code for item in found} == {"fetch_failed"}
    assert 0.5 <= took_s < 20 * 0.5 / 2
    assert len(shop.asked) > 20  # asked again while it was waited for


def test_those_that_wait_for_a_host_hold_up_no_other_and_end_with_the_fetcher(shop):
    shop.answers["/a.jpg"] = lambda asked: asked.send(503)
    limits = {"concurrency": 1, "pool_timeout_s": 1, "retries": 0, "silent_after": 1, "silence_s": 600, "patience_s": 600}
    with fetcher(hosts=(".test",), resolve=answering("127.0.0.1"), **limits) as images, ThreadPoolExecutor(1) as threads:
        with pytest.raises(Reject):
            images.fetch(shop.uri("/a.jpg", "a.test"))
        waiting = threads.submit(images.fetch, shop.uri("/a.jpg", "a.test"))
        assert [images.fetch(shop.uri(host="b.test")) for _ in range(20)] == [IMAGE] * 20
        assert not waiting.done()
        images.close()
        with pytest.raises(Reject, match="a while"):
            waiting.result(PATIENCE_S)


@pytest.mark.parametrize("status", [403, 500])
def test_a_host_that_answers_with_no_is_not_dead(shop, status):
    """500 may be one path's fault: who asks for it must not shut the host for others."""
    shop.answers["/a.jpg"] = lambda asked: asked.send(status)
    with fetcher(retries=0, silent_after=2) as images:
        list(images.fetch_all([shop.uri("/a.jpg")] * 6))
        assert len(shop.asked) == 6
        assert next(images.fetch_all([shop.uri()])) == IMAGE
