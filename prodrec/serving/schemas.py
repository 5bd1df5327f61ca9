"""What the API answers, as JSON. docs/api.md explains it to callers."""

import base64
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from prodrec.models.bundle_info import BundleInfo, ClassifierInfo
from prodrec.scoring.decision import Decision
from prodrec.scoring.explain import Method
from prodrec.serving.backend import Explained, Scored

_PHOTO = "path of its reference photo (a small JPEG) on this server; null: there is none"


class ProductOut(BaseModel):
    label: str
    title: str | None = Field(None, description="for people")
    group: str | None
    group_title: str | None = Field(None, description="for people")
    probability: float = Field(ge=0, le=1)
    link: str | None = Field(None, description="to its page in the shop")
    photo: str | None = Field(None, description=_PHOTO)


class TagOut(BaseModel):
    label: str
    title: str | None = Field(None, description="for people")
    score: float
    link: str | None = Field(None, description="to its page in the shop")
    photo: str | None = Field(None, description=_PHOTO)
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels of the upright original")


class QualityOut(BaseModel):
    short_side: int
    aspect: float
    sharpness: float
    brightness: float
    darkness: float
    contrast: float
    blown: float
    blank: float
    border: float
    white_background: float


class ReasonOut(BaseModel):
    code: str
    action: Literal["review", "reject"]
    detail: str
    hint: str


class ExplanationOut(BaseModel):
    label: str
    title: str | None = None
    probability: float
    method: Method
    overlay_png: str = Field(description="the picture with its heat over it, PNG in base64")


class HeatOut(BaseModel):
    label: str
    title: str | None = None
    probability: float
    method: Method
    heat: list[list[float]] = Field(description="a square, rows from the top")
    frame: tuple[float, float, float, float] = Field(description="where it lies in the upright original: x1, y1, x2, y2")
    width: int
    height: int
    bundle_id: str


class Answer(BaseModel):
    sha256: str
    width: int
    height: int
    products: list[ProductOut]
    tags: list[TagOut] | None
    quality: QualityOut
    decision: Literal["accept", "review", "reject"]
    reasons: list[ReasonOut]
    bundle_id: str
    classifier_id: str | None
    tagger_id: str | None
    policy_id: str
    timings_ms: dict[str, float]
    explanation: ExplanationOut | None = None


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None


class BatchResult(BaseModel):
    name: str
    status: int
    answer: Answer | None
    problem: ProblemOut | None


class BatchAnswer(BaseModel):
    results: list[BatchResult]


class ServedBundle(BaseModel):
    id: str
    arch: str
    labels: int | list[str]
    groups: int | list[str]
    input_px: int
    created: str
    metrics: dict[str, Any]
    accepts_from: float | None = Field(None, description="least probability that is accepted; null: not calibrated, or none is enough")


class ServedBundles(BaseModel):
    bundle_id: str
    policy_id: str
    classifier: ServedBundle | None
    tagger: ServedBundle | None


class BulkOut(BaseModel):
    id: str
    status: Literal["running", "finished", "failed", "cancelled"]
    images_done: int
    images: int | None
    images_per_s: float
    rows_in: int | None
    rows_tagged: int | None
    rows_skipped: int | None
    rows_rejected: int | None
    listings: int | None
    accepted: int | None
    reviewed: int | None
    refused: int | None
    started: str | None
    finished: str | None
    detail: str | None
    results: str | None


def photo_path(photo: str | None) -> str | None:
    return photo and f"/v1/photos/{photo}"


def answer_of(scored: Scored, decision: Decision, policy_id: str, top_k: int, with_tags: bool) -> Answer:
    """Of an image that could be used."""
    recognition, served = scored
    assert recognition.quality and recognition.sha256 and recognition.width and recognition.height
    return Answer.model_construct(
        sha256=recognition.sha256,
        width=recognition.width,
        height=recognition.height,
        products=[ProductOut.model_construct(**vars(product) | {"photo": photo_path(product.photo)}) for product in recognition.products[:top_k]],
        tags=[TagOut.model_construct(**vars(tag) | {"photo": photo_path(tag.photo)}) for tag in recognition.tags] if with_tags and served.tagger else None,
        quality=QualityOut.model_construct(**recognition.quality._asdict()),
        decision=decision.decision,
        reasons=[ReasonOut.model_construct(code=r.code, action=r.action, detail=r.detail, hint=r.hint) for r in decision.reasons],
        bundle_id=served.bundle_id,
        classifier_id=served.classifier_id,
        tagger_id=served.tagger_id,
        policy_id=policy_id,
        timings_ms={stage: round(ms, 2) for stage, ms in recognition.timings_ms.items()},
        explanation=None,
    )


def explanation_of(explained: Explained, method: str) -> ExplanationOut:
    heat_map, png = explained.heat_map, base64.b64encode(explained.overlay_png).decode()
    return ExplanationOut.model_construct(label=heat_map.label, title=heat_map.title, probability=heat_map.probability, method=method, overlay_png=png)


def heat_of(explained: Explained, method: str) -> HeatOut:
    heat_map = explained.heat_map
    return HeatOut.model_construct(
        label=heat_map.label,
        title=heat_map.title,
        probability=heat_map.probability,
        method=method,
        heat=heat_map.heat.astype(np.float64).round(4).tolist(),
        frame=heat_map.frame,
        width=heat_map.size[0],
        height=heat_map.size[1],
        bundle_id=explained.bundle_id,
    )


def bundle_of(info: BundleInfo | None, with_names: bool) -> ServedBundle | None:
    if info is None:
        return None
    labels = [label.name for label in info.labels]
    groups = sorted({label.group for label in info.labels if label.group})
    acceptance = info.acceptance if isinstance(info, ClassifierInfo) else None
    return ServedBundle(
        id=info.bundle_id,
        arch=info.model.arch,
        labels=labels if with_names else len(labels),
        groups=groups if with_names else len(groups),
        input_px=info.input.size,
        created=info.created,
        metrics={name: value for name, value in info.metrics.items() if isinstance(value, int | float | str)},
        accepts_from=acceptance.threshold if acceptance else None,
    )
