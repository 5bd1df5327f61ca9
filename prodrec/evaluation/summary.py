"""Data sets and metrics in few words."""

from collections.abc import Iterable, Mapping
from typing import Any

from prodrec.shards.listing_shards import ListingShards
from prodrec.shards.reading import Shards

# Of a bundle.
LEARNED_ELSEWHERE = (
    "has learned from other shards than these, and so maybe from images that are held out here, which flatter it then; "
    "prodrec prepare --keep-split makes shards that keep the split of those"
)

LEARNED_VAL = "has learned from val as well (a refit on train and val), which flatters it there; test was not learned from"


def describe(shards: Shards) -> dict[str, Any]:
    """The facts on a data set that a report shows."""
    manifest = shards.manifest
    groups = {label.group for label in manifest.labels if label.group is not None}
    rows = {f"{split} images": manifest.rows(split) for split in manifest.splits}
    if isinstance(shards, ListingShards):  # of which all figures are then
        rows |= {f"{split} listings": shards.split(split).rows for split in manifest.splits}
    return {"source": manifest.source, "labels": len(manifest.labels), "groups": len(groups), **rows, "rejected": sum(manifest.rejects.values())}


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics without their long lists."""
    return {name: value for name, value in metrics.items() if name not in {"per_class", "slices", "curve", "old_new"}}


def judgement(metrics: dict[str, Any]) -> str:
    """One line: `test: 312 of 509 right, top-1 61.3 % (95 % interval 57.0 to 65.4 %), top-5 ...`, or AP and tags of a tagger."""
    if "ap50" in metrics:
        return _tags_judgement(metrics)
    right, (low, high) = round(metrics["top1"] * metrics["n"]), (100 * bound for bound in metrics["top1_ci95"])
    top1 = f"top-1 {100 * metrics['top1']:.1f} % (95 % interval {low:.1f} to {high:.1f} %)"
    more = f"top-5 {100 * metrics['top5']:.1f} %, macro-F1 {metrics['macro_f1']:.3f}, ECE {metrics['ece']:.3f}"
    return f"{metrics['split']}: {right:,} of {metrics['n']:,} right, {top1}, {more}" + _accepted(metrics.get("accepted")) + _old_new(metrics.get("old_new"))


def origin(shards: Shards, split: str, learned_from: Iterable[str], val_learned: bool = False) -> dict[str, bool]:
    """What casts doubt on the figures of a split, as a part of its metrics.

    `learned_elsewhere`: images of the split may have been learned from, in other shards. `val_learned`: they were, by a refit.

    Args:
        learned_from: hashes of the manifests of what the model learned from, other than these shards or with them.
        val_learned: as `BundleInfo.val_learned`.
    """
    elsewhere = {"learned_elsewhere": split != "train" and not shards.keeps_split_of(learned_from)}
    return elsewhere | ({"val_learned": True} if split == "val" and val_learned else {})


def doubt(metrics: Mapping[str, Any]) -> str | None:
    """For people: why the figures of a split may be too good; None: nothing that is known."""
    if metrics.get("val_learned"):
        return f"the bundle {LEARNED_VAL}"
    return f"the bundle {LEARNED_ELSEWHERE}" if metrics.get("learned_elsewhere") else None


def _accepted(accepted: dict[str, Any] | None) -> str:
    """Whether the promise of `prodrec calibrate` holds on these rows."""
    if not accepted:
        return ""
    if not accepted["accepted"]:
        return "\naccepted without a person: none"
    low, high = accepted["precision_ci95"]
    return (
        f"\naccepted without a person: {accepted['share']:.1%} ({accepted['accepted']:,}), of these {accepted['precision']:.1%} right "
        f"(95 % interval {low:.1%} to {high:.1%}), {accepted['target_precision']:.1%} were promised"
    )


def _old_new(old_new: dict[str, Any] | None) -> str:
    """Against the bundle that the run went on from."""
    if not old_new:
        return ""
    new, known = old_new["new_labels"], old_new["known"]
    # What the old one could not know says nothing of whether the new one is better at the rest.
    figures, words = (known, f", on the {known['n']:,} images of labels that it knew") if new and known else (old_new["all"], "")
    tops = f"top-1 {figures['old_top1']:.1%} -> {figures['new_top1']:.1%}, macro-F1 {figures['old_macro_f1']:.3f} -> {figures['new_macro_f1']:.3f}"
    worse = sum(row["difference"] < 0 for row in old_new["per_class"])
    worst = next((f" (most: {row['label']}, {row['old']:.0%} -> {row['new']:.0%})" for row in old_new["per_class"] if row["difference"] < 0), "")
    others = f"\nnew labels: top-1 {new['new_top1']:.1%} of {new['n']:,} images" if new else ""
    changes = f"{figures['gained']:,} images won, {figures['lost']:,} lost, {worse:,} classes worse{worst}"
    return f"\nagainst {old_new['bundle']}{words}: {tops} ({changes}; p {figures['p']:.2g}){others}"


def _tags_judgement(metrics: dict[str, Any]) -> str:
    shares = {"AP50": "ap50", "mAP": "map", "precision": "precision", "recall": "recall"}
    said = [f"{words} {'-' if metrics[name] is None else f'{100 * metrics[name]:.1f} %'}" for words, name in shares.items()]
    counts = f"{metrics['tags']:,} tags for {metrics['boxes']:,} boxes on {metrics['n']:,} images"
    return f"{metrics['split']}: {', '.join(said)} ({counts}), loss {metrics['loss']['loss']:.3f}"
