"""What the pages of all reports share: their facts, and how values are written on them."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prodrec.evaluation.summary import describe, doubt
from prodrec.files import Folder
from prodrec.label_photos import LabelPhotos
from prodrec.labels import Label, shown
from prodrec.shards.reading import Shards
from prodrec.sources.schema import SPLITS

# Under this many images a decimal of a percentage claims more than is known. Source: assumed; one image is 1 %.
_DECIMALS_FROM_IMAGES = 100


@dataclass(frozen=True)
class ReportPage:
    """What a report shows, whatever the kind of model.

    Attributes:
        chosen_on_val: beside the epoch, in words.
        title: of the page.
        recipe, data: facts by name, nested or not.
        history: one entry an epoch with epoch, train_loss, lr, images_per_s, seconds, and val_loss where there is a val split;
            one a trial with trial, head, weight_decay, kept, train_loss, train_top1, seconds and those of val where heads were
            fitted on features; empty where no training is reported.
        kept: which of its weights the bundle has, in words; empty where no training is reported.
        metrics: of each split that was judged; at least one.
        labels: [K].
        photos: of them.
        image_of: row of the split `judged` to JPEG bytes.
    """

    chosen_on_val: ClassVar[str]

    title: str
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    kept: str
    metrics: Mapping[str, Mapping[str, Any]]
    labels: Sequence[Label]
    photos: LabelPhotos
    image_of: Callable[[int], bytes]

    @property
    def judged(self) -> str:
        """The split that the headline and the pictures are about: test, or the best there is."""
        return next(split for split in reversed(SPLITS) if split in self.metrics)

    @property
    def caveat(self) -> str | None:
        """What the figures of that split are worth, by how it was used."""
        if self.judged == "train":
            return "The model was trained on these images, so this says little about new photos."
        told = doubt(self.metrics[self.judged])
        sentences = [f"{told[0].upper()}{told[1:]}."] if told else []
        if self.judged == "val":
            chosen = "head" if self.history and "trial" in self.history[0] else "best epoch"
            sentences.append(f"These images also chose the {chosen} and {self.chosen_on_val}, so expect a little less on new photos.")
        return " ".join(sentences) or None


def page_facts(
    shards: Shards, split: str, recipe: dict[str, Any], labels: list[Label], photos: LabelPhotos, history: list[dict[str, Any]], kept: str = ""
) -> dict[str, Any]:
    """Fields of a `ReportPage`.

    Args:
        split: that is judged.
        recipe: as trained.
        labels, photos: of the model.
        history, kept: of the training, where it is reported.
    """
    title = f"{recipe.get('name', recipe.get('model', {}).get('arch', 'model'))} on {shards.manifest.source.rstrip('/').rpartition('/')[2]}"
    facts = {"title": title, "recipe": recipe, "data": describe(shards), "history": history, "kept": kept, "labels": labels, "photos": photos}
    return facts | {"image_of": shards.split(split).image}


def write_page(folder: Folder, html: str) -> None:
    """Writes FOLDER/index.html, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    folder.make().write("index.html", html.encode())


def render(template: str, report: ReportPage, **values: Any) -> str:
    """A page of a report; its own facts and each split's metrics are there under their names."""
    splits = [report.metrics[split] for split in (*SPLITS, *report.metrics.keys() - {*SPLITS}) if split in report.metrics]
    titles = {label.name: label.title for label in report.labels if label.title}
    groups = {label.group: label.group_title for label in report.labels if label.group and label.group_title}
    values |= {
        "named": partial(named, titles),
        "grouped": lambda name: Markup("<bdi>{}</bdi>").format(groups.get(name, name)),
        "shown": lambda name: shown(name, titles.get(name)),
    }
    values["reference"] = partial(_reference, report)
    return filled(template, report=report, judged=report.metrics[report.judged], splits=splits, **values)


def named(titles: Mapping[str, str], name: str) -> Markup:
    """A label on a page: its title, which may be of any script, and small its id."""
    title = titles.get(name)
    return Markup('<bdi>{}</bdi> <small class="id"><bdi>{}</bdi></small>').format(title, name) if title else Markup("<bdi>{}</bdi>").format(name)


def data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _reference(report: ReportPage, name: str) -> str | None:
    """The reference photo of a label as a data URI."""
    photo = next((label.photo for label in report.labels if label.name == name), None)
    jpeg = report.photos.get(photo) if photo else None
    return data_uri(jpeg) if jpeg else None


def filled(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file."""
    loader = PackageLoader("prodrec.reports", "")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader)
    environment.filters |= {"percent": percent, "ratio": _ratio, "interval": interval, "duration": duration, "flat": flat}
    environment.filters |= {"code": code, "amount": amount, "count": count, "chance": chance, "points": points}
    return environment.get_template(template).render(**values)


def code(text: str) -> Markup:
    """A sentence whose commands stand between backticks."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def percent(share: float | None, n: int = _DECIMALS_FROM_IMAGES) -> str:
    """`93.4 %`; without the decimal where fewer than 100 images stand behind it; a dash for None."""
    return "–" if share is None else f"{100 * share:.{_decimals(n)}f}\u202f%"


def points(difference: float, n: int = _DECIMALS_FROM_IMAGES) -> str:
    """`+2.1`, `−0.4` or `0.0`: percentage points, with the decimals of `percent`."""
    text = f"{100 * difference:+.{_decimals(n)}f}"
    return text.replace("-", "−") if float(text) else text[1:]


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


def amount(value: float) -> str:
    """Three digits that count: `0.0123`, `4.56`, `789`, `12,300`."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):g}"


def count(number: int) -> str:
    """`812`, `45.6 k` or `11.2 M`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}\u202f{unit}"
    return str(number)


def chance(p: float) -> str:
    """A p value: `0.034`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


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
