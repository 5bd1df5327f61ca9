"""Images as callers have them: bytes, files, addresses."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from prodrec.client.answers import Problem
from prodrec.client.errors import BadImage


@dataclass(frozen=True, slots=True)
class Url:
    """An address that the server is to read itself, where it allows that: of an image, or of a manifest (`s3://...`)."""

    address: str


ImageFile: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str]
Image: TypeAlias = ImageFile | Url


class Loaded(NamedTuple):
    """One image of several: its name, and its bytes or why there are none."""

    name: str
    data: bytes | Problem


def read_image(image: ImageFile) -> bytes:
    """The bytes of an image; a str is a path.

    Raises:
        BadImage: `missing`: the file cannot be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    try:
        with open(image, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        hint = "wrap an address: Url(...)" if "://" in str(image) else "check the path"
        raise BadImage(Problem(422, "missing", f"{os.fspath(image)}: {reason}", hint)) from error


def grouped(images: Iterable[ImageFile], most: int, most_bytes: int) -> Iterator[list[Loaded]]:
    """Images in order, in groups of at most `most` files and `most_bytes`; a larger image is a group of its own.

    One group and one more image are held at a time.
    """
    group: list[Loaded] = []
    held_bytes = 0
    for position, image in enumerate(images):
        loaded = _load(image, position)
        size = len(loaded.data) if isinstance(loaded.data, bytes) else 0
        if group and (len(group) == most or held_bytes + size > most_bytes):
            yield group
            group, held_bytes = [], 0
        group.append(loaded)
        held_bytes += size
    if group:
        yield group


def _load(image: ImageFile, position: int) -> Loaded:
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else str(position)
    try:
        return Loaded(name, read_image(image))
    except BadImage as error:
        return Loaded(name, error.problem)
