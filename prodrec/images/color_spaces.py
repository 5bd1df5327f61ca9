"""ICC profiles of the colour spaces that files name by a number (cICP, nclx), by gamma and primaries (PNG), or by a tag (DCF).

A profile is what colour management reads; so all that a file may say comes to one thing. Source: ICC.1:2010 (matrix/TRC
profiles), ITU-T H.273 (code points), DCF 2.0 (Adobe RGB as an option).
"""

import struct
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_D50 = np.array([0.9642, 1.0, 0.8249])
# Bradford's cone responses. Source: ICC.1:2010, annex E.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65 = (0.3127, 0.3290)

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""x, y of red, green, blue and white."""

_BT709: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
# Source: H.273, table 2.
_PRIMARIES: dict[int, Primaries] = {
    1: _BT709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
# White of a picture in PQ, cd/m2: brighter is clipped. Source: ITU-R BT.2408, reference white.
_PQ_WHITE = 203.0
_TABLE = np.linspace(0, 1, 4096)


class Space(NamedTuple):
    """Primaries, and linear light [0, 1] for 4,096 steps of the coded value, or an exponent."""

    primaries: Primaries
    curve: float | npt.NDArray[np.float64]


@cache
def by_code_points(primaries: int, transfer: int) -> bytes | None:
    """The profile that two code points of H.273 name; None where they say nothing, or the same as sRGB."""
    curve = _curve(transfer)
    if (curve is None and primaries in (1, 2)) or primaries not in _PRIMARIES:
        return None
    return profile(Space(_PRIMARIES[primaries], _srgb() if curve is None else curve))


@lru_cache(maxsize=64)
def by_gamma(gamma: float | None, primaries: Primaries | None) -> bytes | None:
    """The profile of a PNG's gAMA (1 / exponent) and cHRM; None where they say the same as sRGB, or nothing that can be."""
    exponent = 1 / gamma if gamma else 2.2
    if not 0.2 <= exponent <= 5 or (primaries and not all(0 < y < 1 and 0 <= x < 1 for x, y in primaries)):
        return None
    curve = _srgb() if abs(exponent - 2.2) < 0.05 else exponent
    return profile(Space(primaries or _BT709, curve))


@cache
def adobe_rgb() -> bytes:
    """Adobe RGB (1998)."""
    return profile(Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), 563 / 256))


def profile(space: Space) -> bytes:
    """A matrix/TRC profile, version 2."""
    colorants = _to_d50(space.primaries)
    tags = [(b"desc", _desc(b"prodrec")), (b"wtpt", _xyz(_D50))]
    tags += [(name, _xyz(column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants.T, strict=True)]
    tags += [(name, _curve_tag(space.curve)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s12x4s28x", offset + len(body), b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return header + struct.pack(">III", *(round(value * 65536) for value in _D50)) + bytes(48) + table + body


def _to_d50(primaries: Primaries) -> npt.NDArray[np.float64]:
    """XYZ of red, green and blue as columns, as they look under D50."""
    red, green, blue, white = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in primaries)
    columns = np.stack([red, green, blue], axis=1)
    columns = columns * np.linalg.solve(columns, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(scale) @ _BRADFORD @ columns
    return adapted


def _curve(transfer: int) -> float | npt.NDArray[np.float64] | None:
    """Source: H.273, table 3. BT.709's and BT.601's curves are shown as sRGB, as browsers do."""
    if transfer == 16:
        power = _TABLE ** (1 / 78.84375)
        return np.clip(10_000 / _PQ_WHITE * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125), 0, 1)
    if transfer == 18:
        light = np.where(_TABLE <= 0.5, _TABLE**2 / 3, (np.exp((_TABLE - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        return np.clip(light / light[round(0.75 * 4095)], 0, 1)  # BT.2408: white at 75 %
    return {4: 2.2, 5: 2.8, 8: 1.0}.get(transfer)


@cache
def _srgb() -> npt.NDArray[np.float64]:
    return np.where(_TABLE <= 0.04045, _TABLE / 12.92, ((_TABLE + 0.055) / 1.055) ** 2.4)


def _curve_tag(curve: float | npt.NDArray[np.float64]) -> bytes:
    if isinstance(curve, float):
        return b"curv" + struct.pack(">IIH", 0, 1, round(curve * 256))
    return b"curv" + struct.pack(">II", 0, len(curve)) + (curve * 65535).round().astype(">u2").tobytes()


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(float(value) * 65536) for value in values))


def _desc(text: bytes) -> bytes:
    return b"desc" + struct.pack(">II", 0, len(text) + 1) + text + b"\0" + bytes(78)
