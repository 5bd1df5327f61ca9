"""The labels of a data set: their ids, and what people call them."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from prodrec.config import Frozen

# Of titles, characters, and of links. Source: assumed; shops allow titles of 80 to 200, browsers addresses of some 2,000.
LONGEST_TITLE, LONGEST_LINK = 400, 2000
_WEB_ADDRESS = re.compile(r"https?://[^\s/?#\\@<>\"]+[^\s<>\"\\]*", re.IGNORECASE)


def label_order(name: str) -> tuple[int, int, str]:
    """Sort key: numbers as numbers, before words."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def clean_title(text: str) -> str:
    """One line, NFC, without control characters and those that turn the direction of what follows them."""
    kept = "".join(" " if unicodedata.category(char) in {"Cc", "Zl", "Zp"} else char for char in text if char not in _TURNING)
    return " ".join(unicodedata.normalize("NFC", kept).split())


# Embeddings, overrides and isolates of the bidirectional algorithm. Source: UAX #9, section 2.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_web_address(link: str) -> bool:
    """Whether a link may stand on a page: http or https, with a host, and no other scheme, such as `javascript:`."""
    return len(link) <= LONGEST_LINK and _WEB_ADDRESS.fullmatch(link) is not None


def shown(name: str, title: str | None) -> str:
    """A label for people: `Blue striped mug (6)`, or its id alone where it has no title."""
    return f"{title} ({name})" if title else name


def _checked_link(link: str | None) -> str | None:
    """Bundles come from strangers too, and links are shown on pages."""
    if link is not None and not is_web_address(link):
        raise ValueError(f"the link {link[:80]!r} is no http(s) address")
    return link


def _is_none(value: object) -> bool:
    return value is None


# Left out of JSON where there is none: so what was written before there were titles keeps its hash.
_Known = Field(exclude_if=_is_none)


class Label(Frozen):
    """One class of a data set; its number is its position in the manifest's list.

    Attributes:
        name: its id.
        title, group_title: of it and of its group, for people.
        link: to its page in the shop; http or https.
        photo: id of its reference photo (see `prodrec.label_photos`).
    """

    name: str
    group: str | None = None
    title: Annotated[str | None, _Known] = None
    group_title: Annotated[str | None, _Known] = None
    link: Annotated[str | None, _Known, AfterValidator(_checked_link)] = None
    photo: Annotated[str | None, _Known] = None

    @property
    def shown(self) -> str:
        """For people: `Blue striped mug (6)`."""
        return shown(self.name, self.title)

    def words(self) -> dict[str, Any]:
        """How it stands in tables of figures: `label`, and `title` where it has one."""
        return {"label": self.name} | ({"title": self.title} if self.title else {})


def with_words(labels: Sequence[Label], newer: Sequence[Label]) -> list[Label]:
    """The labels as a newer data set names them, where it does. What they are - name, group, reference photo - stays where they have it."""
    said = {label.name: label for label in newer}
    return [_with_words(label, said.get(label.name, label)) for label in labels]


def _with_words(label: Label, newer: Label) -> Label:
    group = label.group if label.group is not None else newer.group
    words = {
        "group": group,
        "title": newer.title or label.title,
        "group_title": (newer.group_title if newer.group == group else None) or label.group_title,
        "link": newer.link or label.link,
        "photo": label.photo or newer.photo,
    }
    return label.model_copy(update=words)
