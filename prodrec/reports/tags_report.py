"""The report of a tagger: one HTML file that needs nothing else."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from prodrec.errors import Reject
from prodrec.evaluation.detections import TaggedPicture, matched
from prodrec.files import Folder
from prodrec.images.pictures import upright
from prodrec.reports.charts import loss_curve, precision_recall_chart, tags_curve
from prodrec.reports.drawing import BAD, GOOD, MISSED, Box, draw_boxes, drawn_name
from prodrec.reports.page import ReportPage, data_uri, render, write_page

# Source: assumed; about 25 KB a picture keep the report under 2 MB.
MOST_PICTURES, MOST_LABELS = 24, 60
# Twice the width that a picture has on the page. Source: assumed.
PICTURE_SIDE_PX, PICTURE_QUALITY = 480, 80


@dataclass(frozen=True)
class TagsReport(ReportPage):
    """What a tagger's report shows.

    Attributes:
        pictures: of the split `judged`.
        thresholds: [K].
    """

    chosen_on_val = "the thresholds"

    pictures: Sequence[TaggedPicture]
    thresholds: Sequence[float]


@dataclass(frozen=True)
class DrawnPicture:
    """A picture with its boxes.

    Attributes:
        uri: data URI of a JPEG, None where the image cannot be read.
        right, wrong, missed: numbers of tags and of true boxes that no tag found.
    """

    row: int
    uri: str | None
    right: int
    wrong: int
    missed: int


def write_tags_report(folder: Folder, report: TagsReport) -> None:
    """Writes the report to FOLDER/index.html, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    judged = report.metrics[report.judged]
    charts = [loss_curve(report.history)] if report.history else []
    charts += [tags_curve(report.history)] if any("val_ap50" in entry for entry in report.history) else []
    per_class = sorted(judged["per_class"], key=lambda row: (-row["boxes"], row["label"]))
    parts = {
        "curves": [Markup(chart) for chart in charts],
        "precision_recall": Markup(precision_recall_chart(judged["curve"])) if judged["curve"] else None,
        "per_class": per_class[:MOST_LABELS],
        "more_labels": max(0, len(per_class) - MOST_LABELS),
        "drawn": worst_pictures(report),
    }
    write_page(folder, render("tags_report.html", report, **parts))


def worst_pictures(report: TagsReport) -> list[DrawnPicture]:
    """Pictures with most mistakes first; among equals those whose wrong tags are surest."""
    kept = [_above(picture, np.asarray(report.thresholds, dtype=np.float32)) for picture in report.pictures]
    marked = [(picture, *matched(picture)) for picture in kept]

    def badness(item: Any) -> tuple[int, float]:
        picture, right_D, found_M, crowded_D = item
        wrong_D = ~right_D & ~crowded_D
        return int(wrong_D.sum() + (~found_M & ~picture.crowd_M).sum()), float(picture.scores_D[wrong_D].sum())

    worst = sorted(marked, key=badness, reverse=True)[:MOST_PICTURES]
    return [_drawn(*item, report) for item in worst]


def _above(picture: TaggedPicture, thresholds_K: Any) -> TaggedPicture:
    kept = picture.scores_D >= thresholds_K[picture.labels_D]
    tags = (picture.boxes_D4[kept], picture.scores_D[kept], picture.labels_D[kept])
    return TaggedPicture(picture.row, picture.size, *tags, picture.true_boxes_M4, picture.true_labels_M, picture.crowd_M)


def _drawn(picture: TaggedPicture, right_D: Any, found_M: Any, crowded_D: Any, report: TagsReport) -> DrawnPicture:
    missed_M, wrong_D = ~found_M & ~picture.crowd_M, ~right_D & ~crowded_D
    boxes = [
        Box(corners, _name(report, label), MISSED, dashed=True)
        for corners, label in zip(picture.true_boxes_M4[missed_M], picture.true_labels_M[missed_M], strict=True)
    ]
    for corners, score, label, right in zip(picture.boxes_D4, picture.scores_D, picture.labels_D, right_D | crowded_D, strict=True):
        boxes.append(Box(corners, f"{_name(report, label)} {score:.2f}", GOOD if right else BAD))
    return DrawnPicture(picture.row, _uri(report.image_of, picture, boxes), int(right_D.sum()), int(wrong_D.sum()), int(missed_M.sum()))


def _name(report: TagsReport, label: int) -> str:
    return drawn_name(report.labels[label].name, report.labels[label].title)


def _uri(image_of: Callable[[int], bytes], picture: TaggedPicture, boxes: list[Box]) -> str | None:
    out = io.BytesIO()
    try:
        image = upright(image_of(picture.row), short_side=PICTURE_SIDE_PX)
        image.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
        scales = [image.width / picture.size[0], image.height / picture.size[1]] * 2
        placed = [box._replace(corners=[float(edge) * scale for edge, scale in zip(box.corners, scales, strict=True)]) for box in boxes]
        draw_boxes(image, placed).save(out, "JPEG", quality=PICTURE_QUALITY, optimize=True)
    except (Reject, OSError):  # a report of hours of training must not fail for one picture; the page shows which one
        return None
    return data_uri(out.getvalue())
