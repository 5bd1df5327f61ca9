"""The images of listings, fetched for scoring: what is known to be unchanged is left out. Runs on nodes beside the scoring, without torch.

A block of Ray Data holds whole listings, a row each, so that nothing separates the images of one.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

import pyarrow as pa

from prodrec.catalog import Known, Store, open_store, storable_id
from prodrec.config import Frozen
from prodrec.errors import Reject, RejectCode, shown_url
from prodrec.images.formats import ImageLimits
from prodrec.scoring.fetch import Fetcher, FetchLimits
from prodrec.sources.image_bytes import lies_below, read_images
from prodrec.sources.listings import DECLARED
from prodrec.sources.spelling import as_spelled

# Of a listing on its way: tagged before and unchanged, or tagged by this very run; images to score; or out of reach tonight.
SKIPPED, DONE, TO_DO, KEPT = "skipped", "done", "to_do", "kept"
# What may be otherwise tomorrow.
_PASSING = {RejectCode.FETCH_FAILED.value, RejectCode.FETCH_TIMEOUT.value}
_REFUSED = Reject(RejectCode.NOT_ALLOWED, "credentials or settings of an object store in the URI of an image")
_OUTSIDE = Reject(RejectCode.NOT_ALLOWED, "neither on the web nor in a folder that images may be read from")

_FETCHED = pa.schema(
    [
        ("listing_id", pa.string()),
        *((name, pa.float64() if name == "price" else pa.string()) for name in DECLARED),
        ("state", pa.string()),
        ("input_sha256", pa.string()),
        ("content_sha256", pa.string()),
        ("known", pa.list_(pa.int32(), 2)),  # of DONE and KEPT: images tagged, rejected
        ("decision", pa.string()),  # of DONE
        ("uri", pa.list_(pa.string())),
        ("image", pa.list_(pa.large_binary())),  # null where it could not be had
        ("sha256", pa.list_(pa.string())),
        ("code", pa.list_(pa.string())),
        ("detail", pa.list_(pa.string())),
    ]
)


class TagPlan(Frozen):
    """Everything that a worker must know of a run; small and picklable.

    Attributes:
        policy: JSON.
        trusted: the input's URI, whose credentials its images may be read with.
        within: folders that images may be read from, beside the web and the input itself; None: from anywhere.
        store_url: None: nothing is looked up or written (a dry run).
        time_limit_s: of decoding one image, on one core.
    """

    run_id: str
    bundle_id: str
    classifier: str | None
    tagger: str | None
    policy: str
    policy_id: str
    store_url: str | None
    trusted: str = ""
    within: tuple[str, ...] | None = None
    fetch: FetchLimits = FetchLimits()
    gpu: bool = False
    time_limit_s: float


class _Image(NamedTuple):
    """One image that was read, or why it was not."""

    data: bytes | None
    sha256: str | None
    code: str | None
    detail: str | None


def fetch_listings(plan: TagPlan, listings: pa.Table) -> pa.Table:
    """Reads the images of listings that are not known to be unchanged.

    One table comes out, whatever is known by now: where a node is lost, Ray runs this again, and takes what came out before and
    what comes out now for the same.

    Args:
        listings: as `prodrec.sources.listings.Listings.table`.

    Returns:
        Of the schema _FETCHED, a row a listing.
    """
    rows = listings.to_pylist()
    refused = [_refused_id(row) for row in rows]
    store = worker_store(plan.store_url, plan.run_id)
    known = store.known([row["listing_id"] for row in rows]) if store else {}
    inputs = [json_sha256([row[name] for name in listings.column_names]) for row in rows]
    done = [_is_done(plan, known.get(row["listing_id"]), sha256) for row, sha256 in zip(rows, inputs, strict=True)]
    images = _read([row for row, finished, bad in zip(rows, done, refused, strict=True) if not finished and not bad], plan)
    fetched: list[dict[str, Any]] = []
    for row, sha256, finished, bad in zip(rows, inputs, done, refused, strict=True):
        said = {name: row[name] for name in ("listing_id", *DECLARED)} | {"input_sha256": sha256, "uri": _shown_uris(row)}
        before = known.get(row["listing_id"])
        if finished:
            assert before is not None
            fetched.append(said | {"state": DONE, "known": [before.images_tagged, before.images_rejected], "decision": before.decision})
        else:
            fetched.append(said | _to_do(plan, before, row, sha256, [bad or next(images) for _ in row["uri"]]))
    return pa.Table.from_pylist(fetched, _FETCHED)


def _refused_id(row: dict[str, Any]) -> _Image | None:
    """Why a listing's id cannot be stored, in place of each of its images; it goes on under one that can."""
    row["listing_id"], wrong = storable_id(row["listing_id"])
    return _Image(None, None, RejectCode.BAD_LISTING_ID.value, wrong) if wrong else None


