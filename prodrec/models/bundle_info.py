"""`bundle.json`: what a bundle says about itself."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from prodrec.config import SHORT_SIDE_PX, Frozen, ModelConfig, PositiveInt, PreprocessSpec, explain_validation
from prodrec.errors import BundleError
from prodrec.labels import Label
from prodrec.version import code_version

SCHEMA_VERSION = 1
# Fields that the first bundles did not have.
_LATER = {"val_learned", "teacher", "learned_elsewhere", "carried_over"}
COPY_AGAIN = "copy the bundle again from where it was trained"


def _without_later(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value or name not in _LATER}


def now_utc() -> str:
    """The time, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class BundleInfo(Frozen):
    """Everything about a bundle but its weights.

    Attributes:
        model: the architecture; its `weights` tell what training started from and are not needed again.
        input: how an image becomes a model input.
        labels: by label id.
        metrics: of the final evaluation (fractions).
        recipe: the whole recipe as trained.
        data_manifest_sha256: of the prepared data set trained on.
        learned_before: the same of what the bundles that it went on from, or whose answers it learned from, had learned from.
        val_learned: images of val were learned from as well (a refit, or a bundle of one that it went on from): val judges it no more.
        teacher: bundle_id of the one whose answers it learned from; None: there was none.
        short_side: of that data set, pixels: images are shrunk to it before they become model inputs.
        code_version: that trained it.
        created: UTC, ISO 8601.
        weights_sha256: of model.safetensors, hex; `write_bundle` fills it in.
    """

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    kind: Literal["classifier", "tagger"]
    model: ModelConfig
    input: PreprocessSpec
    labels: Annotated[list[Label], Field(min_length=1)]
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    data_manifest_sha256: str
    learned_before: list[str] = []
    val_learned: bool = False
    teacher: str | None = None
    short_side: PositiveInt = SHORT_SIDE_PX
    code_version: str = Field(default_factory=code_version)
    created: str = Field(default_factory=now_utc)
    weights_sha256: str = ""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What bundles lacked at first stands in those only that have it: else each that is older would get another id."""
        return _without_later(dump(self))

    @property
    def learned_from(self) -> list[str]:
        """Hashes of the manifests of all data that the weights know."""
        return [self.data_manifest_sha256, *self.learned_before]

    @property
    def bundle_id(self) -> str:
        """16 hex digits of the hash of all of this: weights, labels, thresholds, preprocessing."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Acceptance(Frozen):
    """From which probability on a product is accepted without a person looking: `prodrec calibrate`.

    Attributes:
        target_precision: share of the accepted that are right, promised with probability `confidence`.
        threshold: least probability; None: no threshold keeps the promise.
        class_thresholds: stricter ones, of labels that were predicted often enough to need one of their own; None: never accepted.
        energy_limit: an image with more energy shows no product that is known.
        split, n: the rows that it was chosen on.
        accepted: how many of those would be accepted, and `right` of these.
        accepted_share, precision: of those rows, with their 95 % intervals.
        learned_elsewhere: the model may have learned from those rows, in other shards: then the promise is not one to rely on.
        carried_over: why they are those of the run before, which this one refits: the promise is that one's; "": they are its own.
    """

    target_precision: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    threshold: float | None
    class_thresholds: dict[str, float | None]
    energy_limit: float
    split: str
    n: int
    accepted: int
    right: int
    accepted_share_ci95: tuple[float, float]
    precision_ci95: tuple[float, float]
    data_manifest_sha256: str
    learned_elsewhere: bool = False
    carried_over: str = ""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As before there was a doubt to tell: else each bundle that was calibrated earlier would be another one."""
        return _without_later(dump(self))

    def threshold_of(self, label: str) -> float | None:
        """Least probability at which a label is accepted; None: never."""
        return self.class_thresholds.get(label, self.threshold)


class ClassifierInfo(BundleInfo):
    """Of a bundle that names the product on an image.

    Attributes:
        acceptance: None until `prodrec calibrate` has chosen it.
        temperature: logits are divided by it before the softmax.
        train_counts: [labels], training images of each.
        embedding_dim: E of its embeddings; None where its head has none.
    """

    kind: Literal["classifier"] = "classifier"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    train_counts: list[int]
    acceptance: Acceptance | None = None
    embedding_dim: PositiveInt | None = None


class TaggerInfo(BundleInfo):
    """Of a bundle that finds tags with boxes on an image.

    Attributes:
        thresholds: [labels], a box with a lower score is no tag.
        train_boxes: [labels], boxes of each that were trained on.
    """

    kind: Literal["tagger"] = "tagger"
    thresholds: list[Annotated[float, Field(ge=0, le=1)]]
    train_boxes: list[int]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.thresholds) == len(self.train_boxes) == len(self.labels):
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.thresholds)} thresholds and {len(self.train_boxes)} counts of boxes; expected equal numbers"
            )
        return self


def joined_id(*infos: "BundleInfo | None") -> str:
    """One id of the bundles that answer together, in the order classifier, tagger."""
    return "+".join(info.bundle_id for info in infos if info)


INFOS: dict[str, type[BundleInfo]] = {"classifier": ClassifierInfo, "tagger": TaggerInfo}


def parse_info(data: bytes, where: str, kind: str | None = None) -> BundleInfo:
    """Checks the content of a bundle.json; `where` names it in errors.

    Args:
        kind: that is expected; None: any.

    Raises:
        BundleError: no JSON object, another schema version or kind, a missing or unknown key, a value out of range.
    """
    try:
        tree = json.loads(data)
    except ValueError as error:
        raise BundleError(f"{where} is not JSON: {error}; {COPY_AGAIN}") from error
    if not isinstance(tree, dict):
        raise BundleError(f"{where} holds no bundle: expected an object; {COPY_AGAIN}")
    version, found = tree.get("schema_version"), tree.get("kind")
    if version != SCHEMA_VERSION:
        raise BundleError(f"{where} has schema version {version}, this prodrec reads {SCHEMA_VERSION}; use the prodrec that wrote it or train again")
    if found not in INFOS or found != (kind or found):
        expected = kind or " or ".join(INFOS)
        raise BundleError(f"{where} is a bundle of kind '{found}', expected {expected}; give a {expected}'s bundle")
    try:
        return INFOS[found].model_validate(tree)
    except ValidationError as error:
        raise BundleError(f"{where}: {explain_validation(error, INFOS[found])}; {COPY_AGAIN}") from error
