"""What the README says of `ray job submit`, command by command, on a head node that is started from a clean shell."""

import json
import sqlite3

import psutil
from made import write_image_folder

TINY = ["--set", "train.epochs=2", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "data.threads=1"]


def _listening(process: psutil.Process) -> set[str]:
    try:
        return {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:  # an idle worker that has just ended
        return set()


def test_jobs_go_from_photos_to_a_judged_bundle(cluster, tmp_path):
    source = write_image_folder(tmp_path / "photos", {"red": 20, "green": 20})
    shards, run, evaluation = tmp_path / "shards", tmp_path / "run", tmp_path / "evaluation"

    prepared = cluster.submit("python", "jobs/prepare.py", source, shards, "--short-side", 48)
    assert prepared.returncode == 0, prepared.stdout
    assert "40 rows in = 40 ok + 0 rejected" in prepared.stdout
    assert (shards / "manifest.json").exists()

    trained = cluster.submit("python", "jobs/train.py", shards, "--recipe", "custom_cnn", "--out", run, *TINY)
    assert trained.returncode == 0, trained.stdout
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert (run / "report" / "index.html").exists()
    assert "epoch   2  train loss" in trained.stdout

    evaluated = cluster.submit("python", "jobs/evaluate.py", run / "bundle", shards, "--out", evaluation)
    assert evaluated.returncode == 0, evaluated.stdout
    metrics = json.loads((evaluation / "metrics.json").read_text())
    assert metrics["n"] > 0
    assert f"of {metrics['n']} right" in evaluated.stdout

    tagged = cluster.submit("python", "jobs/tag.py", source, "--to", f"sqlite:///{tmp_path}/tags.db", "--classifier", run / "bundle", "--workers", 1)
    assert tagged.returncode == 0, tagged.stdout
    assert "40 images in = 40 tagged + 0 skipped + 0 rejected" in tagged.stdout
    with sqlite3.connect(tmp_path / "tags.db") as database:
        assert database.execute("SELECT count(*), count(DISTINCT listing_id) FROM predictions").fetchone() == (40, 40)


def test_a_wrong_flag_fails_the_job_and_its_log_says_why_in_one_line(cluster, tmp_path):
    done = cluster.submit("python", "jobs/train.py", tmp_path / "shards", "--recipe", "no_such", "--out", tmp_path / "run")
    assert done.returncode != 0
    assert "exit code 2" in done.stdout
    told = {line for line in done.stdout.splitlines() if line.startswith("prodrec:")}
    assert len(told) == 1
    assert "holds no complete shards" in told.pop()
    assert "Traceback" not in done.stdout


def test_the_head_listens_on_the_loopback_address_alone(cluster):
    listening = {address for process in cluster.processes() for address in _listening(process)}
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_uploaded_code_leaves_data_and_tools_behind(cluster):
    """Seen from within a job: Ray may clear an upload away once nobody uses it."""
    listed = cluster.submit("ls", "-A")
    assert listed.returncode == 0, listed.stdout
    names = {*listed.stdout.splitlines()}
    assert {"jobs", "prodrec", "pyproject.toml"} <= names
    assert not names & {".git", ".venv", "demo", "runs", "scratch", "tests"}
