"""Serving by the commands of the README: on one machine, and on a cluster that asks for a token."""

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time

import httpx
import pytest
import yaml
from head_node import BIN, CHECKOUT, free_ports
from load import load
from made import photo

from prodrec.models.bundle import load_bundle

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"RAY_worker_niceness": "0"}


def until(condition, limit_s=120, process=None):
    start = time.monotonic()
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() - start < limit_s, "it did not come about"
        time.sleep(0.2)


def status(url: str) -> int:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def bundle_id(path) -> str:
    return load_bundle(str(path)).info.bundle_id


@pytest.mark.parametrize("where", [["--local"], []], ids=["in one process", "on Ray"])
def test_prodrec_serve_answers_and_ends_in_peace(where, calibrated_bundle, tmp_path):
    port = free_ports(1)[0]
    command = [BIN / "prodrec", "serve", "--classifier", calibrated_bundle, "--port", str(port), *where]
    server = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: status(url) == 200, process=server)
        answer = httpx.post(f"{url}/v1/recognize", content=photo(2, 1), trust_env=False).raise_for_status().json()
        assert answer["bundle_id"] == bundle_id(calibrated_bundle) and answer["products"]
        again = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True, timeout=60)
        assert again.returncode == 2 and f"--port {port}" in again.stderr and "Traceback" not in again.stderr
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert server.returncode == 0, err
    assert f"listening on {url}" in out and "Traceback" not in err
    assert status(url) == 0


def test_serve_deploy_changes_bundles_under_load_on_a_cluster_with_a_token(cluster, calibrated_bundle, small_bundle, tmp_path):
    port, url_file = free_ports(1)[0], tmp_path / "config.yaml"
    url = f"http://127.0.0.1:{port}"
    config = yaml.safe_load((CHECKOUT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = port
    [application] = config["applications"]
    classifier = next(one for one in application["deployments"] if one["name"] == "Classifier")
    classifier["ray_actor_options"] = {"num_cpus": 0.5}

    def deploy(bundle) -> None:
        classifier["user_config"]["bundle"] = str(bundle)
        url_file.write_text(yaml.safe_dump(config))
        done = cluster.shell("serve", "deploy", str(url_file), "-a", cluster.address)
        assert done.returncode == 0, done.stdout

    def served() -> str | None:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=30).json().get("bundle_id")

    assert httpx.get(f"{cluster.address}/api/serve/applications/", trust_env=False).status_code == 401
    deploy(calibrated_bundle)
    until(lambda: status(url) == 200)
    assert served() == bundle_id(calibrated_bundle)
    ended, asked = threading.Event(), []
    thread = threading.Thread(target=lambda: asked.extend(asyncio.run(load(url, photo(1, 5), 3, ended.is_set))))
    thread.start()
    deploy(small_bundle)
    until(lambda: served() == bundle_id(small_bundle))
    bad = tmp_path / "bad"
    shutil.copytree(calibrated_bundle, bad)
    (bad / "model.safetensors").write_bytes(b"cut")
    deploy(bad)
    until(lambda: any("stays as it is" in log.read_text() for log in cluster.temp.glob("session_2*/logs/serve/*Classifier*")))
    assert served() == bundle_id(small_bundle)
    ended.set()
    thread.join()
    assert cluster.shell("serve", "shutdown", "-y", "-a", cluster.address).returncode == 0
    assert {one.status for one in asked} == {200}
    assert {one.answer["bundle_id"] for one in asked} == {bundle_id(calibrated_bundle), bundle_id(small_bundle)}
