"""Against a metadata service that speaks as EC2's does."""

import json
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prodrec.cluster.spot_notice import drain_command, seconds_left


class Metadata(BaseHTTPRequestHandler):
    notice: bytes | None = None

    def do_PUT(self):
        assert self.path == "/latest/api/token"
        assert int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
        self.answer(200, b"secret")

    def do_GET(self):
        if self.headers["X-aws-ec2-metadata-token"] != "secret":
            return self.answer(401, b"")
        found = self.path == "/latest/meta-data/spot/instance-action" and self.notice
        return self.answer(200, self.notice) if found else self.answer(404, b"")

    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def metadata():
    handler = type("Handler", (Metadata,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_notice_tells_how_long_is_left(metadata):
    handler, url = metadata
    assert seconds_left(url) is None
    at = datetime.now(UTC) + timedelta(seconds=120)
    handler.notice = json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()
    assert 110 <= seconds_left(url) <= 120
    handler.notice = b"soon"
    assert seconds_left(url) == 30


def test_where_no_service_answers_nothing_is_known():
    assert seconds_left("http://127.0.0.1:9") is None


def test_ray_knows_the_command_and_what_a_worker_reads_of_it():
    """Neither is promised by Ray: a new one may name them otherwise."""
    from ray.train.v2._internal.execution.preemption import PreemptionContext

    assert PreemptionContext().preemption_info is None
    command = drain_command("127.0.0.1:1", "0" * 56, 100)
    done = subprocess.run([*command[:2], "--help"], capture_output=True, text=True, check=True)
    assert all(option in done.stdout for option in command if option.startswith("--"))
    assert "DRAIN_NODE_REASON_PREEMPTION" in done.stdout
