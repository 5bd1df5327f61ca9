"""Beside a spot node's Ray: drains the node when AWS says that it takes it away, two minutes before it does.

Ray's launcher starts nodes that nobody tells. A drained node gets no new work; a run on it writes a checkpoint at once and goes on
elsewhere, and what was lost counts as no failure of its own.
Source: AWS EC2 user guide, "Spot Instance interruption notices" and IMDSv2.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

_METADATA = "http://169.254.169.254"  # link-local: the hypervisor answers
# AWS advises to ask each five seconds. A notice without a readable time is taken for the shortest that clouds give.
_EVERY_S, _SHORTEST_S = 5.0, 30
_TOKEN_TTL_S = 21_600


def seconds_left(metadata: str = _METADATA) -> int | None:
    """Until this machine is taken away; None: nothing is known of it, or the metadata service is away."""
    try:
        ask = urllib.request.Request(f"{metadata}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)})
        with urllib.request.urlopen(ask, timeout=2) as reply:
            token = reply.read().decode()
        ask = urllib.request.Request(f"{metadata}/latest/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token})
        with urllib.request.urlopen(ask, timeout=2) as reply:
            notice = reply.read()
    except OSError:  # 404: no notice
        return None
    try:
        at = datetime.fromisoformat(json.loads(notice)["time"])
        return max(1, int((at - datetime.now(UTC)).total_seconds()))
    except (ValueError, KeyError, TypeError):
        return _SHORTEST_S


def drain_command(address: str, node_id: str, seconds: int) -> list[str]:
    """What tells a cluster that one of its nodes is going."""
    ray = str(Path(sys.executable).parent / "ray")
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot notice", "--deadline-remaining-seconds", str(seconds)]
    return [ray, "drain-node", "--address", address, "--node-id", node_id, *why]


def own_node_id(address: str) -> str:
    """Of the Ray node on this machine."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="error")
    try:
        return str(ray.get_runtime_context().get_node_id())
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="HOST:PORT of the cluster's head")
    parser.add_argument("--metadata", default=_METADATA)
    given = parser.parse_args()
    while (seconds := seconds_left(given.metadata)) is None:
        time.sleep(_EVERY_S)
    print(f"this node is taken away in {seconds} s: draining it", flush=True)
    # A little before it is, so that the run has moved by then.
    subprocess.run(drain_command(given.address, own_node_id(given.address), max(1, seconds - 10)), check=True)


if __name__ == "__main__":
    main()
