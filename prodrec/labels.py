"""The labels of a data set."""

from prodrec.config import Frozen


def label_order(name: str) -> tuple[int, int, str]:
    """Sort key: numbers as numbers, before words."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


class Label(Frozen):
    """One class of a data set; its id is its position in the manifest's list."""

    name: str
    group: str | None = None
