"""Charts of the report as inline SVG that takes its colours and its typeface from the page, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from prodrec.evaluation.calibration import ReliabilityBin

# matplotlib knows no CSS variables: it draws in colours that stand for them, which are replaced in the SVG.
INK, _MUTED, _LINE, ACCENT, QUIET = "#010101", "#020202", "#030303", "#040404", "#050505"
_CSS = {INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)", ACCENT: "var(--accent)", QUIET: "var(--quiet)"}

# Inches at 72 px: one column of a wide page, the whole width of a phone. Source: assumed.
_SIZE_INCHES = (5.0, 3.3)
# Area in square points of the dot of a bin that holds all rows, and of an almost empty one. Source: assumed.
_MOST_DOT, _LEAST_DOT = 260.0, 14.0

PERCENT = PercentFormatter(1, symbol="\u202f%")

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "prodrec",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
}


def loss_curve(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss by epoch, train and (where there is one) val: of train the plain one where it is known, neither weighted nor smoothed, as that of val is."""
    plain = [entry | {"train_loss": entry["train_nll"]} if "train_nll" in entry else entry for entry in map(dict, history)]
    return _curve(plain, "loss", "loss", "Loss by epoch")


def accuracy_curve(history: Sequence[Mapping[str, Any]]) -> str:
    """Top-1 accuracy by epoch, train and (where there is one) val."""
    return _curve(history, "top1", "top-1 accuracy", "Top-1 accuracy by epoch")


def tags_curve(history: Sequence[Mapping[str, Any]]) -> str:
    """AP50 by epoch, of val where there is one."""
    return _curve(history, "ap50", "AP50", "Average precision by epoch")


def precision_recall_chart(precision_R: Sequence[float]) -> str:
    """Precision by recall, at recalls spread evenly over 0 to 1."""
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        axes.plot(np.linspace(0, 1, len(precision_R)), precision_R, color=ACCENT)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05), xlabel="recall", ylabel="precision")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PERCENT)
        return svg(figure, "Precision by recall")


def reliability_chart(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin]) -> str:
    """Accuracy by confidence, before and after temperature scaling; the area of a dot is its share of the rows."""
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, dashes=(4, 4))
        for bins, color, name in ((before, QUIET, "before scaling"), (after, ACCENT, "as served")):
            points = [(bin.confidence, bin.accuracy, bin.n) for bin in bins if bin.confidence is not None and bin.accuracy is not None]
            x, y, counts = (np.array(column) for column in zip(*points, strict=True)) if points else (np.empty(0),) * 3
            axes.plot(x, y, color=color, linewidth=1.5, label=name)
            axes.scatter(x, y, s=np.maximum(_LEAST_DOT, _MOST_DOT * counts / max(1, counts.sum())), color=color, linewidths=0, zorder=3)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05), xlabel="confidence", ylabel="share that is right")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PERCENT)
        axes.legend(loc="upper left", labelcolor=INK)
        return svg(figure, "Share of right predictions by confidence, before and after temperature scaling")


def _curve(history: Sequence[Mapping[str, Any]], metric: str, ylabel: str, description: str) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        for split, color in (("train", QUIET), ("val", ACCENT)):
            points = [(entry["epoch"], entry[key]) for entry in history if (key := f"{split}_{metric}") in entry]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=split, marker="o" if len(points) < 3 else None)
        axes.set(xlabel="epoch", ylabel=ylabel, xlim=(0.5, history[-1]["epoch"] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if metric in {"top1", "ap50"}:
            axes.yaxis.set_major_formatter(PERCENT)
        if axes.lines:
            axes.legend(labelcolor=INK)
        return svg(figure, description)


def figure_and_axes() -> tuple[Figure, Axes]:
    """Of the size of a column, without a ground of its own."""
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def svg(figure: Figure, description: str) -> str:
    """The <svg> element alone, without the style and the ids that would reach over the page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = re.sub(r'(?s)(?<=<g) id="[^"]*"|<style.*?</style>', "", text[text.index("<svg") :])
    for color, variable in _CSS.items():
        text = text.replace(color, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
