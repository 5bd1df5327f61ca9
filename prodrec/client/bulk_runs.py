"""The calls about runs of the nightly job. Each is written once, as a generator of requests; `Client` and `AsyncClient` run it."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from prodrec.client.answers import BulkRun
from prodrec.client.errors import Busy, GatewayFault, TimedOut, Unreachable
from prodrec.client.exchange import Part, Request, Steps
from prodrec.client.images import Url
from prodrec.client.looks import Looks

# Between two looks. Source: assumed.
POLL_S = 2.0


def start_bulk(manifest: bytes | str | os.PathLike[str] | Url) -> Steps[BulkRun]:
    """Begins the nightly job for a manifest. Is sent again only where the server has not taken it up.

    Args:
        manifest: CSV or Parquet: its bytes, its path (streamed), or `Url("s3://...")` of an allowed place.

    Raises:
        OSError: the file cannot be read.
        NotAllowed: bulk runs are switched off, or the place is not on the list.
        ClientError: see `prodrec.client`. After Unreachable and TimedOut it may have begun: sent again, what it has written is skipped.
    """
    if isinstance(manifest, Url):
        reply = yield Request("POST", "/v1/bulk", json={"input": manifest.address}, repeat="unseen")
    else:
        reply = yield Request("POST", "/v1/bulk", parts=(_manifest_part(manifest),), repeat="unseen")
    return reply.parsed(BulkRun)


def bulk(run_id: str) -> Steps[BulkRun]:
    """How far a run is.

    Raises:
        NotFound: there is no such run.
        ClientError: see `prodrec.client`.
    """
    reply = yield Request("GET", _bulk_path(run_id))
    return reply.parsed(BulkRun)


def cancel_bulk(run_id: str) -> Steps[BulkRun]:
    """Ends a run; what it has written stays. Raises as `bulk`."""
    reply = yield Request("DELETE", _bulk_path(run_id))
    return reply.parsed(BulkRun)


def wait_bulk(run_id: str, timeout_s: float, on_progress: Callable[[BulkRun], object] | None = None, poll_s: float = POLL_S) -> Steps[BulkRun]:
    """Waits until a run is no longer `running`, also over a server that is away for a while. Read `status` of what it returns.

    Args:
        timeout_s, poll_s: seconds.
        on_progress: is called with each look.

    Raises:
        TimedOut: it still runs, and goes on.
        ClientError: see `prodrec.client`.
    """
    looks, pause_s = Looks(timeout_s), 0.0
    while True:
        try:
            reply = yield looks.next(_bulk_path(run_id), pause_s)
        except (Unreachable, TimedOut, Busy, GatewayFault) as error:
            latest = str(error)
        else:
            run = reply.parsed(BulkRun)
            latest = f"{run.images_done} of {run.images} images"
            if on_progress:
                on_progress(run)
            if run.status != "running":
                return run
        pause_s = poll_s
        looks.check(f"bulk run {run_id} is not done after {timeout_s:g} s and goes on: {latest}")


def bulk_results(run_id: str, path: str | os.PathLike[str]) -> Steps[Path]:
    """Fetches a run's decisions as a CSV file, which is there whole or not at all.

    Raises:
        OSError: the file cannot be written.
        ClientError: as `bulk`.
    """
    target = Path(path)
    yield Request("GET", f"{_bulk_path(run_id)}/results", accept="text/csv", save_to=target)
    return target


def _manifest_part(manifest: bytes | str | os.PathLike[str]) -> Part:
    if not isinstance(manifest, bytes):
        return Part("file", Path(manifest).name, Path(manifest))
    # Source: Parquet files begin with PAR1 (parquet.apache.org, "File Format").
    return Part("file", "manifest.parquet" if manifest.startswith(b"PAR1") else "manifest.csv", manifest)


def _bulk_path(run_id: str) -> str:
    return f"/v1/bulk/{quote(run_id, safe='')}"
