"""What a shop wants a person to look at: a YAML file, all keys of which have defaults."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from prodrec.config import Frozen, explain_validation
from prodrec.errors import ConfigError
from prodrec.images.quality_scores import QualityLimits

Action = Literal["off", "review", "reject"]


class Rule(Frozen):
    """One rule on the quality of a photo: what is done where its score is beyond the limit."""

    action: Action = "review"
    limit: Annotated[float, Field(ge=0, allow_inf_nan=False)]


_LIMITS = QualityLimits()


class PhotoRules(Frozen):
    """Rules on the scores of a photo; the limits are those of `prodrec.images.quality.QualityLimits`.

    `overexposed` and `wide_border` pass photos on a white background, which is white itself and may end as straight as a band.
    """

    too_small: Rule = Rule(limit=_LIMITS.min_short_side)
    long_side: Rule = Rule(limit=_LIMITS.max_aspect)
    blurred: Rule = Rule(limit=_LIMITS.min_sharpness)
    too_dark: Rule = Rule(limit=_LIMITS.max_darkness)
    overexposed: Rule = Rule(limit=_LIMITS.max_blown)
    low_contrast: Rule = Rule(limit=_LIMITS.min_contrast)
    blank: Rule = Rule(limit=_LIMITS.max_blank, action="reject")
    wide_border: Rule = Rule(limit=_LIMITS.max_border)
    background_not_white: Rule = Rule(limit=_LIMITS.min_white_background, action="off")

    @model_validator(mode="before")
    @classmethod
    def _merge(cls, tree: Any) -> Any:
        """`blurred: {action: off}` keeps the default limit."""
        if not isinstance(tree, dict):
            return tree
        return {
            name: cls.model_fields[name].default.model_dump() | rule if name in cls.model_fields and isinstance(rule, dict) else rule
            for name, rule in tree.items()
        }


class Policy(Frozen):
    """What is done with a listing for each reason; `off` lets it pass.

    Attributes:
        unsure: the product's probability is under the threshold that `prodrec calibrate` chose.
        unknown_product: the image is stranger to the classifier than nearly all that it knows.
        category_mismatch: the seller's category is neither the product nor its group.
        images_disagree: another image of the listing surely shows another product.
        bad_image: an image cannot be used, and others of the listing can.
        nothing_found: the tagger finds no tag.
        several_products: the tagger finds more than `most_products`.
        categories: the seller's name of a category to a label or group of the bundle.
    """

    unsure: Action = "review"
    unknown_product: Action = "review"
    category_mismatch: Action = "review"
    images_disagree: Action = "review"
    bad_image: Action = "review"
    nothing_found: Action = "off"
    several_products: Action = "off"
    most_products: Annotated[int, Field(ge=1)] = 1
    categories: dict[str, str] = {}
    photo: PhotoRules = PhotoRules()

    @property
    def policy_id(self) -> str:
        """16 hex digits of the hash of all of this."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


def load_policy(path: str | None) -> Policy:
    """Reads a policy; None: the defaults.

    Raises:
        ConfigError: it cannot be read, is no YAML mapping, or has an unknown key or a value out of range.
    """
    if path is None:
        return Policy()
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the policy {path}: {error.strerror}; give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policy {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no policy: expected a mapping with the keys {', '.join(Policy.model_fields)}")
    try:
        return Policy.model_validate(_with_words(tree))
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain_validation(error, Policy)}") from error


def _with_words(tree: Any) -> Any:
    """YAML 1.1 reads the word `off` as false."""
    if isinstance(tree, dict):
        return {name: _with_words(value) for name, value in tree.items()}
    return "off" if tree is False else tree
