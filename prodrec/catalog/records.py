"""What is asked of a store, and the values that it gives and takes."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

import pyarrow as pa

from prodrec.catalog.tables import BATCH_TABLES, SCHEMAS, conform, key_of
from prodrec.config import Frozen


class Known(NamedTuple):
    """The state of a listing that is in the store.

    Attributes:
        input_sha256: of its URIs and declared values.
        content_sha256: of what was read from each image (hash or reject code) and the declared values.
        decision: accept, review or reject.
    """

    input_sha256: str
    content_sha256: str
    bundle_id: str
    policy_id: str
    run_id: str
    images_tagged: int
    images_rejected: int
    decision: str


class RunRecord(Frozen):
    """One execution of the bulk job.

    Attributes:
        started, finished: ISO 8601, UTC; None: not yet.
        run_date: YYYY-MM-DD.
        policy: JSON.
        rows_in, rows_tagged, rows_skipped, rows_rejected: images; None until known, like all counts.
        listings, accepted, reviewed, refused: listings.
        status: of a run that was killed it stays `running`; all but `finished` can be gone on with.
        detail: why it failed or was cancelled, or what was guessed about its input, one line.
    """

    run_id: str
    status: Literal["running", "finished", "failed", "cancelled"] = "running"
    started: str
    finished: str | None = None
    run_date: str
    input: str
    bundle_id: str
    policy_id: str
    policy: str
    code_version: str
    rows_in: int | None = None
    rows_tagged: int | None = None
    rows_skipped: int | None = None
    rows_rejected: int | None = None
    listings: int | None = None
    accepted: int | None = None
    reviewed: int | None = None
    refused: int | None = None
    detail: str | None = None


class Store(Protocol):
    """Where results are written. Cheap to open; each worker opens its own by `url`.

    `known`, `write` and `finish` wait for a database that is away; `start`, `unfinished` and `run` say at once that it is.

    Attributes:
        url: with absolute paths, so that it means the same on a worker, and with its password: not to be shown.
    """

    @property
    def url(self) -> str: ...

    def start(self, run: RunRecord) -> None:
        """Makes or migrates the tables and writes the run's row (again, where it is resumed).

        Raises:
            StoreSetupError: the place cannot be reached or used, or a newer prodrec made it.
        """

    def unfinished(self, input: str, bundle_id: str, policy_id: str) -> RunRecord | None:
        """The latest run of the input, if it did not finish and is of this bundle and policy: an older one is history."""

    def run(self, run_id: str) -> RunRecord | None: ...

    def known(self, listing_ids: Sequence[str]) -> dict[str, Known]:
        """Those of the listings that are in the store. One query."""

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        """Writes a batch of whole listings of one run: all of it or nothing.

        What the same run wrote of these listings before is replaced, so a retry changes nothing; what other runs wrote
        stays as history, save for rows of equal key.

        Args:
            tables: listings, predictions, tags, decisions and rejects as `rows_table` makes them; a table left out is empty.

        Raises:
            StoreError: the store is away for longer than `patience_s`, or refuses the rows.
            ValueError: the tables do not fit, or are of several runs.
        """

    def finish(self, run: RunRecord) -> None:
        """Writes the run's last state."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def batch_rows(tables: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
    """All tables of a batch as every store keeps them; those left out are empty.

    Raises:
        ValueError: an unknown table, one that does not fit, no listing, or rows of a listing or image that is not in the batch.
    """
    if foreign := set(tables) - set(BATCH_TABLES):
        raise ValueError(f"a batch has no table {', '.join(sorted(foreign))}; it has {', '.join(BATCH_TABLES)}")
    rows = {name: conform(name, tables[name]) if name in tables else SCHEMAS[name].empty_table() for name in BATCH_TABLES}
    if not rows["listings"].num_rows:
        raise ValueError("a batch is of at least one listing")
    for name, owner in {"predictions": "listings", "tags": "predictions", "decisions": "listings", "rejects": "listings"}.items():
        shared = [column for column in key_of(BATCH_TABLES[owner]) if column in rows[name].column_names]
        if strangers := rows[name].select(shared).join(rows[owner].select(shared), shared, join_type="left anti", use_threads=False).num_rows:
            raise ValueError(f"{strangers} {name} of the batch have none of its {owner}; a batch is of whole listings")
    return rows


def resumable(latest: RunRecord | None, bundle_id: str, policy_id: str) -> RunRecord | None:
    """The run, if it can be gone on with."""
    if latest is None or latest.status == "finished" or (latest.bundle_id, latest.policy_id) != (bundle_id, policy_id):
        return None
    return latest


def run_of(listings: pa.Table) -> str:
    """The run that a batch is of.

    Raises:
        ValueError: its listings are of several runs.
    """
    run_ids = listings["run_id"].unique().to_pylist()
    if len(run_ids) != 1:
        raise ValueError(f"a batch is of one run; this one is of {len(run_ids)}")
    return str(run_ids[0])
