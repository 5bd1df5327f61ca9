"""Joining a Ray cluster, or starting one on this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Read when ray.train is imported, and passed on to the cluster's processes. A report waits for the controller's next poll
# (2 s by default): with the short epochs of a laptop that would be most of the run. Source: ray.md, section 0.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

import ray
from ray.data import DataContext


@contextmanager
def ray_session(dashboard: bool = False) -> Iterator[None]:
    """A connection to the cluster of this job (RAY_ADDRESS, set by `ray job submit`) or to a new local one.

    A local cluster listens on the loopback address only and ends with the block. Where the process is connected already
    (a notebook, a test session), that connection is used and left open.

    Args:
        dashboard: whether a local cluster runs Ray's dashboard.
    """
    if ray.is_initialized():
        quiet_data()
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        # Two logical CPUs at least, so that reading can run beside one worker on the smallest machine.
        cpus = max(2, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR, _node_ip_address="127.0.0.1")
    quiet_data()
    try:
        yield
    finally:
        ray.shutdown()


def quiet_data() -> DataContext:
    """This process's settings for Ray Data, without its progress bars: prodrec shows its own."""
    for name in ("ray.data._internal.progress", "ray.data._internal.execution.streaming_executor"):  # both tell that the bars are off
        logging.getLogger(name).setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    return context
