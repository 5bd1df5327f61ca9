"""Augmentation policies on torchvision.transforms.v2's functional kernels, with an explicit random generator.

torchvision's transform classes draw from torch's global generator: decoding threads would share it with each other and
with the model's dropout, and no run could be replayed. Here every draw comes from a generator that belongs to one
(seed, epoch, row, occurrence); so the same picture comes out with one worker or ten, local or on Ray, first time or
after a resume. image_CHW is uint8 [3, H, W] RGB.
"""

from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from prodrec.config import PreprocessSpec

Op = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]

_BILINEAR = InterpolationMode.BILINEAR
_FILL = [128.0, 128.0, 128.0]
# Source: torchvision RandomResizedCrop's default.
_CROP_RATIO = (3 / 4, 4 / 3)
# Source: Zhong et al. 2017, arXiv 1708.04896: area 2-33 %, ratio 0.3-3.3.
_ERASE_AREA, _ERASE_RATIO = (0.02, 0.33), (0.3, 3.3)


def random_resized_crop(image_CHW: torch.Tensor, spec: PreprocessSpec, min_area: float, rng: np.random.Generator) -> torch.Tensor:
    """A crop of [min_area, 1] of the picture's area and aspect 3/4 to 4/3, scaled to [3, S, S]. Source: Szegedy et al. 2014.

    A long picture has no such crop of a large area: then the largest one of an allowed aspect is taken, somewhere along it.
    """
    height, width = image_CHW.shape[-2:]
    for _ in range(10):
        area = height * width * rng.uniform(min_area, 1)
        ratio = np.exp(rng.uniform(*np.log(_CROP_RATIO)))
        h, w = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            break
    else:
        h, w = min(height, round(width / _CROP_RATIO[0])), min(width, round(height * _CROP_RATIO[1]))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return F.resized_crop(image_CHW, top, left, h, w, [spec.size, spec.size], InterpolationMode(spec.interpolation), antialias=True)


