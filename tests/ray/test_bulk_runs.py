"""Bulk runs that a service begins: on a real Ray, into a real store, from a real web server."""

import asyncio
import csv
import io
import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from made import photo
from made_listings import RUN
from shop import PATIENCE_S, Shop, running

from prodrec.catalog import open_store
from prodrec.cluster.bulk_actor import NAMESPACE
from prodrec.cluster.bulk_runs import BulkRuns, Bundles
from prodrec.errors import Reject, SourceError
from prodrec.serving.bulk import LOST, BulkSettings, BulkState
from prodrec.serving.unavailable import Busy

# Longer than any run here takes on a busy machine, seconds.
RUN_S = 300
IMAGES = 200


def serving(bundle):
    """What a service says of its bundles."""

    async def bundles() -> Bundles:
        return Bundles(bundle, None)

    return bundles


@pytest.fixture
def settings(tmp_path) -> Iterator[BulkSettings]:
    """May read the folder `photos` and the local web server. The next test begins once no run has a process."""
    (tmp_path / "photos").mkdir()
    fetch = {"hosts": ["127.0.0.1"], "schemes": ["http"], "allow_private": True, "total_timeout_s": 200, "read_timeout_s": 200}
    yield BulkSettings(store=f"sqlite:///{tmp_path}/tags.db", uploads=f"{tmp_path}/uploads", inputs=(f"{tmp_path}/photos",), fetch=fetch, workers=(1, 1))
    ends_s = time.monotonic() + PATIENCE_S
    while left := [actor for actor in ray.util.list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE]:
        assert time.monotonic() < ends_s, left
        time.sleep(0.05)


def wait(call):
    return asyncio.run(call)


def until(runs: BulkRuns, run_id: str, condition) -> BulkState:
    """The first state that is so."""
    ends_s = time.monotonic() + RUN_S
    while not condition(state := wait(runs.state(run_id))):
        assert time.monotonic() < ends_s, state
        assert state.status == "running", state
        time.sleep(0.05)
    return state


def ended(runs: BulkRuns, run_id: str) -> BulkState:
    return until(runs, run_id, lambda state: state.status != "running")


def decisions(runs: BulkRuns, run_id: str) -> dict[str, dict[str, str]]:
    async def collect() -> bytes:
        return b"".join([piece async for piece in await runs.results(run_id)])

    return {row["listing_id"]: row for row in csv.DictReader(io.StringIO(wait(collect()).decode(), newline=""))}


