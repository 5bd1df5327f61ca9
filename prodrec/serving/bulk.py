"""Bulk runs over HTTP: what they may read, how far they are, and their decisions as CSV.

Not covered: starting, watching and ending them, which is Ray's (prodrec.cluster.bulk_runs).
"""

import asyncio
import csv
import hashlib
import io
import json
import re
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator
from sqlalchemy import Connection, Row, create_engine, select, union_all
from sqlalchemy.exc import SQLAlchemyError

from prodrec.catalog import RunRecord, shown_url
from prodrec.catalog.tables import DECISIONS, PREDICTIONS, REJECTS
from prodrec.catalog.urls import FOLDER_SCHEMES, database_url, is_folder
from prodrec.config import Frozen, PositiveInt
from prodrec.data.files import Folder
from prodrec.data.image_bytes import lies_below
from prodrec.data.manifests import MANIFEST_SUFFIXES
from prodrec.errors import Reject, RejectCode, SourceError, StoreError
from prodrec.scoring.fetch import FetchLimits

CSV_COLUMNS = ("listing_id", "decision", "product", "product_group", "probability", "reasons", "uris")
# Of a run that is called running, and is not: its process, its machine or the cluster was lost.
LOST = "it ended without a word; send the same manifest again: what is written stays"
# What `check_manifest` gives.
SENT = re.compile(r"[0-9a-f]{64}\.(csv|tsv|parquet)")
_PARQUET_MAGIC = b"PAR1"
# Decisions read at once. Source: assumed; some 500 KB of CSV.
_ROWS = 1_000
# What a spreadsheet takes for a formula. Source: OWASP, "CSV Injection"; the wide signs are those of East Asian keyboards.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")


class BulkSettings(Frozen):
    """Where bulk runs write and what they may read. Whoever may send a manifest reaches this, and nothing else of the server's.

    Attributes:
        store: URL of a database, see `prodrec.catalog.open_store`; every node of the cluster must reach it.
        uploads: folder or URI that sent manifests are kept in while their run goes on; every node must see it.
        inputs: folders (absolute paths, or URIs such as s3://bucket/manifests/) that manifests, and the images that they name, may
            lie in; of an object store with the user and the query that they are written with here. (): none.
        fetch: of the web: `hosts` that images may come from (none by default), `schemes`, `allow_private`.
        workers: scoring processes, least and most; None: as `prodrec tag`.
        most_runs: that go on at once. Source: assumed; one takes all that the cluster has.
        max_manifest_bytes: that is sent. Source: assumed; half a million rows.
    """

    store: Annotated[str, Field(repr=False)]
    uploads: str
    inputs: tuple[str, ...] = ()
    fetch: FetchLimits = FetchLimits()
    workers: tuple[PositiveInt, PositiveInt] | None = None
    gpu: bool = False
    most_runs: PositiveInt = 1
    max_manifest_bytes: PositiveInt = 50_000_000

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str) -> str:
        if is_folder(store):
            raise ValueError("bulk runs over HTTP need a database: sqlite:///FILE or postgresql://user@host/database")
        return store

    @field_validator("uploads")
    @classmethod
    def _check_uploads(cls, uploads: str) -> str:
        if "?" in uploads:
            raise ValueError("uploads is a folder, or a URI without a query; give credentials by the environment")
        # Runs' processes have other working directories.
        return uploads if "://" in uploads else Folder(uploads).uri

    @field_validator("inputs")
    @classmethod
    def _check_inputs(cls, inputs: tuple[str, ...]) -> tuple[str, ...]:
        for folder in inputs:
            scheme, mark, _ = folder.partition("://")
            known = scheme in FOLDER_SCHEMES and scheme != "file" if mark else folder.startswith("/") and folder.strip("/")
            if not known or ".." in folder.split("/") or not lies_below(folder, [folder]):
                raise ValueError(f"{shown_url(folder)} is no folder to read from; write /an/absolute/path or a URI such as s3://bucket/manifests/, without ..")
        return inputs

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(lies_below(self.uploads, [folder]) or lies_below(folder, [self.uploads]) for folder in self.inputs):
            raise ValueError("uploads and inputs overlap: what one caller sends, the others could read; give uploads a folder of its own")
        if self.workers and self.workers[0] > self.workers[1]:
            raise ValueError("workers: the first number is the least, the second the most")
        return self

    def check_manifest(self, manifest: bytes, name: str) -> str:
        """The name that a sent manifest is kept by: of its content, so that the same one sent again goes on with its run.

        Raises:
            Reject: `too_large`.
            SourceError: `name` tells no format, nor do its bytes.
        """
        if len(manifest) > self.max_manifest_bytes:
            raise Reject(RejectCode.TOO_LARGE, f"a manifest of {len(manifest):,} bytes; at most {self.max_manifest_bytes:,} are read")
        suffixes = [suffix for suffix in MANIFEST_SUFFIXES if name.lower().endswith(suffix)] or [".parquet"] * manifest.startswith(_PARQUET_MAGIC)
        if not suffixes:
            raise SourceError(f"{name or 'the file'} is no manifest: its name must end in {', '.join(MANIFEST_SUFFIXES)}")
        return hashlib.sha256(manifest).hexdigest() + suffixes[0]

    def check_input(self, uri: str) -> str:
        """The place, if manifests may be read from there.

        Raises:
            Reject: `not_allowed`.
        """
        if not self.inputs:
            raise Reject(RejectCode.NOT_ALLOWED, "manifests are not read from places here; send the manifest itself")
        if not lies_below(uri, self.inputs):
            raise Reject(RejectCode.NOT_ALLOWED, "this place is not on the list of places that manifests are read from")
        return uri


