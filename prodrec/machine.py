"""What this machine offers to one process."""

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that this process may use, at least 1: in a container fewer than the machine has.

    Source: sched_getaffinity(2); cgroup v2's cpu.max ("quota period" in microseconds, or "max").
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
