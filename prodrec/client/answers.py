"""What the server answers, as values. Members that a newer server adds are passed over."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Product:
    """One candidate: its label, its group where it has one, and its calibrated probability.

    Attributes:
        title, group_title: for people; None where there are none.
        link: to its page in the shop.
        photo: of its reference photo, for `Client.photo`.
    """

    label: str
    group: str | None
    probability: float
    title: str | None = None
    group_title: str | None = None
    link: str | None = None
    photo: str | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """One thing on an image: its label, its score (0 to 1, no probability) and its box, xyxy pixels of the upright original.

    Attributes:
        title, link, photo: as of `Product`.
    """

    label: str
    score: float
    box: Box
    title: str | None = None
    link: str | None = None
    photo: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision is not `accept`: what was found and how to mend it; `action` is `review` or `reject`."""

    code: str
    action: str
    detail: str
    hint: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """On which part of the picture the answer rests: `overlay_png` is the picture with its heat over it."""

    label: str
    probability: float
    method: str
    overlay_png: bytes
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one image.

    Attributes:
        sha256: hex, of the bytes. width, height: of the upright original, pixels.
        products: the likeliest first; () without a classifier.
        tags: the best first; None without a tagger, or where none were asked for.
        quality: scores by name.
        decision: `accept`, `review` or `reject`.
        reasons: why it is not `accept`.
        bundle_id: as the tables of the nightly job have it.
        timings_ms: milliseconds by stage.
    """

    sha256: str
    width: int
    height: int
    products: tuple[Product, ...]
    tags: tuple[Tag, ...] | None
    quality: dict[str, float]
    decision: str
    reasons: tuple[Reason, ...]
    bundle_id: str
    classifier_id: str | None
    tagger_id: str | None
    policy_id: str
    timings_ms: dict[str, float]
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The heat behind an explanation.

    Attributes:
        heat: a square, rows from the top. frame: where it lies in the upright original, xyxy pixels.
        width, height: of the upright original, pixels.
    """

    label: str
    probability: float
    method: str
    heat: tuple[tuple[float, ...], ...]
    frame: Box
    width: int
    height: int
    bundle_id: str
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer (RFC 9457): an HTTP status, a code for programs, and what was found, how to mend it for people."""

    status: int
    code: str
    detail: str = ""
    hint: str | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One image of several: an answer, or a problem.

    Attributes:
        name: the path as it was given; of bytes the position, from 0.
        status: as of a request for this image alone.
    """

    name: str
    status: int
    answer: Answer | None
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class BulkRun:
    """One run of the nightly job that was begun over HTTP.

    Attributes:
        status: `running`, `finished`, `failed` (`detail` says why) or `cancelled`.
        images_done, images: so far, and in all where that is known.
        rows_in, rows_tagged, rows_skipped, rows_rejected: of the manifest; rows in = tagged + skipped + rejected. None: not yet known.
        listings, accepted, reviewed, refused: decisions. None: not yet known.
        results: whether and where its decisions lie; `bulk_results` fetches them.
    """

    id: str
    status: str
    images_done: int
    images: int | None
    images_per_s: float | None = None
    rows_in: int | None = None
    rows_tagged: int | None = None
    rows_skipped: int | None = None
    rows_rejected: int | None = None
    listings: int | None = None
    accepted: int | None = None
    reviewed: int | None = None
    refused: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    detail: str | None = None
    results: str | None = None


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """One bundle of the server. `labels` and `groups` are counts, or names where they were asked for."""

    id: str
    arch: str
    labels: int | tuple[str, ...]
    groups: int | tuple[str, ...]
    input_px: int
    created: str
    metrics: dict[str, Any]
    accepts_from: float | None = None


@dataclass(frozen=True, slots=True)
class ServedBundles:
    """What the server scores with; None where there is none."""

    bundle_id: str
    policy_id: str
    classifier: ServedBundle | None
    tagger: ServedBundle | None
