"""Judging finished runs side by side: compare.json, and the page that says which to ship and why.

Every run is judged on the same rows of val and test. Val chooses (`prodrec.evaluation.choice`), test is told.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import torch

from prodrec.errors import ProdrecError, ShardsError
from prodrec.evaluation.choice import PROMOTION_RULE, RULE, Candidate, Choice, choose, explained, holm, paired
from prodrec.evaluation.cost import machine_facts, size_of, time_all
from prodrec.evaluation.judging import open_judged, predicted
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.summary import describe, headline
from prodrec.files import Folder
from prodrec.machine import torch_device
from prodrec.models.bundle import Bundle
from prodrec.models.bundle_files import load_info
from prodrec.models.bundle_info import ClassifierInfo, now_utc
from prodrec.models.scorer import Scorer
from prodrec.registry.promotion import promote_if_better
from prodrec.registry.releases import Registry
from prodrec.reports.compare_page import write_compare_page
from prodrec.shards.listing_shards import by_listing, views_shown
from prodrec.shards.reading import Shards, open_shards
from prodrec.version import code_sha256

_JUDGED = ("val", "test")
_JSON = "compare.json"


class FinishedRun(NamedTuple):
    """What a run left.

    Attributes:
        bundle: its folder.
        history: RUN/metrics.jsonl.
        train: metrics on the train split, as the run itself judged them.
    """

    name: str
    bundle: str
    history: list[dict[str, Any]]
    train: dict[str, Any] | None


@dataclass(frozen=True)
class _Judged:
    """A run with what its bundle says of each split.

    Attributes:
        train_counts: images of each label here that the run was trained on, whatever the bundle learned from before.
        part: images (or listings) that it was trained on where its recipe allowed fewer than there are; else None.
        views: pictures that it sees of an image, on average.
    """

    run: FinishedRun
    bundle: Bundle
    scorer: Scorer
    predictions: Mapping[str, Predictions]
    train_counts: list[int]
    part: int | None
    views: float


def compare(
    runs: list[FinishedRun], failures: Mapping[str, str], shards_uri: str, out_uri: str, launcher: str, registry: str | None = None, gpu: bool = False
) -> dict[str, Any]:
    """Judges runs and writes OUT/compare.json and OUT/index.html.

    Args:
        failures: reasons of the runs that did not finish, by name.
        launcher: `local` or `ray`: whether runs may have shared a machine while they trained.
        registry: folder to which the recommended bundle is promoted if it beats the current one; None: no promotion.

    Returns:
        What compare.json holds.

    Raises:
        ShardsError, OutputError, BundleError: what is wrong with the shards, the place for the output, or the registry's bundle.
        ConfigError: a GPU is asked for and there is none.
    """
    device, shards, out = torch_device(gpu), open_shards(shards_uri), Folder(out_uri).make()
    before = _found_before(runs, shards, device, out)
    found = (before or _judge_all(runs, shards, device)) | {"judged_before": before is not None}
    found["failed"] = [{"name": name, "reason": reason} for name, reason in (found.pop("refused") | failures).items()]
    found |= {"launcher": launcher, "shards": shards.uri, "promotion": None}
    _write(out, found)  # first, so that a registry that cannot be written costs no page
    if registry and found["recommended"]:
        promotion = promote_if_better(Registry(registry), found["recommended_bundle"], shards.uri, gpu)
        found["promotion"] = promotion._asdict() | {"registry": registry, "rule": PROMOTION_RULE}
        _write(out, found)
    return found


def _judge_all(runs: list[FinishedRun], shards: Shards, device: torch.device) -> dict[str, Any]:
    """What the comparison rests on; `refused` has the reasons of runs that cannot be judged, by name."""
    judged, refused = [], {}
    for run in runs:
        try:
            judged.append(_judge(run, shards, device))
        except ProdrecError as error:
            refused[run.name] = " ".join(str(error).split())
    found = _compared(judged, shards, device) if judged else {"runs": [], "tests": [], "leader": None, "recommended": None, "reason": _NOTHING}
    return found | {"refused": refused, "rule": RULE, "data": describe(shards), "measured_on": machine_facts(device), "judged": now_utc()} | _origin(shards)


def _found_before(runs: list[FinishedRun], shards: Shards, device: torch.device, out: Folder) -> dict[str, Any] | None:
    """What an earlier call found of the same bundles: times taken anew differ a little, and could recommend another one than was looked at."""
    try:
        found: dict[str, Any] = json.loads(out.read(_JSON))
        same = {(row["bundle"], row["bundle_id"]) for row in found["runs"]} == {(run.bundle, load_info(run.bundle).bundle_id) for run in runs}
        same = same and found["measured_on"] == machine_facts(device) and found | _origin(shards) == found
        return found | {"refused": {}} if same and runs else None
    except (OSError, ValueError, KeyError, TypeError, ProdrecError):  # none, or one of another shape
        return None


def _origin(shards: Shards) -> dict[str, Any]:
    return {"data_manifest_sha256": shards.manifest_sha256, "code_sha256": code_sha256()}


def _write(out: Folder, found: dict[str, Any]) -> None:
    out.write(_JSON, json.dumps(found, indent=1).encode())
    write_compare_page(out, found)


_NOTHING = "no run finished"
_NO_VAL = "The shards have no val images, and choosing by test would spoil its figures: prepare them again with another --split."


def _judge(run: FinishedRun, images: Shards, device: torch.device) -> _Judged:
    splits = [split for split in _JUDGED if images.split(split).rows]
    bundle, shards = open_judged(run.bundle, images.uri, splits[0], device, "classifier")
    if bundle.info.data_manifest_sha256 != shards.manifest_sha256:
        raise ShardsError(f"it was trained on other shards than lie in {shards.uri} now, and may have learned from images judged here; choose another --out")
    own = shards.relabelled(bundle.info.labels)
    predictions = {split: predicted(bundle, own, split, device) for split in splits}
    views = views_shown(shards, bundle.info.model.max_views, splits[0])
    counts = _train_counts(bundle.info, images)
    part = sum(counts) if sum(counts) < shards.split("train").rows else None
    return _Judged(run, bundle, Scorer(bundle, device), predictions, counts, part, views)


def _train_counts(info: ClassifierInfo, images: Shards) -> list[int]:
    """Of the shards a recipe may take a part only."""
    shards = images.limited(info.recipe["data"]["limit"]).relabelled(info.labels)
    return (by_listing(shards, info.model.max_views) if info.model.fuse else shards).class_counts("train").tolist()


def _compared(judged: list[_Judged], shards: Shards, device: torch.device) -> dict[str, Any]:
    timings = time_all([one.scorer for one in judged], [one.views for one in judged])
    rows = [
        _row(one, shards) | {"latency_ms": timing.latency_ms, "image_ms": timing.image_ms, "images_per_s": 1000 / timing.image_ms}
        for one, timing in zip(judged, timings, strict=True)
    ]
    found: dict[str, Any] = {"runs": rows}
    if not shards.split("val").rows:
        return found | {"leader": None, "recommended": None, "reason": _NO_VAL, "tests": []}
    candidates = [Candidate(one.run.name, one.predictions["val"].hits, row["image_ms"], row["gflops"]) for one, row in zip(judged, rows, strict=True)]
    choice = choose(candidates)
    for row in rows:
        pair = choice.against_leader[row["name"]]
        row["val_against_leader"] = {"difference": -pair.difference, "ci95": [-pair.ci95[1], -pair.ci95[0]], "p": pair.p}
        row["candidate"] = row["name"] in choice.candidates
    rows.sort(key=lambda row: (-row["splits"]["val"]["top1"], row["image_ms"]))
    bundle = next(row["bundle"] for row in rows if row["name"] == choice.recommended)
    facts = {"leader": choice.leader, "recommended": choice.recommended, "recommended_bundle": bundle, "reason": explained(choice, candidates)}
    return found | facts | {"tests": _tests(judged, choice, shards)}


def _row(judged: _Judged, shards: Shards) -> dict[str, Any]:
    """The figures of one run but for times."""
    run, info = judged.run, judged.bundle.info
    metrics = {split: evaluate(found, info.labels, judged.train_counts, info.temperature, split) for split, found in judged.predictions.items()}
    told = metrics.get("test") or metrics["val"]
    rates = [entry["images_per_s"] for entry in run.history if "images_per_s" in entry]  # a fit has trials, not epochs
    splits = ({"train": run.train} if run.train else {}) | metrics
    return {
        "name": run.name,
        "bundle": run.bundle,
        "bundle_id": info.bundle_id,
        "arch": info.model.arch,
        "splits": {split: headline(values) for split, values in splits.items()},
        "tail": told["slices"]["tail"],
        "train_part": judged.part,
        "precision": judged.scorer.precision,
        "views": judged.views,
        "started_elsewhere": not shards.keeps_split_of(info.learned_from),
        **size_of(judged.bundle, Folder(run.bundle), judged.views),
        "training": {
            "rounds": len(run.history),
            "round": "epoch" if rates else "trial",
            "minutes": sum(entry["seconds"] for entry in run.history) / 60,
            "images_per_s": median(rates) if rates else None,
        },
        "recipe": info.recipe,
    }


def _tests(judged: list[_Judged], choice: Choice, shards: Shards) -> list[dict[str, Any]]:
    """The leader (by val) against each other run on test, corrected for being several."""
    if not shards.split("test").rows:
        return []
    hits = {one.run.name: one.predictions["test"].hits for one in judged}
    others = [name for name in hits if name != choice.leader]
    pairs = {name: paired(hits[choice.leader], hits[name]) for name in others}
    corrected = holm([pairs[name].p for name in others])
    found = [
        {"first": choice.leader, "second": name, **pairs[name]._asdict(), "p_holm": p, "n": len(hits[name])} for name, p in zip(others, corrected, strict=True)
    ]
    return sorted(found, key=lambda test: test["difference"])
