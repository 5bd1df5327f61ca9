import re
from xml.etree import ElementTree

import numpy as np
import pytest

from prodrec.evaluation.calibration import reliability
from prodrec.reports.charts import accuracy_curve, loss_curve, reliability_chart


def history(epochs: int, val: bool = True) -> list[dict]:
    entries = [{"epoch": e, "train_loss": 3 / e, "train_top1": 1 - 1 / (e + 1)} for e in range(1, epochs + 1)]
    return [entry | {"val_loss": 2 / entry["epoch"], "val_top1": 0.5} if val else entry for entry in entries]


def bins(seed: int, n: int = 200):
    rng = np.random.default_rng(seed)
    confidences = rng.random(n)
    return reliability(confidences, rng.random(n) < confidences)


CHARTS = {
    "loss": lambda: loss_curve(history(5)),
    "accuracy of one epoch": lambda: accuracy_curve(history(1)),
    "reliability": lambda: reliability_chart(bins(0), bins(1)),
    "reliability of nothing": lambda: reliability_chart(bins(0, 0), bins(1, 0)),
}


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_a_chart_is_one_svg_that_reaches_nothing_outside(draw):
    svg = draw()
    ElementTree.fromstring(svg)
    assert svg.startswith('<svg role="img" aria-label="')
    assert "<style" not in svg
    assert not re.search(r'(?:href|src)="(?!#)|url\((?!#)', svg)
    assert svg == draw()


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_every_colour_is_a_variable_of_the_page(draw):
    svg = draw()
    assert not re.findall(r"#[0-9a-f]{6}\b(?=[;\"])", svg)
    assert not re.search(r"fill: (?:black|white)|<text (?![^>]*fill: var)", svg)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_val_is_drawn_where_there_is_one():
    assert {"train", "val", "epoch"} <= set(texts(loss_curve(history(4))))
    assert "val" not in texts(loss_curve(history(4, val=False)))
    mixed = [*history(2, val=False), *history(4)[2:]]
    assert "val" in texts(loss_curve(mixed))


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_epochs_are_whole_numbers_that_happened(epochs):
    svg = accuracy_curve(history(epochs))
    ticks = [text for text in texts(svg) if text.replace(".", "").isdigit()]
    assert ticks
    assert all(1 <= int(tick) <= epochs for tick in ticks)


def test_percentages_on_the_axis_differ():
    labels = [text for text in texts(accuracy_curve(history(1))) if "%" in text]
    assert len(labels) == len(set(labels)) > 1


def test_the_loss_of_train_is_drawn_plain_where_it_is_known():
    plain = [entry | {"train_nll": entry["val_loss"]} for entry in history(4)]
    assert loss_curve(plain) == loss_curve([entry | {"train_loss": entry["val_loss"]} for entry in history(4)])
    assert loss_curve(plain) != loss_curve(history(4))
