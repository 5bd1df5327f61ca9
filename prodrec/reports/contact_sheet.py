"""Which images show at a glance what a data set holds: some of the most frequent and of the rarest labels."""

from dataclasses import dataclass

import numpy as np

from prodrec.shards.facts import Facts

# Source: assumed; a screen of each kind.
MOST_OF_A_KIND, IMAGES_EACH = 8, 4


@dataclass(frozen=True)
class SheetRow:
    """A label with some of its images, by position."""

    label: str
    number: int
    is_rare: bool
    positions: list[int]


def contact_sheet(facts: Facts) -> list[SheetRow]:
    """The most frequent labels, then the rarest; images of each spread evenly over its own."""
    total = facts.counts["total"].sort_values(ascending=False, kind="stable")
    frequent = total.index[:MOST_OF_A_KIND]
    rare = total.index[::-1][: min(MOST_OF_A_KIND, max(0, len(total) - len(frequent)))]
    shown = facts.labelled[facts.labelled["label"].isin({*frequent, *rare})]
    images = {label: group.unique() for label, group in shown.groupby("label")["image"]}
    return [SheetRow(label, int(total[label]), is_rare, _spread(images[label])) for labels, is_rare in ((frequent, False), (rare, True)) for label in labels]


def _spread(positions: np.ndarray) -> list[int]:
    places = np.linspace(0, len(positions) - 1, min(IMAGES_EACH, len(positions))).round().astype(int)
    return [int(position) for position in positions[places]]
