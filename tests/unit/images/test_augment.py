"""What augmentation does to a picture, by the strengths of its sources."""

import numpy as np
import pytest
import torch

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.images import augment as ops
from prodrec.images.transforms import augment

SPEC = PreprocessSpec(size=32)


def ramp(height, width):
    """Red tells the column, green the row, as shares of 255."""
    x, y = torch.linspace(0, 255, width).expand(height, width), torch.linspace(0, 255, height)[:, None].expand(height, width)
    return torch.stack([x, y, torch.zeros(height, width)]).round().to(torch.uint8)


def shown(made):
    """Shares of the width and the height of a ramp that a picture shows."""
    return [float(made[channel].max()) / 255 - float(made[channel].min()) / 255 for channel in (0, 1)]


def both(name, *place):
    """Strengths of both signs, in one of several places of the arguments."""
    return {(name, tuple(sign * value for value in place)) for sign in (1, -1)}


def around(name, least, most):
    return {(name, (least,)), (name, (most,))}


SHEAR = 44.7  # atan(0.99) in degrees
# What each operation asks torchvision for at strength 0 and at strength 1. Mueller & Hutter 2021, arXiv 2103.10158, table 7, wide.
TRIVIAL = [
    (set(), set()),
    ({("shear", (0, 0))}, both("shear", SHEAR, 0)),
    ({("shear", (0, 0))}, both("shear", 0, SHEAR)),
    ({("x", (0,))}, both("x", 32)),
    ({("y", (0,))}, both("y", 32)),
    ({("angle", (0,))}, both("angle", 135)),
    *(({(name, (1,))}, around(name, 0.01, 1.99)) for name in ("adjust_brightness", "adjust_saturation", "adjust_contrast", "adjust_sharpness")),
    ({("posterize", (8,))}, {("posterize", (2,))}),
    ({("solarize", (255,))}, {("solarize", (0,))}),
    ({("autocontrast", ())}, {("autocontrast", ())}),
    ({("equalize", ())}, {("equalize", ())}),
]


class Functions:
    """Stands for torchvision's: notes what it is asked for."""

    def __init__(self, note):
        self.note = note

    def __getattr__(self, name):
        return lambda image, *strengths: self.note(name, strengths)


@pytest.mark.parametrize("number", range(len(TRIVIAL)))
def test_trivial_augment_has_the_strengths_of_its_paper(monkeypatch, number):
    asked = set()

    def note(name, strengths):
        asked.add((name, tuple(round(float(value), 2 if name.startswith("adjust") else 1) for value in strengths)))

    monkeypatch.setattr(ops, "F", Functions(note))
    monkeypatch.setattr(ops, "_affine", lambda image, **values: [note(name, np.atleast_1d(value)) for name, value in values.items()])
    for strength, expected in zip((0.0, 1.0), TRIVIAL[number], strict=True):
        asked.clear()
        for seed in range(40):
            ops._TRIVIAL[number](None, strength, np.random.default_rng(seed))
        assert asked == expected
    assert len(ops._TRIVIAL) == len(TRIVIAL)


def test_each_operation_of_trivial_augment_is_drawn_as_often(monkeypatch):
    drawn = []
    monkeypatch.setattr(ops, "_TRIVIAL", [lambda image, m, rng, number=number: drawn.append((number, m)) for number in range(len(ops._TRIVIAL))])
    rng = np.random.default_rng(0)
    for _ in range(2800):
        ops.trivial(ramp(4, 4), rng)
    assert np.bincount([number for number, _ in drawn], minlength=14) == pytest.approx(200, abs=60)
    assert np.mean([m for _, m in drawn]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("least", [0.08, 0.5, 0.9])
def test_crops_have_the_areas_asked_for_and_no_side_that_is_much_longer(least):
    rng, found = np.random.default_rng(0), []
    for _ in range(500):
        found.append(shown(ops.random_resized_crop(ramp(240, 240), PreprocessSpec(size=64), least, rng)))
    areas, ratios = np.prod(found, axis=1), np.divide(*np.transpose(found))
    assert least - 0.05 < areas.min() < least + 0.05
    assert areas.max() > 0.93
    assert ratios.min() > 0.7 and ratios.max() < 1.43
    if least < 0.6:
        assert ratios.min() < 0.8 and ratios.max() > 1.25


@pytest.mark.parametrize(("height", "width"), [(100, 300), (300, 100), (90, 160)])
def test_long_pictures_are_cropped_and_never_squashed(height, width):
    rng, places = np.random.default_rng(0), set()
    for _ in range(200):
        made = ops.random_resized_crop(ramp(height, width), PreprocessSpec(size=64), 0.6, rng)
        across, down = np.multiply(shown(made), (width, height))
        assert 0.7 < across / down < 1.43
        places.add(int(made[:2].amin((1, 2)).max()) // 16)
    assert len(places) > 3, "anywhere along it"


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 200), (0.5, 100)])
def test_flips_and_erasures_come_as_often_as_asked_for(monkeypatch, share, expected):
    plain = {"policy": "trivial", "min_crop_area": 1.0}
    monkeypatch.setattr(ops, "_TRIVIAL", [lambda image, m, rng: image])
    made = [augment(ramp(64, 64), SPEC, AugmentConfig(flip=share, erase=0.0, **plain), np.random.default_rng(seed)) for seed in range(200)]
    assert sum(bool(picture[0, 0, 0] > picture[0, 0, -1]) for picture in made) == pytest.approx(expected, abs=25 if 0 < share < 1 else 0)
    made = [augment(ramp(64, 64), SPEC, AugmentConfig(flip=0.0, erase=share, **plain), np.random.default_rng(seed)) for seed in range(200)]
    erased = [float((picture[2] > 0).float().mean()) for picture in made]
    assert sum(part > 0 for part in erased) == pytest.approx(expected, abs=25 if 0 < share < 1 else 0)
    if share == 1:
        assert 0.01 < min(erased) < 0.06 and 0.25 < max(erased) < 0.36, "Zhong et al. 2017: 2 to 33 % of the area"
