"""Accept, review or reject: a pure function of what was recognised, what the seller declared, and a policy.

A listing with several images gets one decision. Its product is that of its surest usable image. It is rejected if no image can
be used, each by its own fault, or a rule of the policy rejects it, accepted if there is no reason against it, and else a person looks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from prodrec.errors import RejectCode
from prodrec.images.quality_scores import Quality, QualityLimits
from prodrec.labels import shown
from prodrec.models.bundle_info import Acceptance, ClassifierInfo, TaggerInfo
from prodrec.scoring.policy import Action, PhotoRules, Policy
from prodrec.scoring.recognition import Product, Recognition

ACCEPT: Final = "accept"
REVIEW: Final = "review"
REJECT: Final = "reject"
# A photo of which so much of the rim is white is one on a white background, whatever a policy asks for.
ON_WHITE = QualityLimits().min_white_background


# What may be the network's or the operator's fault rejects no listing.
_NOT_THE_SELLERS = {code.value for code in (RejectCode.NOT_ALLOWED, RejectCode.FETCH_FAILED, RejectCode.FETCH_TIMEOUT, RejectCode.TOO_SLOW, RejectCode.CRASHED)}


@dataclass(frozen=True)
class Reason:
    """Why a listing is not accepted.

    Attributes:
        code: a key of the policy, `not_calibrated`, `part_of_listing`, or the reject code of an image.
        action: `review` or `reject`.
        detail: what was found; hint: how to mend it.
        image: number of the image in the listing, from 0; None where it is about the listing.
    """

    code: str
    action: Action
    detail: str
    hint: str
    image: int | None = None


@dataclass(frozen=True)
class Decision:
    """One listing's decision; `product` is None where no image can be used or there is no classifier."""

    decision: str
    product: Product | None
    reasons: tuple[Reason, ...]


class _Check(NamedTuple):
    """A photo rule: which score, whether more or less of it is bad, and what to tell a person."""

    score: Callable[[Quality], float]
    bad_above: bool
    detail: str
    hint: str
    also_on_white: bool = True


_PHOTO_CHECKS: dict[str, _Check] = {
    "too_small": _Check(lambda q: q.short_side, False, "the short side has {score:.0f} pixels", "send a larger photo"),
    "long_side": _Check(lambda q: q.aspect, True, "one side is {score:.1f} times the other", "crop the photo around the product"),
    "blurred": _Check(lambda q: q.sharpness, False, "sharpness {score:.2f}", "hold the camera still and focus on the product"),
    "too_dark": _Check(lambda q: q.darkness, True, "its lights are {score:.0%} below white", "photograph it in more light"),
    "overexposed": _Check(lambda q: q.blown, True, "{score:.0%} of it is blown out", "photograph it in less light", also_on_white=False),
    "low_contrast": _Check(lambda q: q.contrast, False, "contrast {score:.2f}", "clean the lens, and avoid haze and glare"),
    "blank": _Check(lambda q: q.blank, True, "{score:.0%} of it is one flat colour", "send a photo that shows the product"),
    "wide_border": _Check(lambda q: q.border, True, "{score:.0%} of it is border", "crop the border away", also_on_white=False),
    "background_not_white": _Check(lambda q: q.white_background, False, "{score:.0%} of the rim is white", "photograph it on a white background"),
}
assert _PHOTO_CHECKS.keys() == PhotoRules.model_fields.keys()


