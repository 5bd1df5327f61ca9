"""The report of a run or of a judged bundle: one HTML file that needs nothing else.

Not covered: comparing runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prodrec.data.files import Folder
from prodrec.data.records import SPLITS, Label
from prodrec.evaluation.calibration import reliability
from prodrec.evaluation.charts import accuracy_curve, loss_curve, reliability_chart
from prodrec.evaluation.examples import Thumbnails, mistake_kinds, sheet, sure_mistakes, varied_hits
from prodrec.evaluation.predictions import Predictions
from prodrec.evaluation.slices import SLICE_RULES

# Source: assumed; what fits on a page that a person reads through, and keeps the file under 2 MB.
MOST_WEAK_CLASSES = 15

# Under this many images a decimal of a percentage claims more than is known. Source: assumed; one image is 1 %.
_DECIMALS_FROM_IMAGES = 100

# What a split's accuracy is worth, by how the split was used.
_CAVEATS = {
    "val": "These images also chose the best epoch and the temperature, so expect a little less on new photos.",
    "train": "The model was trained on these images, so this says little about new photos.",
}


@dataclass(frozen=True)
class ReportData:
    """What a report shows.

    Attributes:
        title: of the page.
        recipe, data: facts by name, nested or not.
        history: one entry an epoch with epoch, train_loss, train_top1, lr, images_per_s, seconds, and val_loss, val_top1 where
            there is a val split; empty where no training is reported.
        metrics: what `evaluate` returns, by split; at least one.
        predictions: of the split `judged`.
        labels: [K].
        temperature: that the model is served with.
        image_of: row of the split `judged` to JPEG bytes.
    """

    title: str
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    predictions: Predictions
    labels: Sequence[Label]
    temperature: float
    image_of: Callable[[int], bytes]

    @property
    def judged(self) -> str:
        """The split that the headline and the examples are about: test, or the best there is."""
        return next(split for split in reversed(SPLITS) if split in self.metrics)


def write_report(folder: Folder, report: ReportData) -> None:
    """Writes the report to FOLDER/index.html, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    folder.make().write("index.html", render_report(report).encode())


def render_report(report: ReportData) -> str:
    """The report as HTML."""
    return render("report.html", report=report, judged=report.metrics[report.judged], caveat=_CAVEATS.get(report.judged), **_parts(report))


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file."""
    loader = PackageLoader("prodrec.evaluation", "")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader)
    environment.filters |= {"percent": percent, "ratio": _ratio, "interval": interval, "duration": duration, "flat": flat}
    return environment.get_template(template).render(**values)


def _parts(report: ReportData) -> dict[str, Any]:
    predictions, thumbnails = report.predictions, Thumbnails(report.image_of)
    confidences_N, unscaled_N = (predictions.confidence(temperature)[:, 0] for temperature in (report.temperature, 1.0))
    charts = [loss_curve(report.history), accuracy_curve(report.history)] if report.history else []
    return {
        "splits": [report.metrics[split] for split in SPLITS if split in report.metrics],
        "curves": [Markup(chart) for chart in charts],
        "reliability": Markup(reliability_chart(reliability(unscaled_N, predictions.hits), reliability(confidences_N, predictions.hits))),
        "slice_rules": SLICE_RULES,
        "mistakes": mistake_kinds(predictions, confidences_N, report.labels, thumbnails),
        "wrong": sheet(predictions, confidences_N, report.labels, thumbnails, sure_mistakes(predictions, confidences_N)),
        "right": sheet(predictions, confidences_N, report.labels, thumbnails, varied_hits(predictions, confidences_N)),
        "weakest": weakest_classes(report.metrics[report.judged]["per_class"]),
    }


def weakest_classes(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Classes that occur and are not recognised without a mistake, lowest F1 first, the more frequent first among equals."""
    flawed = [row for row in per_class if row["n"] and row["f1"] < 1]
    return sorted(flawed, key=lambda row: (row["f1"], -row["n"]))[:MOST_WEAK_CLASSES]


def percent(share: float | None, n: int = _DECIMALS_FROM_IMAGES) -> str:
    """`93.4 %`; without the decimal where fewer than 100 images stand behind it; a dash for None."""
    return "–" if share is None else f"{100 * share:.{_decimals(n)}f}\u202f%"


def interval(bounds: Sequence[float] | None, n: int = _DECIMALS_FROM_IMAGES) -> str:
    """`91.7–94.8 %`; a dash for None or where no image stands behind it."""
    if bounds is None or n == 0:
        return "–"
    low, high = (f"{100 * bound:.{_decimals(n)}f}" for bound in bounds)
    return f"{low}–{high}\u202f%"


def duration(seconds: float) -> str:
    """`48 s`, `12 min` or `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested facts as pairs of a dotted name and a value."""
    pairs = []
    for name, value in facts.items():
        pairs += flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else [(f"{prefix}{name}", value)]
    return pairs


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _decimals(n: int) -> int:
    return 1 if n >= _DECIMALS_FROM_IMAGES else 0
