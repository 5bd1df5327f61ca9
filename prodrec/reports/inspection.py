"""What is in a data set, as one HTML file that needs nothing else, and as JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from prodrec.evaluation.slices import SLICE_RULES, slice_of
from prodrec.files import Folder
from prodrec.labels import label_order
from prodrec.reports.contact_sheet import contact_sheet
from prodrec.reports.data_charts import counts_chart, long_tail_chart, sizes_chart
from prodrec.reports.page import filled, write_page
from prodrec.shards.facts import UNDIVIDED, Facts
from prodrec.shards.finding import MOST_PICTURES, Finding
from prodrec.shards.findings import NOTHING_FOUND, findings
from prodrec.shards.image_findings import QUALITY_FAULTS, TINY_BOX_PX, USUAL_INPUT_PX, box_sides, quality_faults
from prodrec.sources.schema import SPLITS

INSPECTION = "inspect.json"
# Source: assumed; what a person reads through, and about 300 thumbnails of 4 KB.
MOST_LABELS, MOST_FREQUENT, MOST_LABEL_SETS, MOST_REJECTS, MOST_POOR = 100, 20, 20, 24, 6
_PERCENTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}

Pictures = Callable[[Sequence[int]], Mapping[int, str]]
"""Positions in the facts to data URIs of thumbnails; what cannot be read is left out."""


@dataclass(frozen=True)
class Inspected:
    """A data set that was looked at.

    Attributes:
        title: its name.
        what: it was taken for, and what was left out of it, a line each.
        data: more facts by name.
        pictures: thumbnails of the images at positions.
    """

    title: str
    what: Sequence[str]
    data: Mapping[str, Any]
    facts: Facts
    pictures: Pictures


def write_inspection(folder: Folder, seen: Inspected) -> tuple[list[Finding], dict[str, Any]]:
    """Writes FOLDER/inspect.json and, last, FOLDER/index.html; the findings, and the content of the JSON.

    Raises:
        OutputError: it cannot be written.
    """
    found = findings(seen.facts, seen.what)
    told = inspection(seen, found)
    folder.make().write(INSPECTION, json.dumps(told, indent=1, ensure_ascii=False).encode())
    write_page(folder, render_inspection(seen, found, told))
    return found, told


def inspection(seen: Inspected, found: Sequence[Finding]) -> dict[str, Any]:
    """All that is told of a data set, as JSON has it."""
    facts = seen.facts
    return {
        "title": seen.title,
        "what": list(seen.what),
        "data": dict(seen.data),
        "unit": "images" if facts.objects is None else "boxes",
        "rows": len(facts.images),
        "usable": len(facts.usable),
        "rejects": {str(code): int(n) for code, n in facts.images["code"].value_counts().items()},
        "findings": [_finding(one, facts) for one in found],
        "splits": _splits(facts),
        "labels": _labels(facts),
        "groups": _groups(facts),
        "sizes": _sizes(facts),
        "quality": _quality(facts),
        "boxes": _boxes(facts),
        "listings": _listings(facts),
    }


def render_inspection(seen: Inspected, found: Sequence[Finding], told: Mapping[str, Any]) -> str:
    """The page as HTML."""
    facts = seen.facts
    rejects = facts.images[facts.images["code"].notna()]
    shown_rejects = rejects.groupby("code", sort=False).head(max(2, MOST_REJECTS // max(1, rejects["code"].nunique()))).head(MOST_REJECTS)
    told_already = {one.code for one in found}
    few = {fault: scores for fault, scores in quality_faults(facts).items() if len(scores) and f"quality_{fault}" not in told_already}
    poor = {fault: scores.index[:MOST_POOR].tolist() for fault, scores in few.items()}
    sheet = contact_sheet(facts)
    wanted = [p for one in found for group in one.examples for p in group] + [p for row in sheet for p in row.positions]
    wanted += [p for positions in poor.values() for p in positions] + shown_rejects.index.tolist()
    by_number = sorted(told["labels"], key=lambda row: (-row["to_learn"], -row["total"]))
    frequent = by_number if len(by_number) <= MOST_LABELS else by_number[:MOST_FREQUENT]
    rare = by_number[len(frequent) :][: -(MOST_LABELS - MOST_FREQUENT) - 1 : -1]
    return filled(
        "inspection.html",
        told=told,
        nothing_found=NOTHING_FOUND,
        serious=sum(one.severity == "serious" for one in found),
        warnings=sum(one.severity == "warning" for one in found),
        found=found,
        images=facts.images,
        shown=facts.shown,
        label_of=lambda position: _caption(facts, position),
        pictures=seen.pictures(sorted(set(wanted))),
        splits=[*SPLITS, UNDIVIDED],
        sheet=sheet,
        rejects=shown_rejects,
        poor=poor,
        faults={fault: words for fault, (*_, words, _) in QUALITY_FAULTS.items()},
        frequent=frequent,
        rare=rare,
        more_labels=len(by_number) - len(frequent) - len(rare),
        tail=_tail(facts),
        slice_rules=SLICE_RULES,
        charts={name: Markup(chart) for name, chart in _charts(facts).items()},
        usual_input=USUAL_INPUT_PX,
        tiny_box=TINY_BOX_PX,
        most_sets=MOST_LABEL_SETS,
    )


def _finding(one: Finding, facts: Facts) -> dict[str, Any]:
    examples = [[_example(facts, position) for position in group] for group in one.examples]
    labels = [list(group) for group in one.labels]
    return {"code": one.code, "severity": str(one.severity), "text": one.text, "advice": one.advice, "share": one.share, "labels": labels, "examples": examples}


def _example(facts: Facts, position: int) -> dict[str, Any]:
    row = facts.images.loc[position]
    said = {name: row[name] for name in ("uri", "label", "split", "code", "detail")}
    return {name: str(value) for name, value in said.items() if isinstance(value, str)}


def _caption(facts: Facts, position: int) -> str:
    """Of a picture: its label, or those of its boxes."""
    if facts.objects is not None:
        shown = facts.objects_on(position)["label"].value_counts().head(MOST_PICTURES)
        return ", ".join(f"{number} × {facts.shown(label)}" for label, number in shown.items()) or "no boxes"
    label = facts.images.loc[position, "label"]
    return facts.shown(label) if isinstance(label, str) and label else "no label"


def _splits(facts: Facts) -> list[dict[str, Any]]:
    counts, split = facts.counts, facts.usable["split"].fillna(UNDIVIDED)
    rows = []
    for name in (*SPLITS, UNDIVIDED):
        images = facts.usable[split == name]
        if len(images):
            listings = int(images["listing_id"].nunique())
            rows.append({"split": name, "images": len(images), "labels": int((counts[name] > 0).sum()), "listings": listings or None})
            rows[-1]["boxes"] = None if facts.objects is None else int(counts[name].sum())
    return rows


def _labels(facts: Facts) -> list[dict[str, Any]]:
    counts = facts.counts.assign(to_learn=facts.to_learn)
    groups = facts.usable.drop_duplicates("label").set_index("label")["group"] if facts.objects is None else pd.Series(dtype=object)
    ordered = counts.loc[sorted(counts.index, key=label_order)]
    return [
        {"label": label, "title": facts.titles.get(label), "group": group if isinstance(group := groups.get(label), str) else None}
        | {name: int(value) for name, value in row.items()}
        for label, row in zip(ordered.index, ordered.to_dict("records"), strict=True)
    ]


def _groups(facts: Facts) -> list[dict[str, Any]]:
    grouped = facts.usable.dropna(subset="group")
    found = grouped.groupby("group").agg(labels=("label", "nunique"), images=("label", "size")).sort_values("images", ascending=False)
    return [{"group": name, "labels": int(row.labels), "images": int(row.images)} for name, row in found.iterrows()]


def _sizes(facts: Facts) -> dict[str, Any] | None:
    sides = facts.usable[["source_width", "source_height"]]
    if sides.empty:
        return None
    short, aspect = sides.min(axis=1), sides.max(axis=1) / sides.min(axis=1)
    return {
        "short_side": {name: float(short.quantile(q)) for name, q in _PERCENTILES.items()},
        "aspect": {name: round(float(aspect.quantile(q)), 3) for name, q in _PERCENTILES.items()},
        f"under_{USUAL_INPUT_PX}_px": int((short < USUAL_INPUT_PX).sum()),
    }


def _quality(facts: Facts) -> dict[str, Any] | None:
    if "sharpness" not in facts.usable or not (measured := int(facts.usable["sharpness"].notna().sum())):
        return None
    return {"measured": measured, "faults": {fault: len(scores) for fault, scores in quality_faults(facts).items()}}


def _boxes(facts: Facts) -> dict[str, Any] | None:
    if facts.objects is None:
        return None
    per_image = _per_image(facts)
    sides = box_sides(facts)
    return {
        "boxes": len(facts.objects),
        "crowds": int(facts.objects["crowd"].sum()),
        "clipped": facts.clipped,
        "rejected": len(facts.bad_boxes),
        "tiny": int((sides < TINY_BOX_PX).sum()),
        "images_without": int((per_image == 0).sum()),
        "per_image": {name: float(np.quantile(per_image, q)) for name, q in _PERCENTILES.items()} if len(per_image) else None,
        "short_side": {name: round(float(sides.quantile(q)), 1) for name, q in _PERCENTILES.items()} if len(sides) else None,
    }


def _per_image(facts: Facts) -> Any:
    assert facts.objects is not None
    return facts.objects["image"].value_counts().reindex(facts.usable.index, fill_value=0).to_numpy()


def _listings(facts: Facts) -> dict[str, Any] | None:
    sizes = facts.usable["listing_id"].dropna().value_counts()
    if sizes.empty:
        return None
    return {
        "listings": len(sizes),
        "images_each": {name: float(sizes.quantile(q)) for name, q in _PERCENTILES.items()},
        "with_one_image": int((sizes == 1).sum()),
    }


def _tail(facts: Facts) -> dict[str, int]:
    slices = facts.to_learn.map(slice_of).value_counts()
    return {name: int(slices.get(name, 0)) for name in SLICE_RULES}


def _charts(facts: Facts) -> dict[str, str]:
    charts, unit = {}, "images" if facts.objects is None else "boxes"
    if len(facts.counts) > 1:
        counts = facts.counts
        names = ("to learn from", "val and test")
        charts["long_tail"] = long_tail_chart(facts.to_learn.to_numpy(), (counts["val"] + counts["test"]).to_numpy(), unit, names)
    if len(facts.usable):
        short = facts.usable[["source_width", "source_height"]].min(axis=1).to_numpy(np.float64)
        charts["sizes"] = sizes_chart(short, "short side, px", "images", [(USUAL_INPUT_PX, f"{USUAL_INPUT_PX} px")])
    if facts.objects is not None and len(facts.objects):
        charts["per_image"] = counts_chart(_per_image(facts), "boxes in an image", "images")
        charts["boxes"] = sizes_chart(box_sides(facts).to_numpy(np.float64), "short side of a box, px of the prepared image", "boxes")
    return charts
