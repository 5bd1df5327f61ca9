"""Bulk runs that are killed, cut off and crashed: in the end the tables are those of an undisturbed run."""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from bulk_cluster import MARK
from disturbed import dump, rows_in
from made import photo
from manifests import write_night
from postgres import Postgres

LISTINGS = 900
TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    photos = [folder / f"{number}.jpg" for number in range(60)]
    for number, path in enumerate(photos):
        path.write_bytes(photo(number % 4, number))
    return write_night(folder / "listings", photos, LISTINGS)


def begun(manifest, url, bundle, *more) -> subprocess.Popen:
    arguments = ["tag", manifest, "--to", url, "--classifier", bundle, "--json", "--workers", "1", *(more or ("--run-id", "r"))]
    return subprocess.Popen([sys.executable, "-m", "prodrec.cli", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process) -> dict:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


def summary_of(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("started", "finished", "input")}


@pytest.fixture(scope="module")
def undisturbed(night, calibrated_bundle, tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'tags.db'}"
    return finished(begun(night.manifest, url, calibrated_bundle)), dump(url)


def until(condition, process) -> None:
    """Waits for a state of the run; fails where the run ends before."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def kill_with_children(process) -> None:
    """As a machine that loses power: Ray's two agents would outlive their driver by minutes."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=60)


def test_a_driver_killed_three_times(night, calibrated_bundle, undisturbed, tmp_path):
    url, rng = f"sqlite:///{tmp_path / 'tags.db'}", random.Random(7)
    for low, high in ((1, 200), (200, 500), (500, 850)):
        # The first begins the run r, the others find it.
        process = begun(night.manifest, url, calibrated_bundle, *(["--resume"] if rows_in(url) else []))
        until(lambda point=rng.randrange(low, high): rows_in(url) >= point, process)
        kill_with_children(process)
        assert rows_in(url) < LISTINGS
    summary, tables = undisturbed
    assert summary_of(finished(begun(night.manifest, url, calibrated_bundle, "--resume"))) == summary_of(summary)
    assert dump(url) == tables


def test_a_scoring_process_killed(night, calibrated_bundle, undisturbed, tmp_path):
    url = f"sqlite:///{tmp_path / 'tags.db'}"
    process = begun(night.manifest, url, calibrated_bundle)
    until(lambda: rows_in(url) >= 100, process)
    scorers = [child for child in psutil.Process(process.pid).children(recursive=True) if "ListingScorer" in " ".join(child.cmdline())]
    assert len(scorers) == 1
    scorers[0].kill()
    summary, tables = undisturbed
    assert summary_of(finished(process)) == summary_of(summary)
    assert dump(url) == tables


def in_a_cluster(fault, *arguments) -> dict:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    command = [sys.executable, str(TESTS / "bulk_cluster.py"), fault, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def test_a_node_lost(night, calibrated_bundle, undisturbed, tmp_path):
    url = f"sqlite:///{tmp_path / 'tags.db'}"
    summary, tables = undisturbed
    assert summary_of(in_a_cluster("node", night.manifest, url, calibrated_bundle)) == summary_of(summary)
    assert dump(url) == tables


def test_an_image_that_kills_the_decoder_costs_itself_only(calibrated_bundle, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.jpg").write_bytes(photo(number % 4, number))
    (folder / "17.jpg").write_bytes(MARK + photo(0, 17))
    url = f"sqlite:///{tmp_path / 'tags.db'}"
    summary = in_a_cluster("decoder", folder, url, calibrated_bundle)
    assert (summary["rows_in"], summary["rows_tagged"], summary["rows_rejected"]) == (40, 39, 1)
    [reject] = dump(url)["rejects"]
    assert "17.jpg" in reject
    assert "crashed" in reject


def test_a_database_that_is_away_for_ten_seconds(night, calibrated_bundle, undisturbed):
    with Postgres() as server:
        url = server.create_database("tags")
        process = begun(night.manifest, url, calibrated_bundle)
        until(lambda: rows_in(url) >= 100, process)
        server.stop()
        until_s = time.monotonic() + 10
        until(lambda: time.monotonic() >= until_s, process)
        server.start()
        summary, tables = undisturbed
        assert summary_of(finished(process)) == summary_of(summary)
        assert dump(url) == tables
