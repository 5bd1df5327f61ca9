"""Writers at once, writers that are killed, a database that goes away: the store ends as if nothing had happened."""

import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import made_listings
import psycopg
import pytest
from made_listings import RUN, batch, contents, listing_ids, sha
from sqlalchemy import event

from prodrec.catalog import open_store, schema
from prodrec.catalog.sql_store import SqlStore
from prodrec.catalog.upsert import PORTABLE
from prodrec.errors import StoreError, StoreSetupError

COUNT = 3_000


@contextmanager
def writer(store, *arguments):
    """A process that has its batches made and its store open, and writes once it is told to go."""
    portable = ["--portable"] if isinstance(store, SqlStore) and store._bulk is PORTABLE else []
    command = [sys.executable, made_listings.__file__, store.url, *portable, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def ended(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def expected(spans, tags, run=RUN):
    """How many rows each table has once all are written."""
    listings = len({listing_id for span in spans for listing_id in listing_ids(*span)})
    return {"listings": listings, "predictions": 2 * listings, "tags": tags * listings, "decisions": listings, "rejects": listings}


def counts(store):
    return {name: len(rows) for name, rows in contents(store).items()}


def test_two_processes_write_the_same_batches_at_once(store):
    spans = [(first, 200) for first in range(0, 1600, 200)]
    forward, backward = [x for span in spans for x in span], [x for span in reversed(spans) for x in span]
    with writer(store, "run-1", 3, *forward) as one, writer(store, "run-1", 3, *backward) as two:
        go(one), go(two)
        ended(one), ended(two)
    assert counts(store) == expected(spans, 3)
    with open_store(store.url) as reader:
        assert len(reader.known(listing_ids(0, 1600))) == 1600


@pytest.mark.parametrize("portable", [False, True])
def test_two_attempts_at_once_that_found_different_things_do_not_mix(server, database, portable):
    """The first is held just before it commits, until the second waits for it; then the second must still see what to replace."""
    with SqlStore(database, 60, portable) as first, SqlStore(database, 60, portable) as second:
        first.start(RUN)
        at_commit, may_commit = threading.Event(), threading.Event()
        event.listen(first._engine, "commit", lambda _: (at_commit.set(), may_commit.wait(60)))
        writers = [threading.Thread(target=store.write, args=[batch(["a"], tags=tags, version=str(tags))]) for store, tags in ((first, 8), (second, 2))]
        writers[0].start()
        assert at_commit.wait(60)
        writers[1].start()
        while writers[1].is_alive() and not waits_for_lock(server, database):
            pass
        may_commit.set()
        for thread in writers:
            thread.join(60)
        assert counts(second) == expected([(0, 1)], 2)
        assert second.known(["a"])["a"].content_sha256 == sha("a2")


def waits_for_lock(server, database):
    name = database.rpartition("/")[2]
    return server.value(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'") > 0


def test_processes_that_make_the_schema_wait_for_each_other(server, database):
    with psycopg.connect(database.replace("+psycopg", "")) as holder, open_store(database) as store:
        holder.execute(f"SELECT pg_advisory_xact_lock({schema._LOCK})")
        starting = threading.Thread(target=store.start, args=[RUN])
        starting.start()
        while starting.is_alive() and not waits_for_lock(server, database):
            pass
        assert starting.is_alive()
        holder.rollback()
        starting.join(60)
        assert store.run("run-1") == RUN


def test_overlapping_batches_in_opposite_order_do_not_deadlock_for_good(sql_store):
    spans = [(0, 300), (150, 300), (300, 300), (0, 600)]
    with writer(sql_store, "run-1", 3, *[x for s in spans for x in s]) as one, writer(sql_store, "run-1", 3, *[x for s in spans[::-1] for x in s]) as two:
        go(one), go(two)
        ended(one), ended(two)
    assert counts(sql_store) == expected(spans, 3)


@pytest.mark.parametrize("after", [0.05, 0.3])
def test_a_killed_writer_leaves_all_or_nothing_and_the_next_run_ends_equal(store, after):
    nothing, whole = dict.fromkeys(expected([], 3), 0), expected([(0, COUNT)], 3)
    with writer(store, "run-1", 3, 0, COUNT) as process:
        go(process)
        with suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_store(store.url) as again:
        again.start(RUN)
        assert counts(store) in (nothing, whole)
        assert len(again.known(listing_ids(0, COUNT))) in (0, COUNT)
        again.write(batch(listing_ids(0, COUNT)))
        again.finish(RUN)
    assert counts(store) == whole


def test_orphans_of_a_killed_writer_are_removed_by_start_and_finish_of_their_run_alone(tmp_path):
    folder = tmp_path / "tags"
    with open_store(str(folder)) as store:
        other = RUN.model_copy(update={"run_id": "run-1-b"})
        store.start(RUN), store.start(other)
        for run, name in ((RUN, "a"), (other, "b")):
            store.write(batch([name], run))
            store.write(batch([name + "2"], run))
        for lost in sorted((folder / "listings").rglob("*.parquet")):
            if "a2" in str(open_listing(lost)) or "b2" in str(open_listing(lost)):
                lost.unlink()
        aside = folder / "tags" / "run_date=2026-11-20" / ".run-1-0123456789abcdef.parquet.12345678.part"
        aside.write_bytes(b"half")
        assert counts(store)["tags"] == 12
        assert store.known(["a", "a2", "b", "b2"]).keys() == {"a", "b"}
        store.start(RUN)
        assert sorted(row["listing_id"] for row in contents(store)["decisions"]) == ["a", "b", "b2"]
        store.finish(other)
        assert sorted(row["listing_id"] for row in contents(store)["decisions"]) == ["a", "b"]
        assert not aside.exists()


def test_a_batch_that_fails_half_way_does_not_count(tmp_path):
    folder = tmp_path / "tags"
    with open_store(str(folder)) as store:
        store.start(RUN)
        store.write(batch(["a"]))
        (rejects,) = (folder / "rejects").rglob("*.parquet")
        rejects.unlink()
        (rejects / "in the way").mkdir(parents=True)
        with pytest.raises(StoreSetupError, match=r"cannot write .*rejects"):
            store.write(batch(["a"]))
        assert store.known(["a"]) == {}
        store.start(RUN)
        assert [path for path in folder.rglob("*.parquet*") if path.is_file()] == []


def open_listing(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()["listing_id"].to_pylist()


@pytest.mark.parametrize("immediate", [False, True])
def test_a_database_that_restarts_during_writing_is_waited_for(server, database, immediate):
    spans = [(first, 200) for first in range(0, 4000, 200)]
    with open_store(database) as store:
        store.start(RUN)
        assert store.known(["x"]) == {}
        with writer(store, "run-1", 3, *[x for span in spans for x in span]) as process:
            go(process)
            assert process.stdout.readline() == "written\n"
            server.stop(immediate)
            try:
                known: list[int] = []
                asking = threading.Thread(target=lambda: known.append(len(store.known(["listing-000000"]))))
                asking.start()
                assert process.poll() is None
            finally:
                server.start()
            asking.join(60)
            assert known == [1]
            ended(process)
        assert counts(store) == expected(spans, 3)
        store.finish(RUN.model_copy(update={"status": "finished"}))
        assert store.run("run-1").status == "finished"


def test_a_database_that_loses_its_connections_in_the_middle_is_written_to_again(server, database):
    spans = [(first, 200) for first in range(0, 4000, 200)]
    with open_store(database) as store:
        store.start(RUN)
        with writer(store, "run-1", 3, *[x for span in spans for x in span]) as process:
            go(process)
            for _ in range(5):
                assert process.stdout.readline() == "written\n"
                server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'")
            ended(process)
        assert counts(store) == expected(spans, 3)


def test_patience_ends_in_one_clear_error(server, database):
    with open_store(database, patience_s=0.5) as store:
        store.start(RUN)
        server.stop()
        try:
            for work in (lambda: store.known(["a"]), lambda: store.write(batch(["a"])), lambda: store.finish(RUN)):
                with pytest.raises(StoreError, match=r"prodrec:\*\*\*@127\.0\.0\.1:\d+/test_\d+ was away") as error:
                    work()
                assert error.value.exit_code == 1
                assert "not-to-be-shown" not in str(error.value)
                assert "\n" not in str(error.value)
        finally:
            server.start()
