"""The page of a comparison: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from prodrec.evaluation.choice import SIGNIFICANT_P
from prodrec.evaluation.slices import SLICE_RULES
from prodrec.files import Folder
from prodrec.reports.cost_chart import CostPoint, cost_chart
from prodrec.reports.page import filled, interval, percent, write_page
from prodrec.sources.schema import SPLITS

# Settings of a recipe that tell most: dotted name, heading.
_SETTINGS = {
    "model.arch": "architecture",
    "model.weights": "weights",
    "input.size": "input, px",
    "train.batch_size": "batch",
    "optim.name": "optimiser",
    "optim.lr": "rate",
    "optim.weight_decay": "decay",
    "optim.label_smoothing": "smoothing",
    "augment.policy": "augmentation",
    "augment.mix": "mixed",
    "balance.class_weights": "class weights",
    "balance.sampling": "sampling",
    "train.ema_decay": "averaging",
    "train.seed": "seed",
}


def write_compare_page(folder: Folder, found: Mapping[str, Any]) -> None:
    """Writes FOLDER/index.html.

    Args:
        found: what compare.json holds.

    Raises:
        OutputError: it cannot be written.
    """
    write_page(folder, render_compare_page(found))


def render_compare_page(found: Mapping[str, Any]) -> str:
    """The page as HTML."""
    rows: Sequence[Mapping[str, Any]] = found["runs"]
    told = next((split for split in reversed(SPLITS) if rows and split in rows[0]["splits"]), "test")
    return filled(
        "compare.html",
        found=found,
        title=f"{len(rows) + len(found['failed'])} recipes on {str(found['data']['source']).rstrip('/').rpartition('/')[2]}",
        told=told,
        chosen=next((row for row in rows if row["name"] == found["recommended"]), None),
        splits=[split for split in SPLITS if rows and split in rows[0]["splits"]],
        charts=[Markup(chart) for chart in _charts(rows, told, found["recommended"])],
        tests=[dict(test) | {"verdict": verdict(test)} for test in found["tests"]],
        settings=_settings(rows),
        roles={row["name"]: _role(row, found) for row in rows},
        tail_rule=SLICE_RULES["tail"],
        significant=SIGNIFICANT_P,
    )


def verdict(test: Mapping[str, Any]) -> str:
    """One sentence on the leader and another run on the same test images."""
    first, second = test["first"], test["second"]
    if test["p_holm"] > SIGNIFICANT_P:
        return f"No difference is shown between {first} and {second}: chance alone can explain the figures."
    return f"{first} is {'better' if test['difference'] > 0 else 'worse'} than {second}."


def _role(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    words = [word for word in ("recommended", "leader") if row["name"] == found[word]]
    return ", ".join(words) or ("candidate" if row.get("candidate") else "")


def _charts(rows: Sequence[Mapping[str, Any]], told: str, recommended: str | None) -> list[str]:
    if not rows:
        return []
    label = f"top-1 accuracy on {told}"
    axes = (("gflops", "GFLOPs an image"), ("image_ms", "ms an image, in batches, measured here"))
    return [cost_chart([_point(row, cost, told, recommended) for row in rows], xlabel, label) for cost, xlabel in axes]


def _point(row: Mapping[str, Any], cost: str, told: str, recommended: str | None) -> CostPoint:
    split = row["splits"][told]
    low, high = split["top1_ci95"]
    return CostPoint(row["name"], row[cost], split["top1"], low, high, row["name"] == recommended)


def _settings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each run, by heading; a setting that no recipe has is left out."""
    found = [{heading: _at(row["recipe"], path) for path, heading in _SETTINGS.items()} for row in rows]
    shown = [heading for heading in _SETTINGS.values() if any(one[heading] is not None for one in found)]
    return [{"name": row["name"], "values": {heading: one[heading] for heading in shown}} for row, one in zip(rows, found, strict=True)]


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def summary_lines(found: Mapping[str, Any]) -> list[str]:
    """For the terminal: a line a run, the recommendation, and what failed."""
    lines = []
    width = max((len(row["name"]) for row in found["runs"]), default=0)
    for row in found["runs"]:
        judged = [(split, values) for split, values in row["splits"].items() if split != "train"]
        shares = [f"{split} {percent(one['top1'], one['n'])} ({interval(one['top1_ci95'], one['n'])})" for split, one in judged]
        mark = "*" if row["name"] == found["recommended"] else " "
        lines.append(f"{mark} {row['name']:<{width}}  {'  '.join(shares)}  {row['image_ms']:.3g} ms an image  {row['training']['minutes']:.1f} min")
    lines += [f"  {one['name']} failed: {one['reason']}" for one in found["failed"]]
    if found["judged_before"]:
        lines.append(f"  (judged at {found['judged']} already; without compare.json all is judged and timed anew)")
    lines.append(f"recommended: {found['recommended']}. {found['reason']}" if found["recommended"] else found["reason"])
    if promotion := found["promotion"]:
        done = (
            f"promoted to {promotion['registry']} as {promotion['version']}"
            if promotion["promoted"]
            else f"not promoted, {promotion['version'] or 'nothing'} is current"
        )
        lines.append(f"{done}: {promotion['why']}")
    return lines