def manifest(rows: dict[str, str]) -> bytes:
    """CSV of listings with an image each."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("listing_id", "uri"), *rows.items()])
    return text.getvalue().encode()


def counts(state: BulkState) -> tuple[int | None, ...]:
    return state.rows_in, state.rows_tagged, state.rows_skipped, state.rows_rejected


def begin_elsewhere(settings: BulkSettings, bundle: str, data: bytes) -> BulkState:
    """As a process of a service does that is lost right after."""

    class Replica:  # in here, so that Ray need not import the tests
        def start(self) -> BulkState:
            return asyncio.run(BulkRuns(settings, serving(bundle)).start(data, "night.csv", None))

    replica = ray.remote(num_cpus=0)(Replica).remote()
    begun = ray.get(replica.start.remote())
    ray.kill(replica)
    return begun


def test_a_run_outlives_who_began_it_and_reads_nothing_but_what_is_allowed(settings, calibrated_bundle, tmp_path):
    (tmp_path / "photos" / "good.jpg").write_bytes(photo(1, 1))
    (tmp_path / "secret.jpg").write_bytes(photo(2, 2))
    (tmp_path / "photos" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "photos-evil").mkdir()
    shutil.copy(tmp_path / "secret.jpg", tmp_path / "photos-evil" / "x.jpg")
    with running(Shop()) as shop:
        good = {"=1+1": shop.uri(), "local": f"{tmp_path}/photos/good.jpg", "file": f"file://{tmp_path}/photos/good.jpg"}
        places = ["/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "s3://other/x.jpg", "https://evil.example/x.jpg"]
        places += [f"{tmp_path}/{name}" for name in ("secret.jpg", "photos/../secret.jpg", "photos/link.jpg", "photos-evil/x.jpg", "tags.db")]
        data = manifest(good | {f"bad {number}": place for number, place in enumerate(places)})
        begun = begin_elsewhere(settings, calibrated_bundle, data)
        assert (begun.status, begun.images) == ("running", len(good) + len(places))
        runs = BulkRuns(settings, serving(calibrated_bundle))
        done = ended(runs, begun.id)
        assert done.status == "finished", done
        assert counts(done) == (len(good) + len(places), len(good), 0, len(places))
        assert (done.images_done, done.images, done.listings) == (done.rows_in, done.rows_in, done.rows_in)
        assert done.accepted + done.reviewed + done.refused == done.listings
        with sqlite3.connect(tmp_path / "tags.db") as connection:
            assert set(connection.execute("SELECT code FROM rejects")) == {("not_allowed",)}
        rows = decisions(runs, begun.id)
        assert {name for name, row in rows.items() if row["product"]} == {"'=1+1", "local", "file"}
        assert json.loads(rows["local"]["uris"]) == [f"{tmp_path}/photos/good.jpg"]
        assert "uploads" not in str(rows)
        assert not list((tmp_path / "uploads").iterdir())
        assert "/secret" not in str(shop.paths())
        again = ended(runs, place_after(runs, data).id)
    assert again.id != begun.id
    assert counts(again) == (len(good) + len(places), 0, len(good) + len(places), 0)


def vanish(settings: BulkSettings, bundle: str, data: bytes, step: str, wait_s: float) -> None:
    """As a process of a service does that is lost right after one step of beginning a run."""

    class Replica:
        def start(self) -> None:
            from prodrec.cluster import bulk_actor, bulk_runs

            bulk_actor.BEGIN_WITHIN_S = wait_s
            take = getattr(bulk_runs, step)

            def last(*arguments):
                take(*arguments)
                os._exit(1)

            setattr(bulk_runs, step, last)
            asyncio.run(BulkRuns(settings, serving(bundle)).start(data, "night.csv", None))

    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(ray.remote(num_cpus=0, max_restarts=0)(Replica).remote().start.remote())


def test_who_is_lost_while_a_run_begins_leaves_no_place_taken(settings, calibrated_bundle, tmp_path):
    (tmp_path / "photos" / "good.jpg").write_bytes(photo(1, 1))
    data, runs = manifest({"one": f"{tmp_path}/photos/good.jpg"}), BulkRuns(settings, serving(calibrated_bundle))
    vanish(settings, calibrated_bundle, data, "take_place", wait_s=1.0)
    place_after(runs, data)  # there is but one place
    with sqlite3.connect(tmp_path / "tags.db") as connection:
        [(first,)] = connection.execute("SELECT run_id FROM runs").fetchall()
    assert counts(ended(runs, first)) == (1, 1, 0, 0)
    vanish(settings, calibrated_bundle, data, "begun", wait_s=RUN_S)
    with sqlite3.connect(tmp_path / "tags.db") as connection:
        [(second,)] = connection.execute("SELECT run_id FROM runs WHERE run_id != ?", (first,)).fetchall()
    assert counts(ended(runs, second)) == (1, 0, 1, 0)


def place_after(runs: BulkRuns, data: bytes) -> BulkState:
    """Begins a run as soon as there is a place."""
    ends_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_s:
        try:
            return wait(runs.start(data, "night.csv", None))
        except Busy:
            time.sleep(0.05)
    raise AssertionError("no place")


def workers() -> list[str]:
    """Ray's processes of this test that score or fetch."""
    children = [process for process in psutil.Process().children(recursive=True) if process.status() != psutil.STATUS_ZOMBIE]
    return [name for process in children if "MapWorker" in (name := " ".join(process.cmdline())) or "fetch_listings" in name]


