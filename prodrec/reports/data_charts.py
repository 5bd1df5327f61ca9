"""Charts of a data set: how many images its labels have, and how large images and boxes are."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from prodrec.reports.charts import ACCENT, INK, QUIET, STYLE, figure_and_axes, svg

# From so many times the smallest value on an axis is logarithmic. Source: assumed.
_LOG_FROM_TIMES = 30
# More steps are not told apart at the width of a column. Source: assumed.
_MOST_STEPS = 400
_BINS = 30


def long_tail_chart(learned: npt.NDArray[np.int64], judged: npt.NDArray[np.int64], unit: str, names: tuple[str, str]) -> str:
    """Numbers of each label, the most frequent first.

    Args:
        learned, judged: [K], of what is trained on and what is held out; names: of the two.
        unit: of what is counted.
    """
    order = np.argsort(-learned, kind="stable")
    place = np.unique(np.linspace(0, len(order) - 1, min(len(order), _MOST_STEPS)).round().astype(int))
    shown, rank = order[place], place + 1
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        axes.fill_between(rank, learned[shown], step="mid", color=ACCENT, alpha=0.25, linewidth=0)
        axes.step(rank, learned[shown], where="mid", color=ACCENT, label=names[0])
        if judged.any():
            axes.plot(rank, judged[shown], ".", color=QUIET, markersize=6, label=names[1])
            axes.legend(labelcolor=INK)
        if learned.max() > _LOG_FROM_TIMES * max(1, learned.min()):
            axes.set_yscale("symlog", linthresh=1)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        else:
            _whole_numbers(axes)
        axes.set(xlabel="labels, the most frequent first", ylabel=unit, xlim=(0.5, len(order) + 0.5))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return svg(figure, f"{unit} of each label, the most frequent first")


def sizes_chart(values: npt.NDArray[np.float64], xlabel: str, ylabel: str, marks: Sequence[tuple[float, str]] = ()) -> str:
    """How often sizes in pixels occur, on a logarithmic axis; marks are lines with a word."""
    low, high = max(1.0, float(values.min())), max(2.0, float(values.max()))
    if high < 1.5 * low:  # all but one size: room beside it, and a line under what is usual
        low, high = low / 2, high * 2
    edges = np.geomspace(low * 0.98, high * 1.02, _BINS + 1)
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        tallest = float(np.histogram(values, edges)[0].max())
        axes.hist(values, bins=edges.tolist(), color=ACCENT, linewidth=0)
        axes.set_xscale("log")
        for place, word in marks:
            if edges[0] <= place <= edges[-1]:
                axes.axvline(place, color=QUIET, linewidth=1.5, dashes=(4, 4))
                axes.text(place, tallest * 1.04, f" {word}", color=INK, fontsize=10, ha="left", va="bottom")
        ticks = _round_ticks(edges[0], edges[-1])
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, tallest * 1.16))
        _whole_numbers(axes)
        return svg(figure, f"{ylabel} by {xlabel}")


def counts_chart(values: npt.NDArray[np.int64], xlabel: str, ylabel: str) -> str:
    """How often each whole number occurs; what is over the 99th percentile is one bar."""
    most = int(max(1, np.quantile(values, 0.99)))
    numbers = np.bincount(np.minimum(values, most + 1), minlength=most + 2)
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        axes.bar(np.arange(len(numbers)), numbers, color=ACCENT, width=0.85)
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.6, most + 0.6 + bool(numbers[-1])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}" + ("+" if value == most + 1 else "")))
        _whole_numbers(axes)
        return svg(figure, f"{ylabel} by {xlabel}")


def _whole_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _round_ticks(low: float, high: float) -> list[float]:
    """A few round numbers between: 1, 2 and 5 times powers of ten; where there is none, the ends."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)):
        inside = [digit * 10.0**power for power in range(1, 6) for digit in digits if low <= digit * 10.0**power <= high]
        if len(inside) >= 3:
            return inside
    return sorted({round(low), *inside, round(high)})