class Decider:
    """Decides for the answers of one pair of bundles by one policy."""

    def __init__(self, classifier: ClassifierInfo | None, tagger: TaggerInfo | None, policy: Policy) -> None:
        self.policy, self.has_tagger = policy, tagger is not None
        self.acceptance: Acceptance | None = classifier.acceptance if classifier else None
        self.has_classifier, self.fuses = classifier is not None, classifier is not None and classifier.model.fuse is not None
        rules = [(code, check, getattr(policy.photo, code)) for code, check in _PHOTO_CHECKS.items()]
        self.checks = [(code, check, rule) for code, check, rule in rules if rule.action != "off"]
        self.categories = {_plain(theirs): ours for theirs, ours in policy.categories.items()}

    def decide(self, images: Sequence[Recognition], category: str | None = None, is_whole: bool = True) -> Decision:
        """One decision for the images of a listing.

        Args:
            images: at least one.
            category: that the seller declared.
            is_whole: whether these are all images of the listing: the thresholds of a classifier that fuses views hold for no less.
        """
        usable = [(number, image) for number, image in enumerate(images) if not image.code]
        bad = [(number, image) for number, image in enumerate(images) if image.code]
        # An image that the network kept away might have been a good one.
        alone: Action = REVIEW if any(image.code in _NOT_THE_SELLERS for _, image in bad) else REJECT
        reasons = [_unusable(number, image, self.policy.bad_image if usable else alone) for number, image in bad]
        product = None
        if usable:
            reasons += [reason for number, image in usable for reason in self._photo_reasons(number, image)]
            if self.has_classifier:
                number, surest = max(usable, key=lambda item: item[1].products[0].probability)
                product = surest.products[0]
                # What is seen in all views together is about the listing.
                reasons += self._product_reasons(None if self.fuses else number, surest, product, category)
                reasons += self._disagreements(usable, number, product)
                if self.fuses and not is_whole:
                    reasons.append(Reason("part_of_listing", REVIEW, "the classifier was judged on whole listings", "tag it with its other images in bulk"))
        told = tuple(reason for reason in reasons if reason.action != "off")
        return Decision(_decision(told), product, told)

    def _product_reasons(self, number: int | None, image: Recognition, product: Product, category: str | None) -> Iterator[Reason]:
        policy = self.policy
        if self.acceptance is None:
            yield Reason("not_calibrated", REVIEW, "the classifier's bundle has no threshold yet", "prodrec calibrate BUNDLE SHARDS")
            return
        # Written so that what is not a number is never accepted.
        if image.energy is None or not image.energy <= self.acceptance.energy_limit:
            energy = "unknown" if image.energy is None else f"{image.energy:.3f}"
            detail = f"energy {energy}, known products have at most {self.acceptance.energy_limit:.3f}"
            yield Reason("unknown_product", policy.unknown_product, detail, "is it a product that the classifier was not trained on?", number)
        least = self.acceptance.threshold_of(product.label)
        if least is None or not product.probability >= least:
            needed = "no probability is enough for this product" if least is None else f"{least:.1%} is needed"
            yield Reason("unsure", policy.unsure, f"{product.shown} with {product.probability:.1%}, {needed}", "say which product it is", number)
        if category and category.strip() and not _is_of(product, self.categories.get(_plain(category), category)):
            detail = f"declared {category}, it looks like {product.shown}" + (f" of {shown(product.group, product.group_title)}" if product.group else "")
            yield Reason("category_mismatch", policy.category_mismatch, detail, "check the category", number)

    def _disagreements(self, usable: Sequence[tuple[int, Recognition]], surest: int, product: Product) -> Iterator[Reason]:
        for number, image in usable:
            other = image.products[0]
            if number != surest and other.label != product.label and self._is_sure(image):
                detail = f"image {number + 1} shows {other.shown} with {other.probability:.1%}, image {surest + 1} {product.shown}"
                yield Reason("images_disagree", self.policy.images_disagree, detail, "do all photos show one product?", number)

    def _is_sure(self, image: Recognition) -> bool:
        if self.acceptance is None or image.energy is None or not image.energy <= self.acceptance.energy_limit:
            return False
        least = self.acceptance.threshold_of(image.products[0].label)
        return least is not None and image.products[0].probability >= least

    def _photo_reasons(self, number: int, image: Recognition) -> Iterator[Reason]:
        assert image.quality is not None
        for code, check, rule in self.checks:
            score = float(check.score(image.quality))
            is_good = score <= rule.limit if check.bad_above else score >= rule.limit
            if not is_good and (check.also_on_white or image.quality.white_background < ON_WHITE):
                yield Reason(code, rule.action, f"{check.detail.format(score=score)}, the limit is {rule.limit:g}", check.hint, number)
        if self.has_tagger and not image.tags:
            yield Reason("nothing_found", self.policy.nothing_found, "no tag is found on it", "send a photo that shows the product", number)
        if len(image.tags) > self.policy.most_products:
            detail = f"{len(image.tags)} things are found, {self.policy.most_products} at most are expected"
            yield Reason("several_products", self.policy.several_products, detail, "show one product alone", number)


def _unusable(number: int, image: Recognition, action: Action) -> Reason:
    ours = image.code in _NOT_THE_SELLERS
    hint = "check the network, the allowed hosts and the limits, and tag it again" if ours else "send another photo"
    return Reason(image.code or "", action, image.detail or "", hint, number)


def _decision(reasons: Sequence[Reason]) -> str:
    actions = {reason.action for reason in reasons}
    return REJECT if REJECT in actions else REVIEW if actions else ACCEPT


def _is_of(product: Product, category: str) -> bool:
    return _plain(category) in {_plain(name) for name in (product.label, product.group, product.title, product.group_title) if name}


def _plain(name: str) -> str:
    return name.strip().casefold()