def erase(image_CHW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Overwrites a rectangle with noise."""
    height, width = image_CHW.shape[-2:]
    area = height * width * rng.uniform(*_ERASE_AREA)
    ratio = np.exp(rng.uniform(*np.log(_ERASE_RATIO)))
    h, w = min(height, max(1, round(np.sqrt(area / ratio)))), min(width, max(1, round(np.sqrt(area * ratio))))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    erased = image_CHW.clone()
    erased[:, top : top + h, left : left + w] = torch.from_numpy(rng.integers(0, 256, (3, h, w), dtype=np.uint8))
    return erased


def _affine(image: torch.Tensor, angle: float = 0, x: float = 0, y: float = 0, scale: float = 1, shear: tuple[float, float] = (0, 0)) -> torch.Tensor:
    """Angles in degrees, translation in pixels."""
    return F.affine(image, angle, [x, y], scale, list(shear), interpolation=_BILINEAR, fill=_FILL)


def jitter(image: torch.Tensor, rng: np.random.Generator, strength: float, hue: float) -> torch.Tensor:
    """Brightness, contrast and saturation by up to `strength`, hue by up to `hue` turns."""
    image = F.adjust_brightness(image, rng.uniform(1 - strength, 1 + strength))
    image = F.adjust_contrast(image, rng.uniform(1 - strength, 1 + strength))
    image = F.adjust_saturation(image, rng.uniform(1 - strength, 1 + strength))
    return F.adjust_hue(image, rng.uniform(-hue, hue)) if hue else image


def light(image_CHW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Brightness, contrast and saturation +-20 %, rotation +-10 degrees. Source: assumed."""
    return _affine(jitter(image_CHW, rng, strength=0.2, hue=0), angle=rng.uniform(-10, 10))


def _signed(rng: np.random.Generator, value: float) -> float:
    return value if rng.random() < 0.5 else -value


# TrivialAugmentWide: one operation, its strength m uniform in [0, 1], its sign random.
# Source: Mueller & Hutter 2021, arXiv 2103.10158, table 7 ("wide" space), as in torchvision.
_TRIVIAL: list[Callable[[torch.Tensor, float, np.random.Generator], torch.Tensor]] = [
    lambda image, m, rng: image,
    lambda image, m, rng: _affine(image, shear=(_signed(rng, np.degrees(np.arctan(0.99 * m))), 0)),
    lambda image, m, rng: _affine(image, shear=(0, _signed(rng, np.degrees(np.arctan(0.99 * m))))),
    lambda image, m, rng: _affine(image, x=_signed(rng, 32 * m)),
    lambda image, m, rng: _affine(image, y=_signed(rng, 32 * m)),
    lambda image, m, rng: _affine(image, angle=_signed(rng, 135 * m)),
    lambda image, m, rng: F.adjust_brightness(image, 1 + _signed(rng, 0.99 * m)),
    lambda image, m, rng: F.adjust_saturation(image, 1 + _signed(rng, 0.99 * m)),
    lambda image, m, rng: F.adjust_contrast(image, 1 + _signed(rng, 0.99 * m)),
    lambda image, m, rng: F.adjust_sharpness(image, 1 + _signed(rng, 0.99 * m)),
    lambda image, m, rng: F.posterize(image, 8 - round(6 * m)),
    lambda image, m, rng: F.solarize(image, 255 * (1 - m)),
    lambda image, m, rng: F.autocontrast(image),
    lambda image, m, rng: F.equalize(image),
]


def trivial(image_CHW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """TrivialAugmentWide."""
    return _TRIVIAL[int(rng.integers(len(_TRIVIAL)))](image_CHW, rng.random(), rng)


def _crop_and_pad(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each side moves by -10 % to +10 % of the picture."""
    height, width = image.shape[-2:]
    left, top, right, bottom = (round(rng.uniform(-0.1, 0.1) * side) for side in (width, height, width, height))
    return F.resize(F.crop(image, top, left, height - top - bottom, width - left - right), [height, width], antialias=True)


def _emboss(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    strength = rng.uniform(0.3, 1.0)
    kernel = torch.tensor([[-1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]).expand(3, 1, 3, 3)
    embossed = torch.nn.functional.conv2d(torch.nn.functional.pad(image[None].float(), [1] * 4, mode="replicate"), kernel, groups=3)[0]
    return (image.float() * (1 - strength) + embossed * strength).clamp(0, 255).to(torch.uint8)


def _random_affine(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    height, width = image.shape[-2:]
    shift = rng.uniform(-0.1, 0.1, 2) * (width, height)
    return _affine(image, x=shift[0], y=shift[1], scale=rng.uniform(0.8, 1.2), shear=(rng.uniform(-8, 8), rng.uniform(-8, 8)))


# (probability, operation). Source: the strengths of imgaug's documented "heavy augmentations" example, halved probabilities; assumed.
_HEAVY: list[tuple[float, Op]] = [
    (0.2, lambda image, rng: F.vertical_flip(image)),
    (0.05, lambda image, rng: F.invert(image)),
    (0.4, _crop_and_pad),
    (0.4, _random_affine),
    (0.3, lambda image, rng: _affine(image, angle=rng.uniform(-45, 45))),
    (0.2, lambda image, rng: F.gaussian_blur(image, [5, 5], [rng.uniform(0.3, 1.5)])),
    (0.1, _emboss),
    (0.2, lambda image, rng: F.adjust_sharpness(image, rng.uniform(1, 3))),
    (0.5, lambda image, rng: F.adjust_brightness(image, rng.uniform(0.6, 1.4))),
    (0.5, lambda image, rng: F.adjust_contrast(image, rng.uniform(0.6, 1.4))),
    (0.3, lambda image, rng: F.adjust_hue(image, rng.uniform(-0.05, 0.05))),
    (0.5, lambda image, rng: F.adjust_saturation(image, rng.uniform(0.5, 1.5))),
]


def heavy(image_CHW: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Many operations, each with its own probability."""
    for probability, op in _HEAVY:
        if rng.random() < probability:
            image_CHW = op(image_CHW, rng)
    return image_CHW


POLICIES: dict[str, Op] = {"light": light, "trivial": trivial, "heavy": heavy}
