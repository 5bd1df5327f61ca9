"""Requests a second and waiting times of `prodrec serve` beside plain FastAPI + uvicorn and LitServe, all with one bundle.

Usage: benchmarks/serve.py BUNDLE PHOTO [--seconds 10] [--clients 1,16] [--only NAME]... [--rounds 2]

Needs `wrk` (Debian's package) and, for its rows, `pip install litserve`. Every server scores the same JPEG by the same
`Recognizer` and decides; "batch 1" is prodrec with batches of one image. Servers are started one after the other and asked in
turns, so that a slow minute of the machine hits all alike; the best round of each is printed.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

BIN = Path(sys.executable).parent

PLAIN = """
import sys
from dataclasses import asdict
import uvicorn
from fastapi import FastAPI, UploadFile
from fastapi.concurrency import run_in_threadpool
from prodrec.scoring import Recognizer
from prodrec.scoring.decision import Decider
from prodrec.scoring.policy import Policy
import threading

recognizer, lock = Recognizer.load(classifier=sys.argv[1]), threading.Lock()
decider = Decider(recognizer.classifier_info, None, Policy())
app = FastAPI()

def score(data):
    with lock:
        answer = recognizer.recognize([data])[0]
    return {"products": [asdict(p) for p in answer.products], "decision": decider.decide([answer]).decision}

@app.post("/v1/recognize")
async def recognize(file: UploadFile):
    return await run_in_threadpool(score, await file.read())

@app.get("/readyz")
async def ready():
    return {}

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""

LIT = """
import sys
from dataclasses import asdict
import litserve
from prodrec.scoring import Recognizer
from prodrec.scoring.decision import Decider
from prodrec.scoring.policy import Policy

class Api(litserve.LitAPI):
    def setup(self, device):
        self.recognizer = Recognizer.load(classifier=sys.argv[1])
        self.decider = Decider(self.recognizer.classifier_info, None, Policy())

    def decode_request(self, request):
        return request["file"].file.read()

    def batch(self, inputs):
        return inputs

    def predict(self, batch):
        return self.recognizer.recognize(batch if isinstance(batch, list) else [batch])

    def unbatch(self, output):
        return output

    def encode_response(self, answer):
        answer = answer[0] if isinstance(answer, list) else answer
        return {"products": [asdict(p) for p in answer.products], "decision": self.decider.decide([answer]).decision}

if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.005, api_path="/v1/recognize")
    server = litserve.LitServer(api, accelerator="cpu", healthcheck_path="/readyz", timeout=60)
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
"""

SERVE = [BIN / "prodrec", "serve", "--classifier", "{bundle}", "--port", "{port}"]
FAST = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
SERVERS: dict[str, tuple[list, dict[str, str]]] = {
    "prodrec --local": ([*SERVE, "--local"], {}),
    "prodrec --local, batch 1": ([*SERVE, "--local", "--settings", "{folder}/one.yaml"], {}),
    "prodrec (Ray Serve)": (SERVE, {}),
    "prodrec (Ray Serve), throughput mode": (SERVE, FAST | {"RAY_SERVE_USE_GRPC_BY_DEFAULT": "0"}),
    "prodrec (Ray Serve), throughput mode, gRPC": (SERVE, FAST),
    "prodrec (Ray Serve), HAProxy": (SERVE, {"RAY_SERVE_ENABLE_HA_PROXY": "1"}),
    "FastAPI + uvicorn": ([sys.executable, "{folder}/plain.py", "{bundle}", "{port}"], {}),
    "LitServe": ([sys.executable, "{folder}/lit.py", "{bundle}", "{port}"], {}),
}


class Seen(NamedTuple):
    """What wrk saw: requests a second, latencies in milliseconds, answers that were no 200."""

    rate: float
    p50_ms: float
    p99_ms: float
    bad: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--clients", default="1,16")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", action="append", help="a server's name, or a part of it")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("this needs wrk: apt-get install wrk")
    clients = [int(count) for count in options.clients.split(",")]
    best: dict[tuple[str, int], Seen] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, options.photo.read_bytes())
        for _ in range(options.rounds):
            for server, (command, settings) in SERVERS.items():
                if options.only and not any(part in server for part in options.only):
                    continue
                for count, seen in _measured(command, settings, folder, options.bundle.resolve(), clients, options.seconds):
                    times = f"p50 {seen.p50_ms:6.1f} ms, p99 {seen.p99_ms:6.1f} ms"
                    print(f"{server:45} {count:3} clients: {seen.rate:6.1f} requests/s, {times}, {seen.bad} not 200", flush=True)
                    best[server, count] = max(best.get((server, count), seen), seen)
    for count in clients:
        others = [seen for (server, asked), seen in best.items() if asked == count and not server.startswith("prodrec")]
        for (server, asked), seen in best.items():
            if others and asked == count and server.startswith("prodrec"):
                rate, p99_ms = max(other.rate for other in others), min(other.p99_ms for other in others)
                print(f"{server}, {count} clients: {seen.rate / rate:.2f} of the better rate, {seen.p99_ms / p99_ms:.2f} of the better p99")


def _write(folder: Path, photo: bytes) -> None:
    """Programs, settings and the request's body."""
    (folder / "plain.py").write_text(PLAIN)
    (folder / "lit.py").write_text(LIT)
    (folder / "one.yaml").write_text("engine: {max_batch_size: 1}")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    (folder / "body").write_bytes(head + photo + b"\r\n--b--\r\n")
    lines = ['wrk.method = "POST"', f'wrk.body = io.open("{folder}/body", "rb"):read("*a")', 'wrk.headers["Content-Type"] = "multipart/form-data; boundary=b"']
    (folder / "post.lua").write_text("\n".join(lines))


def _measured(command: list, settings: dict[str, str], folder: Path, bundle: Path, clients: list[int], seconds: int):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    filled = [str(part).format(bundle=bundle, port=port, folder=folder) for part in command]
    environment = os.environ | {"RAY_worker_niceness": "0", "OMP_WAIT_POLICY": "passive"} | settings
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(filled, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        if not _ready(url, server):
            print(f"it did not start: {(folder / 'log').read_text()[-500:]}")
            return
        _wrk(url, folder, 4, 3)
        for count in clients:
            yield count, _wrk(url, folder, count, seconds)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _ready(url: str, server: subprocess.Popen) -> bool:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            if server.poll() is not None:
                return False
            time.sleep(0.3)
    return False


def _wrk(url: str, folder: Path, clients: int, seconds: int) -> Seen:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", f"{folder}/post.lua", f"{url}/v1/recognize"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    times = {share: float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit] for share, number, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", out)}
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return Seen(float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), times["50"], times["99"], int(bad[1]) if bad else 0)


if __name__ == "__main__":
    main()
