"""What this machine offers to one process."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from prodrec.errors import ConfigError

if TYPE_CHECKING:
    import torch

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


def torch_device(gpu: bool) -> "torch.device":
    """The GPU or the CPU, as asked.

    Raises:
        ConfigError: a GPU is asked for and torch finds none.
    """
    import torch  # takes seconds: only those who compute pay for it

    if gpu and not torch.cuda.is_available():
        raise ConfigError("--gpu: torch finds no GPU here; leave it out to work on the CPU")
    return torch.device("cuda" if gpu else "cpu")
