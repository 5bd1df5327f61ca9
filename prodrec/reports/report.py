"""The report of a run or of a judged bundle: one HTML file that needs nothing else.

Not covered: comparing runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from prodrec.evaluation.calibration import Floats, reliability
from prodrec.evaluation.old_new import OldNew
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.slices import SLICE_RULES
from prodrec.files import Folder
from prodrec.reports.charts import accuracy_curve, loss_curve, reliability_chart
from prodrec.reports.examples import Positions, Thumbnails, mistake_kinds, sheet, sure_mistakes, varied_hits
from prodrec.reports.page import ReportPage, render, write_page

# Source: assumed; what fits on a page that a person reads through, and keeps the file under 2 MB.
MOST_WEAK_CLASSES, MOST_LOST, MOST_CHANGED_CLASSES = 15, 12, 60


@dataclass(frozen=True)
class ReportData(ReportPage):
    """What a classifier's report shows.

    Attributes:
        predictions: of the split `judged`.
        temperature: that the model is served with.
        old_new: against the bundle that the run went on from, where it did; its new predictions are `predictions`.
    """

    chosen_on_val = "the temperature"

    predictions: Predictions
    temperature: float
    old_new: OldNew | None = None


def write_report(folder: Folder, report: ReportData) -> None:
    """Writes the report to FOLDER/index.html, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_page(folder, render_report(report))


def render_report(report: ReportData) -> str:
    """The report as HTML."""
    return render("report.html", report, **_parts(report))


def _parts(report: ReportData) -> dict[str, Any]:
    predictions, thumbnails = report.predictions, Thumbnails(report.image_of)
    confidences_N, unscaled_N = (predictions.confidence(temperature)[:, 0] for temperature in (report.temperature, 1.0))
    trials = [entry for entry in report.history if "trial" in entry]
    charts = [loss_curve(report.history), accuracy_curve(report.history)] if report.history and not trials else []
    return {
        "trials": trials,
        "curves": [Markup(chart) for chart in charts],
        "reliability": Markup(reliability_chart(reliability(unscaled_N, predictions.hits), reliability(confidences_N, predictions.hits))),
        "slice_rules": SLICE_RULES,
        "old_new": report.metrics[report.judged].get("old_new"),
        "most_changed": MOST_CHANGED_CLASSES,
        "mistakes": mistake_kinds(predictions, confidences_N, report.labels, thumbnails),
        "wrong": sheet(predictions, confidences_N, report.labels, thumbnails, sure_mistakes(predictions, confidences_N)),
        "right": sheet(predictions, confidences_N, report.labels, thumbnails, varied_hits(predictions, confidences_N)),
        "lost": sheet(predictions, confidences_N, report.labels, thumbnails, lost_pictures(report.old_new, confidences_N)) if report.old_new else [],
        "weakest": weakest_classes(report.metrics[report.judged]["per_class"]),
    }


def weakest_classes(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Classes that occur and are not recognised without a mistake, lowest F1 first, the more frequent first among equals."""
    flawed = [row for row in per_class if row["n"] and row["f1"] < 1]
    return sorted(flawed, key=lambda row: (row["f1"], -row["n"]))[:MOST_WEAK_CLASSES]


def lost_pictures(old_new: OldNew, confidences_N: Floats) -> Positions:
    """Positions of what was right before and is wrong now, the surest mistakes first."""
    return old_new.lost[np.argsort(-confidences_N[old_new.lost], kind="stable")][:MOST_LOST]