class Progress(NamedTuple):
    """How far a run is: images done, in all (None: not counted yet), and a second."""

    done: int = 0
    images: int | None = None
    images_per_s: float = 0.0


@dataclass(frozen=True)
class BulkState:
    """One run, as docs/api.md shows it. `images_done` and `images` are told of one that goes on or is finished."""

    id: str
    status: Literal["running", "finished", "failed", "cancelled"]
    images_done: int = 0
    images: int | None = None
    images_per_s: float = 0.0
    rows_in: int | None = None
    rows_tagged: int | None = None
    rows_skipped: int | None = None
    rows_rejected: int | None = None
    listings: int | None = None
    accepted: int | None = None
    reviewed: int | None = None
    refused: int | None = None
    started: str | None = None
    finished: str | None = None
    detail: str | None = None


def state_of(run: RunRecord, progress: Progress | None) -> BulkState:
    """The truth about a run.

    Args:
        run: its row.
        progress: that its process tells; None: there is no such process.
    """
    rows = ("rows_in", "rows_tagged", "rows_skipped", "rows_rejected", "listings", "accepted", "reviewed", "refused", "started", "finished", "detail")
    said: dict[str, Any] = {"id": run.run_id, "status": run.status} | {name: getattr(run, name) for name in rows}
    if run.status == "finished":
        said |= {"images_done": run.rows_in, "images": run.rows_in}
    elif run.status == "running" and progress:
        said |= {"images_done": progress.done, "images": progress.images, "images_per_s": round(progress.images_per_s, 1)}
    elif run.status == "running":
        said |= {"status": "failed", "detail": LOST}
    return BulkState(**said)


async def in_a_thread(pieces: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Pieces that take a while to make, each made in one and the same thread: so connections to databases want it."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "pieces") as thread:
        try:
            while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
                yield piece
        finally:
            # Also where the caller hung up.
            thread.submit(pieces.close)


def decisions_csv(store_url: str, run: RunRecord, hidden: str) -> Generator[bytes, None, None]:
    """A run's decisions by listing, CSV in UTF-8, in pieces. `reasons` and `uris` (of the images) are JSON.

    Listings that were unchanged have none of this run. Text that a spreadsheet would take for a formula begins with '.

    Args:
        hidden: a path of the server's that is left out wherever it stands.

    Raises:
        StoreError: the database fails.
    """
    yield _csv([CSV_COLUMNS])
    try:
        engine = create_engine(database_url(store_url))
        try:
            with engine.connect() as decided, engine.connect() as placed:
                for rows in _decisions(decided, run):
                    uris = _uris(placed, run, [row.listing_id for row in rows])
                    yield _csv([[_cell(value, hidden) for value in (*row, json.dumps(uris.get(row.listing_id, [])))] for row in rows])
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        raise StoreError(f"the store {shown_url(store_url)} failed: {' '.join(str(getattr(error, 'orig', None) or error).split())}") from error


def _decisions(connection: Connection, run: RunRecord) -> Iterator[Sequence[Row[Any]]]:
    # All the decisions that there are: so the index of (decision, run_id) serves.
    mine = DECISIONS.c.run_id == run.run_id, DECISIONS.c.decision.in_(("accept", "review", "reject"))
    query = select(*[DECISIONS.c[name] for name in CSV_COLUMNS[:-1]]).where(*mine).order_by(DECISIONS.c.listing_id)
    return connection.execution_options(stream_results=True, yield_per=_ROWS).execute(query).partitions()


def _uris(connection: Connection, run: RunRecord, listing_ids: Sequence[str]) -> dict[str, list[str]]:
    """Of the images of listings, rejected ones too, in the order of their names."""

    def of(table: Any) -> Any:
        return select(table.c.listing_id, table.c.uri).where(
            table.c.listing_id.in_(listing_ids), table.c.bundle_id == run.bundle_id, table.c.run_id == run.run_id
        )

    found: dict[str, list[str]] = {}
    for listing_id, uri in sorted(connection.execute(union_all(of(PREDICTIONS), of(REJECTS)))):
        found.setdefault(listing_id, []).append(uri)
    return found


def _cell(value: Any, hidden: str) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace(f"{hidden.rstrip('/')}/", "")
    return f"'{text}" if _FORMULA.match(text) else text


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8", "replace")
