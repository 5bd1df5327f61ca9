"""Whether a bundle takes the place of a registry's current one: both are judged here, on the same val images."""

from typing import NamedTuple

import torch

from prodrec.errors import ShardsError
from prodrec.evaluation.choice import Candidate, Verdict, beats
from prodrec.evaluation.cost import gflops_of, time_all
from prodrec.evaluation.detections import coco_metrics
from prodrec.evaluation.judging import detected, open_judged, predicted
from prodrec.evaluation.summary import LEARNED_ELSEWHERE, LEARNED_VAL
from prodrec.machine import torch_device
from prodrec.models.bundle import Bundle, load_bundle
from prodrec.models.bundle_info import BundleInfo, ClassifierInfo
from prodrec.models.scorer import Scorer
from prodrec.registry.releases import Overtaken, Pointer, Registry, standing, withdrawn
from prodrec.shards.listing_shards import views_shown
from prodrec.shards.reading import Shards, open_shards

# As often, another promotion may come in between while two bundles are judged. Source: assumed.
_TRIES = 3


class Promotion(NamedTuple):
    """What came of it.

    Attributes:
        version: that is current now; None: none is.
    """

    promoted: bool
    version: str | None
    why: str


def promote_if_better(registry: Registry, bundle: str, shards_uri: str, gpu: bool = False) -> Promotion:
    """Promotes a bundle if the rule says so: `choice.PROMOTION_RULE` of a classifier, a higher mAP on val of a tagger.

    Raises:
        BundleError, ShardsError, OutputError, ConfigError: what is wrong with the bundles, the shards or the registry.
        Overtaken: others were promoted meanwhile, more than twice.
    """
    device = torch_device(gpu)
    for left in reversed(range(_TRIES)):
        before = registry.pointer()
        opened, shards = open_judged(bundle, shards_uri, "val", device, registry.kind)
        if before and before.bundle_id == opened.info.bundle_id:
            return Promotion(False, before.version, f"it is the current one already ({standing(before.history)[-1].why})")
        if before:
            verdict = _verdict(opened, load_bundle(registry.place(before.version), device.type, registry.kind), before, shards, device)
        else:
            verdict = _TOO_BOLD if _promises_too_much(opened.info) else _FIRST
        if not verdict.promoted:
            return Promotion(False, before.version if before else None, verdict.why)
        try:
            pointer = registry.promote(bundle, verdict.why, before.version if before else None)
        except Overtaken:
            if not left:
                raise
            continue
        return Promotion(True, pointer.version, verdict.why)
    raise AssertionError("the last try returns or raises")


_FIRST = Verdict(True, "the first of this registry: there is nothing to compare it with")
_TOO_BOLD = Verdict(
    False, "its thresholds were chosen on images that it may have learned from; `prodrec calibrate` it on shards that keep the split (`prepare --keep-split`)"
)


def _promises_too_much(info: BundleInfo) -> bool:
    return isinstance(info, ClassifierInfo) and info.acceptance is not None and info.acceptance.learned_elsewhere and _accepts(info)


def _accepts(info: ClassifierInfo) -> bool:
    return info.acceptance is not None and info.acceptance.accepted > 0


def _verdict(challenger: Bundle, current: Bundle, pointer: Pointer, shards: Shards, device: torch.device) -> Verdict:
    if why := _rolled_back(challenger.info, pointer):
        return Verdict(False, f"a rollback took it away ({why})")
    if _promises_too_much(challenger.info):
        return _TOO_BOLD
    if challenger.info.weights_sha256 == current.info.weights_sha256:
        if isinstance(challenger.info, ClassifierInfo) and challenger.info.acceptance is None:
            return Verdict(False, "the same weights without thresholds to accept by; `prodrec calibrate` it")
        return Verdict(True, "the same weights, with a calibration or thresholds that were chosen anew")
    if challenger.info.model.fuse != current.info.model.fuse and None in (challenger.info.model.fuse, current.info.model.fuse):
        return Verdict(False, "one of the two judges listings and the other single images, and no figure compares them")
    for name, bundle in (("the new one", challenger), ("the current one", current)):
        if not shards.keeps_split_of(bundle.info.learned_from):
            return Verdict(False, f"{name} {LEARNED_ELSEWHERE}")
        if bundle.info.val_learned:
            return Verdict(False, f"{name} {LEARNED_VAL}: val compares it with nothing")
    judge = _tagger_verdict if challenger.info.kind == "tagger" else _classifier_verdict
    return judge(challenger, current, shards, device)


def _rolled_back(challenger: BundleInfo, pointer: Pointer) -> str | None:
    """Why, if a rollback took the challenger away, or its weights: new thresholds do not mend them."""
    found = (one.why for one in withdrawn(pointer.history) if challenger.bundle_id == one.bundle_id or challenger.weights_sha256 == one.weights_sha256)
    return next(found, None)


def _classifier_verdict(challenger: Bundle, current: Bundle, shards: Shards, device: torch.device) -> Verdict:
    scorers = [Scorer(bundle, device) for bundle in (challenger, current)]
    # A label that a bundle does not know is never right.
    hits = [predicted(bundle, shards.relabelled(bundle.info.labels), "val", device).hits for bundle in (challenger, current)]
    views = [views_shown(shards, bundle.info.model.max_views, "val") for bundle in (challenger, current)]
    times, work = time_all(scorers, views), map(gflops_of, (challenger, current), views)
    costs = [(time.image_ms, gflops) for time, gflops in zip(times, work, strict=True)]
    first, second = (Candidate(name, h, *cost) for name, h, cost in zip(("the new one", "the current one"), hits, costs, strict=True))
    verdict = beats(first, second)
    if verdict.promoted and _accepts(current.info) and challenger.info.acceptance is None:
        return Verdict(False, f"it has no thresholds to accept by, which the current one has: `prodrec calibrate` it first; {verdict.why}")
    return verdict


def _tagger_verdict(challenger: Bundle, current: Bundle, shards: Shards, device: torch.device) -> Verdict:
    """There is no test for mAP as simple as McNemar's: the rule is the figure alone, and says so."""
    known = {label.name for label in current.info.labels}
    if strangers := [label.name for label in shards.manifest.labels if label.name not in known]:
        return Verdict(False, f"the current one does not know {len(strangers)} labels of these shards ({', '.join(strangers[:3])}): no figure compares the two")
    found = [detected(bundle, shards.relabelled(bundle.info.labels), "val", device) for bundle in (challenger, current)]
    first, second = (coco_metrics(one.pictures)["map"] or 0.0 for one in found)
    words = "higher" if first > second else "not higher"
    return Verdict(first > second, f"mAP on val is {words}: {first:.4f} against {second:.4f} (the figures alone, without a test of chance)")


def check_val(shards_uri: str) -> None:
    """Raises: ShardsError: there is no val split to choose by."""
    shards = open_shards(shards_uri)
    if not shards.split("val").rows:
        raise ShardsError(f"{shards.uri} has no val images, and choosing by test would spoil its figures; prepare it again with another --split")
