"""One thing that a person should know of a data set, and how it is put into words."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from prodrec.errors import shown_url

# From which share of the images on a fault is no accident any more. Source: assumed.
LARGE_SHARE = 0.1
# Examples of a finding, pictures of each, and names in its sentence. Source: assumed; what fits into a card and a line.
MOST_EXAMPLES, MOST_PICTURES, MOST_NAMES = 8, 4, 3
_LONGEST_NAME = 60


class Severity(StrEnum):
    """SERIOUS: what is trained or judged on this is wrong. WARNING: it costs accuracy, or trust in the figures. NOTE: good to know."""

    SERIOUS = "serious"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
        code: of its kind.
        text, advice: sentences: what was found, and what to do.
        share: of the images (or boxes, or labels) it is about, 0..1: among equally severe ones the larger comes first.
        labels: that it is about; those that belong together in one tuple.
        examples: positions of images in the facts; those that belong together in one tuple.
    """

    code: str
    severity: Severity
    text: str
    advice: str
    share: float
    labels: tuple[tuple[str, ...], ...] = ()
    examples: tuple[tuple[int, ...], ...] = ()

    @property
    def line(self) -> str:
        return f"{self.text} {self.advice}"


def counted(number: int, word: str, words: str = "") -> str:
    """`1 image`, `1,204 images`."""
    return f"{number:,} {word if number == 1 else words or f'{word}s'}"


def named(names: Sequence[str], quote: bool = True) -> str:
    """`'cup', 'mug', 'jug' and 12 more`."""
    first = [f"'{shortened(name)}'" if quote else shortened(name, 2 * _LONGEST_NAME) for name in names[:MOST_NAMES]]
    more = len(names) - len(first)
    if more:
        return f"{', '.join(first)} and {more:,} more"
    return " and ".join(filter(None, [", ".join(first[:-1]), first[-1]]))


def shortened(text: str, most: int = _LONGEST_NAME) -> str:
    """One line of so many characters at most, its middle left out; addresses without what is secret in them."""
    text = " ".join(shown_url(text).split())
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"


def reported(uri: str, detail: str) -> str:
    """`place: reason`, the place once."""
    return f"{shortened(uri, 120)}: {shortened(detail.removeprefix(f'{uri}: '), 160)}"


def alike(rows: pd.DataFrame, key: str, differ: str) -> tuple[tuple[int, ...], ...]:
    """Positions of rows with one key, the first groups alone; of each group those that differ first."""
    groups = []
    for value in rows[key].unique()[:MOST_EXAMPLES]:
        group = rows[rows[key] == value]
        groups.append(tuple(group.index[group[differ].duplicated().argsort(kind="stable")][:MOST_PICTURES]))
    return tuple(groups)


def single(positions: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The first positions, each an example by itself."""
    return tuple((position,) for position in positions[:MOST_EXAMPLES])
