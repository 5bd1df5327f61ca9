import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import photo
from PIL import Image

from prodrec.errors import OutputError
from prodrec.evaluation.metrics import evaluate
from prodrec.evaluation.old_new import OldNew
from prodrec.evaluation.predictions import Predictions
from prodrec.files import Folder
from prodrec.images.thumbnails import thumbnail
from prodrec.label_photos import PHOTOS, LabelPhotos, packed_photos, photo_id
from prodrec.labels import Label
from prodrec.reports.page import data_uri, duration, flat, interval, percent, points
from prodrec.reports.report import ReportData, render_report, weakest_classes, write_report

HOSTILE = "<script>alert(1)</script>\"'&amp;"


class Page(HTMLParser):
    """Elements, attributes and text as a browser takes them."""

    void = {"meta", "img", "link", "br", "input", "hr"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def predictions(rows: int, classes: int, skill: float, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    logits = torch.randn(rows, classes, generator=generator) + skill * torch.nn.functional.one_hot(labels, classes)
    return Predictions.of(logits, labels, torch.arange(rows))


def made(
    rows: int = 60, classes: int = 6, skill: float = 2.0, splits: tuple[str, ...] = ("train", "val", "test"), epochs: int = 3, name: str = "product"
) -> ReportData:
    labels = [Label(name=f"{name} {k}", group=f"{name} group {k % 2}") for k in range(classes)]
    by_split = {split: predictions(rows, classes, skill, seed) for seed, split in enumerate(splits)}
    history = [
        {"epoch": e, "train_loss": 1 / e, "train_top1": 0.5, "lr": 1e-3, "images_per_s": 1234.5, "seconds": 100.0}
        | ({"val_loss": 1 / e, "val_top1": 0.4, "val_top5": 0.9} if "val" in splits else {})
        for e in range(1, epochs + 1)
    ]
    return ReportData(
        title=f"{name} on shop",
        recipe={"name": name, "model": {"arch": "resnet18", "args": {}}},
        data={"source": f"s3://{name}/photos", "images": {"train": rows}},
        history=history,
        kept="the mean of epochs 2, 3" if history else "",
        metrics={split: evaluate(p, labels, [150, 50, *[5] * classes][:classes], 1.0, split) for split, p in by_split.items()},
        predictions=by_split[splits[-1]],
        labels=labels,
        photos=LabelPhotos(),
        temperature=1.0,
        image_of=lambda row: photo(row % classes, row),
    )


CASES = {
    "whole": {},
    "no val": {"splits": ("train", "test")},
    "no test": {"splits": ("train", "val")},
    "train only": {"splits": ("train",)},
    "two classes": {"classes": 2},
    "one row": {"rows": 1},
    "all right": {"skill": 50.0},
    "all wrong": {"skill": -50.0},
    "one epoch": {"epochs": 1},
    "no training": {"epochs": 0, "splits": ("test",)},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_case_is_a_sound_page_that_needs_nothing_else(case):
    html = render_report(made(**case))
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags and "link" not in page.tags
    targets = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset", "action"}]
    assert targets
    assert all(target.startswith(("data:image/jpeg;base64,", "#")) for target in targets)
    assert not re.search(r"@import|url\((?!#)", html)
    assert not re.search(r"\b(?:nan|None|Undefined)\b", page.text)
    assert page.tags.count("h1") == 1


@pytest.mark.parametrize("skill", [-50.0, 2.0, 50.0])
def test_what_users_wrote_is_text_and_never_markup(skill):
    page = Page(render_report(made(skill=skill, name=HOSTILE)))
    assert page.open == []
    assert "script" not in page.tags
    assert f"{HOSTILE} on shop" in page.text
    assert f"s3://{HOSTILE}/photos" in page.text
    assert any(name == "alt" and value.startswith(HOSTILE) for name, value in page.attributes)
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_titles_stand_before_ids_and_a_product_that_was_never_recognised_is_shown_by_its_reference_photo(tmp_path):
    report, jpeg = made(skill=-50.0), thumbnail(photo(1, 1), 32)
    (tmp_path / PHOTOS).write_bytes(packed_photos({photo_id(jpeg): jpeg}))
    titled = [label.model_copy(update={"title": f"{HOSTILE} كوب {label.name}", "group_title": "杯子", "photo": photo_id(jpeg)}) for label in report.labels]
    page = Page(render_report(replace(report, labels=titled, photos=LabelPhotos(Folder(tmp_path)))))
    assert page.open == [] and "script" not in page.tags
    name = report.metrics["test"]["per_class"][0]["label"]
    assert f"{HOSTILE} كوب {name} {name}" in page.text
    assert "杯子" in page.text and "its reference photo" in page.text
    assert ("src", data_uri(jpeg)) in page.attributes
    assert ("alt", f"{HOSTILE} كوب {name} ({name})") in page.attributes


def with_old(report: ReportData, known: int, skill: float, same_data: bool = True) -> ReportData:
    """The report of a run that went on from a bundle of the first `known` labels."""
    rows, classes = len(report.predictions), len(report.labels)
    labels = torch.arange(rows) % classes
    logits = torch.randn(rows, known, generator=torch.Generator().manual_seed(9)) + skill * torch.nn.functional.one_hot(labels, classes)[:, :known]
    old = Predictions.of(logits, labels, torch.arange(rows))
    old_new = OldNew(old, report.predictions, report.labels, known, f"runs/{report.recipe['name']}/bundle", "1f", same_data)
    metrics = {split: values | ({"old_new": old_new.metrics()} if split == report.judged else {}) for split, values in report.metrics.items()}
    return replace(report, metrics=metrics, old_new=old_new)


@pytest.mark.parametrize("known", [3, 6])
@pytest.mark.parametrize("skill", [-50.0, 2.0, 50.0])
def test_old_against_new_is_told_with_what_got_worse_first(known, skill):
    report = with_old(made(name=HOSTILE), known, skill, same_data=known == 6)
    html = render_report(report)
    page, told = Page(html), report.metrics["test"]["old_new"]
    assert page.open == [] and "script" not in page.tags
    assert f"{told['known']['gained']} image" in page.text and f"{told['known']['lost']} lost" in page.text
    assert ("New labels" in page.text) == (known == 3)
    assert ("flatter it" in page.text) == (known == 3)
    assert ("Right before, wrong now" in page.text) == bool(told["all"]["lost"])
    table = page.text[page.text.index("Class by class") :]
    changed = [row["label"] for row in told["per_class"] if row["difference"]]
    places = [table.index(label) for label in changed]
    assert places == sorted(places)
    assert [row["label"] for row in told["per_class"] if row["difference"] < 0] == changed[: sum(row["difference"] < 0 for row in told["per_class"])]
    assert not re.search(r"\b(?:nan|None|Undefined)\b", page.text)
    assert "Old against new" not in Page(render_report(made())).text


def test_the_verdict_follows_the_test():
    words = {-50.0: "Of the two the new one is better", 50.0: "the new one is worse", 2.0: "neither is better with certainty"}
    for skill, verdict in words.items():
        assert verdict in Page(render_report(with_old(made(), 6, skill))).text
    # Equal on what it knew: that it could not know three labels proves nothing.
    report = with_old(made(skill=50.0), 3, 50.0)
    assert report.metrics["test"]["old_new"]["all"]["p"] < 0.05
    assert "on those that it knew neither is better with certainty: 0 images won" in Page(render_report(report)).text


def test_headline_is_test_in_words():
    text = Page(render_report(made(rows=5, classes=5, skill=50.0))).text
    assert "Top-1 accuracy on test 100 % 5 of 5 right, 95 % interval 57–100 %" in text
    assert "Kept: the mean of epochs 2, 3." in text


@pytest.mark.parametrize(("splits", "judged", "caveat"), [(("train", "val"), "val", "chose the best epoch"), (("train",), "train", "was trained on these")])
def test_a_split_that_flatters_says_so(splits, judged, caveat):
    report = made(rows=6, splits=splits)
    text = Page(render_report(report)).text
    assert report.judged == judged
    assert caveat in text
    assert caveat not in Page(render_report(made(rows=6))).text


def test_a_long_report_stays_small():
    report = with_old(made(rows=3000, classes=300, skill=3.0), 250, 2.0)
    assert "more are in test.json" in Page(render_report(report)).text
    noisy = torch.randint(256, (400, 400, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    report = replace(report, image_of=lambda _: _jpeg(noisy))
    assert len(render_report(report).encode()) < 2_000_000


def _jpeg(pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def test_a_picture_that_cannot_be_read_is_named():
    page = Page(render_report(replace(made(rows=3, classes=3), image_of=lambda _: b"broken")))
    assert "row 2 cannot be read" in page.text
    assert "img" not in page.tags


def test_a_report_is_written_whole_with_its_folder(tmp_path):
    report = made(rows=6)
    write_report(Folder(tmp_path / "new"), report)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["index.html"]
    assert (tmp_path / "new" / "index.html").read_text(encoding="utf-8") == render_report(report)


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_report(Folder(tmp_path / "file"), made(rows=6))


def test_weakest_classes_are_flawed_ones_that_occur():
    rows = [{"label": str(k), "n": n, "f1": f1} for k, (n, f1) in enumerate([(3, 0.5), (0, 0.0), (9, 1.0), (4, 0.0), (7, 0.0)])]
    assert [row["label"] for row in weakest_classes(rows)] == ["4", "3", "0"]
    assert len(weakest_classes(rows * 20)) == 15


@given(st.dictionaries(st.text("abc", min_size=1), st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("abc", min_size=1), inner), max_leaves=8)))
def test_flat_facts_lead_back_to_their_values(facts):
    for name, value in flat(facts):
        found = facts
        for part in name.split("."):
            found = found[part]
        assert found == value


def test_numbers_claim_no_more_than_is_known():
    assert (percent(0.57), percent(0.57, 7), percent(None)) == ("57.0\u202f%", "57\u202f%", "–")
    assert (points(0.0213), points(-0.004, 500), points(-0.5, 4), points(0.25, 4)) == ("+2.1", "−0.4", "−50", "+25")
    assert (interval((0.5655, 1), 5), interval((0.5655, 1), 500), interval((0, 1), 0), interval(None)) == ("57–100\u202f%", "56.5–100.0\u202f%", "–", "–")
    assert [duration(seconds) for seconds in (0.2, 99, 100, 5000, 12_000)] == ["0 s", "99 s", "2 min", "83 min", "3 h 20 min"]
