"""A Ray head node as an operator starts it, from a clean shell, with a token."""

import os
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# Ray starts half a dozen processes, a job three more, and each imports for seconds. Source: ray.md, section 7; twice that and more on a busy machine.
HEAD_READY_S, JOB_DONE_S, HEAD_DOWN_S = 120, 300, 60


class Cluster:
    """A head node on the loopback address, and the shell that talks to it."""

    def __init__(self, home: Path, temp: str) -> None:
        self.temp = Path(temp)
        # Nothing of this process's environment: no PYTHONPATH, no RAY_* but what the README sets; the token goes to a home of its own.
        self.env = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        self.env |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1"}
        port, dashboard, client, agent = free_ports(4)
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


def free_ports(count: int) -> list[int]:
    """Free ports of the loopback address, all open at once so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
