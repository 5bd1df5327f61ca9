"""Bulk runs over HTTP: settings and state."""

from dataclasses import dataclass
from typing import Literal

from prodrec.config import Frozen


class BulkSettings(Frozen):
    """Where bulk runs write and what they may read."""

    store: str


@dataclass(frozen=True)
class BulkState:
    """One run."""

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
