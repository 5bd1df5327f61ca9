"""Bulk runs over HTTP: what they may read, how far they are, and their decisions as CSV.

Not covered: starting, watching and ending them, which is Ray's (prodrec.cluster.bulk_runs).
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from prodrec.catalog import RunRecord, shown_url
from prodrec.catalog.urls import FOLDER_SCHEMES, is_folder
from prodrec.config import Frozen, PositiveInt
from prodrec.errors import Reject, RejectCode, SourceError
from prodrec.files import Folder
from prodrec.scoring.fetch import FetchLimits
from prodrec.sources.image_bytes import lies_below

# Of a run that is called running, and is not: its process, its machine or the cluster was lost.
LOST = "it ended without a word; send the same manifest again: what is written stays"
# What `check_manifest` gives.
SENT = re.compile(r"[0-9a-f]{64}\.(csv|tsv|parquet)")
# A packed one could be any size once it is unpacked.
_SUFFIXES = (".csv", ".tsv", ".parquet")
_PARQUET_MAGIC = b"PAR1"


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
        suffixes = [suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)] or [".parquet"] * manifest.startswith(_PARQUET_MAGIC)
        if not suffixes:
            raise SourceError(f"{name or 'the file'} is no manifest: its name must end in {', '.join(_SUFFIXES)}")
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
        skipped = f"{run.rows_skipped:,} images were known already: decisions on them are in the results of the run before" if run.rows_skipped else None
        said |= {
            "images_done": run.rows_in,
            "images": run.rows_in,
            "detail": "; ".join(filter(None, [run.detail, skipped])) or None,
            "images_per_s": _rate(run),
        }
    elif run.status == "running" and progress:
        said |= {"images_done": progress.done, "images": progress.images, "images_per_s": round(progress.images_per_s, 1)}
    elif run.status == "running":
        said |= {"status": "failed", "detail": LOST}
    return BulkState(**said)


def _rate(run: RunRecord) -> float:
    """Images a second of a finished run, its start included."""
    took_s = (datetime.fromisoformat(run.finished) - datetime.fromisoformat(run.started)).total_seconds() if run.finished else 0.0
    return round((run.rows_in or 0) / took_s, 2) if took_s > 0 else 0.0


async def in_a_thread(pieces: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Pieces that take a while to make, each made in one and the same thread: so connections to databases want it."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "pieces")
    try:
        while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
            yield piece
    finally:
        # Also where the caller hung up; nobody waits for the piece that is being made.
        thread.submit(pieces.close)
        thread.shutdown(wait=False)
