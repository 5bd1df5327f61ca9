"""Paths that another system wrote in other letters for the same name."""

import os
import unicodedata


def as_spelled(path: str) -> str | None:
    """A local path as the disk spells it, where it is not there as it is written; None: not there either.

    Each name is looked for as it is, composed (NFC, as most programs write) and decomposed (NFD, as a Mac's zip leaves it); last, with
    backslashes for slashes, as on Windows.
    """
    for written in [path] * (not path.isascii()) + [path.replace("\\", "/")] * ("\\" in path):
        place: str | None = ""
        for name in written.split("/")[1:]:
            place = next((f"{place}/{form}" for form in forms(name) if os.path.lexists(f"{place}/{form}")), None)
            if place is None:
                break
        if place:
            return place
    return None


def forms(name: str) -> dict[str, None]:
    """A name as it is, composed and decomposed, each once."""
    return dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
