"""Names that differ in what nobody means: case, blanks, how Unicode writes the same letters, and programs the same number."""

import re
import unicodedata
from collections.abc import Iterable

# Blanks of all kinds, `_` that stands for one, and what has no width: soft hyphen, joiners, direction marks, byte order mark.
_UNSEEN = re.compile(r"[\s_\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufe00-\ufe0f]+")
# `007` that a spreadsheet made 7, and `3.0` that pandas made of 3.
_NUMBER = re.compile(r"0*(\d+?)(\.0+)?")


def near_equal(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different names that are most likely one: each sorted, the groups by their first names.

    Equal are what a person reads as equal: `Blue Mug`, `blue mug`, `blue_mug`, `Blue  Mug`, full-width and composed letters.
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(_folded(name), set()).add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def _folded(name: str) -> str:
    """Folding and composing change each other's outcome; a second round settles it. Source: Unicode 16, definition D146."""
    for _ in range(2):
        name = unicodedata.normalize("NFKC", name.casefold().replace("i\u0307", "i"))
    name = _UNSEEN.sub("", name)
    number = _NUMBER.fullmatch(name)
    return number[1] if number else name
