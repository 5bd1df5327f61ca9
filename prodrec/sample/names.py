"""What the sample's products are called, and their packshots.

OUT/labels.csv           label,title,group_title,photo
OUT/packshots/LABEL.jpg  the product alone on white
"""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image

from prodrec.files import Folder
from prodrec.sample.looks import PALETTE, Look

FOLDER = "packshots"
SIDE_PX = 256  # Source: assumed; twice what a page shows
_QUALITY = 85  # of JPEG. Source: assumed

# Of PALETTE and PATTERNS, in their order.
_COLOURS = ("red", "orange", "yellow", "green", "teal", "sky blue", "navy", "purple", "pink", "cream", "brown", "charcoal", "mint")
_PATTERNS = {
    "plain": "",
    "stripes": "striped",
    "hoops": "hooped",
    "diagonal": "diagonally striped",
    "checks": "checked",
    "dots": "dotted",
    "waves": "wavy",
    "chevron": "chevron",
    "fade": "shaded",
    "split": "two-tone",
    "bands": "banded",
}


class Named(NamedTuple):
    """A label for people: `artwork` is RGBA; a title is "" where there is none."""

    label: str
    title: str
    group_title: str
    artwork: Image.Image


def appearance(look: Look) -> str:
    """`orange striped`."""
    return f"{_COLOURS[PALETTE.index(look.body)]} {_PATTERNS[look.pattern]}".strip()


def title_of(look: Look) -> str:
    """`Meadow Fresh orange striped bottle`."""
    return f"{look.brand} {look.variant.capitalize()} {appearance(look)} {look.kind}"


def group_title_of(look: Look) -> str:
    """`Meadow bottles`."""
    return f"{look.brand} {look.kind}{'es' if look.kind.endswith(('x', 'ch')) else 's'}"


def write_names(out: Folder, products: Iterable[Named]) -> None:
    """Writes labels.csv and the packshots; of labels that are named twice the first.

    Raises:
        OutputError: they cannot be written.
    """
    folder, table, seen = Folder(out / FOLDER).make(), io.StringIO(newline=""), set[str]()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("label", "title", "group_title", "photo"))
    for number, (label, title, group_title, artwork) in enumerate(products):
        if label not in seen:
            seen.add(label)
            name = f"{int(label):03d}.jpg" if label.isdecimal() and label.isascii() else f"{number:05d}.jpg"
            folder.write(name, packshot(artwork))
            rows.writerow((label, title, group_title, f"{FOLDER}/{name}"))
    out.write("labels.csv", table.getvalue().encode())


def packshot(artwork: Image.Image) -> bytes:
    """A JPEG of an RGBA picture on white."""
    small, jpeg = artwork.copy(), io.BytesIO()
    small.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    ground = Image.new("RGB", small.size, "white")
    ground.paste(small, mask=small.getchannel("A"))
    ground.save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()
