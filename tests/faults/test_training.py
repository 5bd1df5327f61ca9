"""A run on two workers whose processes and nodes are killed, one after the other: in the end its metrics are the undisturbed run's."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from prodrec.files import Folder
from prodrec.training.checkpoint import Checkpoints, Position

TIMES = {"images_per_s", "data_wait_s", "seconds"}
# Layer norm: nothing of a step depends on which images share a worker. A checkpoint after each step: what is lost can be counted.
SETTINGS = ["model.weights=none", "model.args={depth: 1, embed_dim: 48, num_heads: 3}", "input.size=32", "optim.lr=0.001", "augment.policy=trivial"]
SETTINGS += ["train.batch_size=8", "train.epochs=40", "train.precision=fp32", "model.dropout=0.1", "data.threads=1", "train.checkpoint_minutes=0.000001"]
RECIPE = {"name": "tiny", "model": {"arch": "vit_tiny16"}}
# Each restart starts processes that import torch; on a busy machine a minute. Source: docs/log.md 2026-11-28.
PATIENCE_S = 600


@pytest.fixture(scope="module")
def nodes():
    """A cluster whose head only drives, so that the nodes that train can be lost."""
    from ray.cluster_utils import Cluster

    from prodrec.cluster import session  # noqa: F401  its settings, before the first node

    small = {"object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
    yield cluster
    cluster.shutdown()


class Run:
    """The command line at work on a run."""

    def __init__(self, cluster, shards, out, *more) -> None:
        self.checkpoints, self.log = Checkpoints(Folder(out)), Path(f"{out}.log")
        recipe = Path(f"{out}.yaml")
        recipe.write_text(json.dumps(RECIPE))
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        command = ["train", shards, "--recipe", recipe, "--out", out, "--workers", "2", "--cpus-per-worker", "0.5", *settings, *more]
        env = os.environ | {"RAY_ADDRESS": cluster.address, "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "20", "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "prodrec.cli", *map(str, command)], env=env, stdout=log, stderr=log)

    def until_it_gets_on(self) -> Position:
        """Waits for a new checkpoint, and returns where it is of."""
        before, end = self.checkpoints.newest() or Position(0), time.monotonic() + PATIENCE_S
        while (newest := self.checkpoints.newest() or Position(0)) <= before:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)
        return newest

    def finish(self) -> str:
        assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()
        return self.log.read_text()


def workers(cluster, since: float) -> list[psutil.Process]:
    """Processes that train on a cluster and began after a time; Ray names a process after the actor that it runs."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            named = "RayTrainWorker" in "".join(process.cmdline()[:1])
            if named and process.create_time() > since and cluster.address in " ".join(process.parent().cmdline()):
                found.append(process)
    return found


def history(out: Path) -> list[dict]:
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in (out / "metrics.jsonl").read_text().splitlines()]


# On a quiet machine its run was once over before the last faults, and the tests of jobs behind it found a head without its agent:
# not in `make test` until that is understood (docs/log.md 2026-11-28).
@pytest.mark.skipif("PRODREC_LONG_FAULTS" not in os.environ, reason="minutes of kills: set PRODREC_LONG_FAULTS=1")
def test_a_run_of_which_all_is_killed_once_equals_the_undisturbed_one(small_shards, nodes, tmp_path):
    out, reached, since = tmp_path / "disturbed", list[Position](), 0.0
    run = Run(nodes, small_shards, out)

    def disturbed(fault) -> None:
        """Once those who came after the last fault have got on."""
        nonlocal since
        while len(ranks := workers(nodes, since)) < 2:
            assert run.process.poll() is None, run.log.read_text()
            time.sleep(0.05)
        reached.append(run.until_it_gets_on())
        since = time.time()
        fault(ranks)

    disturbed(lambda ranks: ranks[0].kill())
    disturbed(lambda _: run.process.kill())
    run = Run(nodes, small_shards, out, "--resume")  # at once: the lease of a process that is gone holds nobody up
    first = next(iter(nodes.worker_nodes))
    nodes.add_node(num_cpus=2, object_store_memory=100_000_000)
    disturbed(lambda _: nodes.remove_node(first, allow_graceful=False))
    disturbed(lambda ranks: ranks[-1].send_signal(signal.SIGSTOP))
    disturbed(lambda ranks: ranks[0].kill())
    told = run.finish()
    starts = [Position(int(epoch) - 1, int(step)) for epoch, step in re.findall(r"goes on from epoch-(\d+)-step-(\d+)", told)]
    print(f"faults at {reached}, went on from {starts}")
    assert all(start >= fault for start, fault in zip(starts, [reached[0], *reached[2:]], strict=True)), "what had a checkpoint is not done again"
    undisturbed = Run(nodes, small_shards, tmp_path / "undisturbed")
    assert "was lost" not in undisturbed.finish()
    assert history(out) == history(tmp_path / "undisturbed")
