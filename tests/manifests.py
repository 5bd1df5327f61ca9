"""A catalogue's night: listings made of photos, some broken, some named twice, some with several images."""

import csv
import random
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Night:
    """What was written, and what must come out.

    Attributes:
        rows: of the manifest; duplicates: rows that repeat one before them; codes: of the broken images.
    """

    manifest: Path
    rows: int
    listings: int
    duplicates: int
    codes: Counter[str]


def write_night(folder: Path, photos: Sequence[Path], listings: int, seed: int = 0) -> Night:
    """A CSV manifest of listings: one image each, every tenth has two; 2 % of the images are broken in ten ways, 5 % of the rows are repeated."""
    folder.mkdir(parents=True)
    rng, broken = random.Random(seed), _write_broken(folder / "broken", photos[0].read_bytes())
    rows: list[tuple[str, str, str]] = []
    codes: Counter[str] = Counter()
    for number in range(listings):
        for _ in range(2 if number % 10 == 0 else 1):
            uri, code = rng.choice(broken) if rng.random() < 0.02 else (str(photos[rng.randrange(len(photos))]), "")
            row = (f"L{number:06d}", uri, rng.choice(["", "", "Apple"]))
            if row[:2] not in {kept[:2] for kept in rows[-1:]}:
                rows.append(row)
                codes[code] += bool(code)
    again = rng.sample(rows, len(rows) // 20)
    for row in again:
        rows.insert(rng.randrange(len(rows) + 1), row)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("listing_id", "uri", "category"), *rows])
    return Night(folder / "manifest.csv", len(rows), listings, len(again), +codes)


def _write_broken(folder: Path, photo: bytes) -> list[tuple[str, str]]:
    """Ten kinds of images that cannot be used, and the code of each."""
    folder.mkdir()
    files = {
        "empty.jpg": (b"", "not_an_image"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        "noise.jpg": (bytes(range(256)) * 8, "not_an_image"),
        "cut.jpg": (photo[: len(photo) // 2], "truncated"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
        "bomb.png": (_png(60_000, 60_000), "too_many_pixels"),
        "damaged.png": (_png(64, 64), "truncated"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    found = [(str(folder / name), code) for name, (_, code) in files.items()]
    return [*found, (str(folder / "gone.jpg"), "missing"), (str(folder), "missing"), ("https://images.example.com/1.jpg", "not_allowed")]


def _png(width: int, height: int) -> bytes:
    """A PNG whose header promises pixels that do not come."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