@pytest.mark.parametrize("way", ["cancelled", "killed"])
def test_a_run_that_is_ended_goes_on_where_it_was(settings, calibrated_bundle, tmp_path, way):
    open_door = threading.Event()

    def answer(asked, number: int) -> None:
        if number >= 150:  # in the third slice of 64; a slice is told of once the next one is there
            open_door.wait(RUN_S)
        asked.send(200, photo(number % 4, number))

    with running(Shop()) as shop:
        shop.answers |= {f"/{number}.jpg": lambda asked, number=number: answer(asked, number) for number in range(IMAGES)}
        data = manifest({f"L{number:03d}": shop.uri(f"/{number}.jpg") for number in range(IMAGES)})
        runs = BulkRuns(settings, serving(calibrated_bundle))
        begun = wait(runs.start(data, "night.csv", None))
        until(runs, begun.id, lambda state: state.images_done >= 60)
        assert wait(runs.start(data, "night.csv", None)).id == begun.id
        with pytest.raises(Busy):
            wait(runs.start(manifest({"other": shop.uri()}), "other.csv", None))
        if way == "cancelled":
            state = wait(runs.cancel(begun.id))
            assert (state.status, state.finished is None) == ("cancelled", False)
            assert f"of {IMAGES} images" in state.detail
            assert not list((tmp_path / "uploads").iterdir())
        else:
            actor = ray.get_actor(f"bulk-{begun.id}", NAMESPACE)
            os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
            state = ended(runs, begun.id)
            assert (state.status, state.detail) == ("failed", LOST)
        assert wait(runs.state(begun.id)) == state
        written = set(decisions(runs, begun.id))
        assert 60 <= len(written) < IMAGES
        ends_s = time.monotonic() + PATIENCE_S
        while workers():
            assert time.monotonic() < ends_s, workers()
            time.sleep(0.05)
        asked = len(shop.asked)
        open_door.set()
        assert place_after(runs, data).id == begun.id
        done = ended(runs, begun.id)
        assert done.status == "finished", done
        assert counts(done) == (IMAGES, IMAGES, 0, 0)
        assert done.detail is None
        assert not {f"/{int(name[1:])}.jpg" for name in written} & set(shop.paths()[asked:])
        assert len(decisions(runs, begun.id)) == IMAGES
        assert wait(runs.cancel(begun.id)) == done


def test_a_manifest_at_an_allowed_place_and_one_that_holds_its_images(settings, calibrated_bundle, tmp_path):
    (tmp_path / "photos" / "1.jpg").write_bytes(photo(1, 1))
    (tmp_path / "secret.jpg").write_bytes(photo(2, 2))
    (tmp_path / "photos" / "night.csv").write_bytes(manifest({"one": "1.jpg", "two": "../secret.jpg"}))
    runs = BulkRuns(settings.model_copy(update={"most_runs": 2}), serving(calibrated_bundle))
    for place in ("../photos/night.csv", f"{tmp_path}/photos/../secret.csv", "s3://other/night.csv"):
        with pytest.raises(Reject, match="not_allowed"):
            wait(runs.start(None, "", place))
    placed = wait(runs.start(None, "", f"{tmp_path}/photos/night.csv"))
    pq.write_table(pa.table({"bytes": [photo(0, 1), b"no"], "listing_id": ["a", "b"]}), tmp_path / "m.parquet")
    sent = wait(runs.start((tmp_path / "m.parquet").read_bytes(), "", None))
    assert counts(ended(runs, placed.id)) == counts(ended(runs, sent.id)) == (2, 1, 0, 1)
    with sqlite3.connect(tmp_path / "tags.db") as connection:
        assert connection.execute("SELECT listing_id, code FROM rejects ORDER BY 1").fetchall() == [("b", "not_an_image"), ("two", "not_allowed")]
    assert (tmp_path / "photos" / "night.csv").exists()


def test_a_run_that_fails_says_why_and_not_where(settings, calibrated_bundle, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(calibrated_bundle, cut)
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-9])
    (tmp_path / "photos" / "1.jpg").write_bytes(photo(1, 1))
    runs = BulkRuns(settings, serving(str(cut)))
    begun = wait(runs.start(manifest({"a": f"{tmp_path}/photos/1.jpg"}), "night.csv", None))
    state = ended(runs, begun.id)
    assert state.status == "failed"
    assert "the classifier/model.safetensors was changed or cut short" in state.detail
    assert str(tmp_path) not in state.detail
    with open_store(settings.store) as store:
        assert (store.run(begun.id).status, store.run(begun.id).detail) == ("failed", state.detail)
    assert not list((tmp_path / "uploads").iterdir())


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (b"listing_id,place\n1,x.jpg\n", "night.csv", "night.csv has no column uri"),
        (b"PAR1 no more", "night.parquet", "night.parquet"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_one_clear_line_and_leaves_nothing(settings, calibrated_bundle, tmp_path, data, name, told):
    with pytest.raises(SourceError) as raised:
        wait(BulkRuns(settings, serving(calibrated_bundle)).start(data, name, None))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    assert not list((tmp_path / "uploads").iterdir())
    assert not Path(tmp_path / "tags.db").exists()


def test_runs_of_the_command_line_are_neither_shown_nor_ended(settings, calibrated_bundle):
    with open_store(settings.store) as store:
        store.start(RUN)
        runs = BulkRuns(settings, serving(calibrated_bundle))
        assert wait(runs.state(RUN.run_id)) is wait(runs.cancel(RUN.run_id)) is wait(runs.results(RUN.run_id)) is wait(runs.state("no-such")) is None
        assert store.run(RUN.run_id) == RUN
