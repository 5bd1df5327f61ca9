"""What the README says of `ray job submit`, command by command, on a head node that is started from a clean shell."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from made import write_image_folder

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# Ray starts half a dozen processes, a job three more, and each imports for seconds. Source: ray.md, section 7; twice that and more on a busy machine.
HEAD_READY_S, JOB_DONE_S, HEAD_DOWN_S = 120, 300, 60
TINY = ["--set", "train.epochs=2", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "data.threads=1"]


class Cluster:
    """A head node on the loopback address, and the shell that talks to it."""

    def __init__(self, home: Path, temp: str) -> None:
        self.temp = Path(temp)
        # Nothing of this process's environment: no PYTHONPATH, no RAY_* but what the README sets; the token goes to a home of its own.
        self.env = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        self.env |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1"}
        port, dashboard, client, agent = _free_ports(4)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.shell("ray", "get-auth-token", "--generate")
        ports = ["--port", port, "--dashboard-port", dashboard, "--ray-client-server-port", client, "--dashboard-agent-listen-port", agent]
        command = ["ray", "start", "--head", *map(str, ports), "--temp-dir", temp, "--disable-usage-stats", "--block"]
        self.log = home / "head.log"
        with self.log.open("wb") as log:
            self.head = subprocess.Popen(command, cwd=home, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def shell(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=CHECKOUT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=JOB_DONE_S)

    def submit(self, *entrypoint: object) -> subprocess.CompletedProcess[str]:
        return self.shell("ray", "job", "submit", "--address", self.address, "--working-dir", ".", "--", *map(str, entrypoint))

    def wait_until_ready(self) -> None:
        for _ in range(HEAD_READY_S):
            try:
                self.head.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if self._answers():
                    return
            else:
                break
        raise AssertionError(f"the head node did not come up:\n{self.log.read_text()}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/api/gcs_healthz", timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """Ends the head node and what it started, a crashed one's orphans too: by process id, for `ray stop` would end every Ray here."""
        self.head.terminate()
        try:
            self.head.wait(HEAD_DOWN_S)
        finally:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def processes(self) -> list[psutil.Process]:
        """The head node's, by the session that it was started in; a job's driver has a session of its own and ends with its job."""
        return [process for process in psutil.process_iter() if _session(process.pid) == self.head.pid]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _listening(process: psutil.Process) -> set[str]:
    try:
        return {one.laddr.ip for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:  # an idle worker that has just ended
        return set()


def _free_ports(count: int) -> list[int]:
    """Free ports of the loopback address, all open at once so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # Directly under /tmp: Ray makes sockets below it, and a socket's path holds 107 bytes.
    temp = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    started = Cluster(tmp_path_factory.mktemp("home"), temp)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()
        shutil.rmtree(temp, ignore_errors=True)


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
    assert [line for line in done.stdout.splitlines() if line.startswith("prodrec:")] == [line for line in done.stdout.splitlines() if "no_such'" in line]
    assert "prodrec: no recipe 'no_such'; known: custom_cnn," in done.stdout
    assert "Traceback" not in done.stdout


def test_the_head_listens_on_the_loopback_address_alone(cluster):
    listening = {address for process in cluster.processes() for address in _listening(process)}
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_uploaded_code_leaves_data_and_tools_behind(cluster):
    uploads = [path for path in cluster.temp.glob("session_*/runtime_resources/working_dir_files/_ray_pkg_*") if path.is_dir()]
    assert uploads
    for upload in uploads:
        names = {entry.name for entry in upload.iterdir()}
        assert {"jobs", "prodrec", "pyproject.toml"} <= names
        assert not names & {".git", ".venv", "demo", "runs", "scratch", "tests"}