def _shown_uris(row: dict[str, Any]) -> list[str]:
    """What the store is told of where each image is: of embedded ones the place in their file, of none a secret."""
    places = zip(row["uri"], row["row_group"], row["row"], strict=True)
    return [shown_url(uri or "") + ("" if group is None else f"#{group}#{number}") for uri, group, number in places]


def _is_done(plan: TagPlan, known: Known | None, input_sha256: str) -> bool:
    """Whether this very run has tagged the listing, before it was stopped."""
    this_run = (plan.run_id, plan.bundle_id, plan.policy_id, input_sha256)
    return known is not None and (known.run_id, known.bundle_id, known.policy_id, known.input_sha256) == this_run


def _to_do(plan: TagPlan, known: Known | None, row: dict[str, Any], input_sha256: str, images: Sequence[_Image]) -> dict[str, Any]:
    """What is to be done with a listing. What is out of reach tonight does not undo what this bundle and policy said of it."""
    content = json_sha256([[row[name] for name in DECLARED], [image.sha256 or image.code for image in images]])
    unreached = sum(image.code in _PASSING for image in images)
    if known is not None and (known.bundle_id, known.policy_id) == (plan.bundle_id, plan.policy_id):
        unchanged = known.content_sha256 == content
        # Before "unchanged": a listing that was out of reach last night too still counts as rejected.
        if unreached and (unchanged or (known.input_sha256 == input_sha256 and known.images_tagged)):
            return {"state": KEPT, "known": [0, unreached]}
        if unchanged:
            return {"state": SKIPPED, "content_sha256": content}
    columns = {"image": "data", "sha256": "sha256", "code": "code", "detail": "detail"}
    return {"state": TO_DO, "content_sha256": content} | {column: [getattr(image, name) for image in images] for column, name in columns.items()}


def _read(listings: Sequence[dict[str, Any]], plan: TagPlan) -> Iterator[_Image]:
    """All images of listings, in order: those of the web side by side, the others as they stand."""
    places = [place for listing in listings for place in zip(listing["uri"], listing["row_group"], listing["row"], strict=True)]
    if plan.within is not None:  # what is looked at must be what is read
        places = [(uri if group is not None or not uri else _on_disk(uri), group, row) for uri, group, row in places]
    kinds = [_kind(uri or "", group is not None, plan) for uri, group, _ in places]
    web = _fetcher(plan.fetch.model_dump_json()).fetch_all([uri for (uri, _, _), kind in zip(places, kinds, strict=True) if kind == "web"])
    others = [place for place, kind in zip(places, kinds, strict=True) if kind == "other"]
    columns = zip(*others, strict=True) if others else ((), (), ())
    types = (pa.string(), pa.int32(), pa.int32())
    table = pa.table([pa.array(values, kind) for values, kind in zip(columns, types, strict=True)], ["uri", "row_group", "row"])
    found = {"web": web, "other": read_images(table, ImageLimits().max_bytes), "refused": repeat(_REFUSED), "outside": repeat(_OUTSIDE)}
    for kind in kinds:
        image = next(found[kind])
        if isinstance(image, Reject):
            yield _Image(None, None, image.code.value, shown_url(image.detail))
        else:
            yield _Image(image, hashlib.sha256(image).hexdigest(), None, None)


def _kind(uri: str, embedded: bool, plan: TagPlan) -> str:
    """A URI with credentials or settings of an object store would have us ask any server: only the input itself, and the folders
    that the plan names, may have them."""
    if uri.lower().startswith(("http://", "https://")):
        return "web"
    if plan.within is not None:
        return "other" if not uri or (embedded and uri == plan.trusted) or lies_below(uri, plan.within) else "outside"
    return "refused" if "://" in uri and _access(uri) not in (("", ""), _access(plan.trusted)) else "other"


def _on_disk(uri: str) -> str:
    """A local path that is there, as the disk spells it."""
    return uri if not uri.startswith("/") or os.path.lexists(uri) else as_spelled(uri) or uri


def _access(uri: str) -> tuple[str, str]:
    """User and query of a URI."""
    head, _, query = uri.partition("?")
    netloc = head.partition("://")[2].partition("/")[0]
    return netloc.rpartition("@")[0], query


def json_sha256(value: Any) -> str:
    """sha256 of a value's JSON; lone surrogates of broken text are escaped."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@lru_cache(maxsize=1)
def worker_store(url: str | None, run_id: str) -> Store | None:
    """One connection a process and run: Ray uses a process for the next run again, and Parquet files are looked through once."""
    return open_store(url) if url else None


@lru_cache(maxsize=1)
def _fetcher(limits: str) -> Fetcher:
    """Its connections are used again by the next listings of the process."""
    return Fetcher(FetchLimits.model_validate_json(limits))
