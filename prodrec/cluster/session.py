"""Joining a Ray cluster, or starting one on this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Settings that Ray reads when it is imported, and passes on to its processes.
# A worker that does not answer for so long, in seconds, is taken for dead: its process may be stopped, or its node cut off. Ten minutes
# by default. Source: assumed; a node that is cut off for half a minute comes back.
os.environ.setdefault("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "90")
if os.environ.get("RAY_ADDRESS"):
    # Workers may have to wait for nodes that the autoscaler boots; the default of 60 s is over before. Source: assumed.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "1200")
else:
    # A run ends with the controller's next look (each 2 s by default): on a laptop that would be much of a short one.
    # Source: shared/ray.md, section 0.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # It would say of every scoring process that its arguments lie in the object store, where Ray Data itself puts them.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray would replace 127.0.0.1 by the machine's address and listen on every interface; switched off, it does not, on Linux too.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray.data import DataContext

from prodrec.errors import ProdrecError
from prodrec.machine import usable_cores

# Ray Data adds lines about retries to what a worker raises. Source: ray 2.60, data/_internal/util.py, `_annotate_exception_with_retry_context`.
_RAYS_ADVICE = "\nFailed to "


@contextmanager
def ray_session() -> Iterator[None]:
    """A connection to the cluster of this job (RAY_ADDRESS, set by `ray job submit`) or to a new local one.

    A local cluster listens on the loopback address only, has no dashboard and ends with the block. Where the process is
    connected already (a notebook, a test session), that connection is used and left open.

    Raises:
        ProdrecError: a local Ray does not start.
    """
    if ray.is_initialized():
        quiet_data()
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
    else:
        _start_local()
    quiet_data()
    try:
        yield
    finally:
        ray.shutdown()


def quiet_data() -> DataContext:
    """This process's settings for Ray Data, without its progress bars: prodrec shows its own."""
    noisy = ["ray.data._internal.progress", "ray.data._internal.execution.streaming_executor"]  # both tell that the bars are off
    if not os.environ.get("RAY_ADDRESS"):  # what hangs or swells on a cluster is for its operator to read; a laptop is merely busy
        noisy.append("ray.data._internal.issue_detection")
    for name in noisy:
        logging.getLogger(name).setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    return context


def prodrec_cause(error: BaseException) -> BaseException:
    """The error of ours that a worker of Ray Data raised, as it was raised, or Ray's."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None) or seen.__cause__
        if isinstance(cause, ProdrecError):
            cause.args = tuple(part.split(_RAYS_ADVICE)[0] if isinstance(part, str) else part for part in cause.args)
            return cause
        seen = cause
    return error


def _start_local() -> None:
    # Two logical CPUs at least, so that reading can run beside one worker on the smallest machine.
    cpus = max(2, usable_cores())
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address="local", num_cpus=cpus, _node_ip_address="127.0.0.1", **quiet)
    except Exception as error:  # Ray raises bare exceptions when its processes are slow to come up
        reason = " ".join(str(error).split())[:200]
        raise ProdrecError(f"a local Ray did not start ({reason}); on a busy machine try again, or train in this process by --local") from error
