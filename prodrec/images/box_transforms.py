"""From a prepared image and its boxes to a model input and its boxes: crop, flip, scale, place, light.

Geometry is done by torchvision.transforms.v2's kernels on tv_tensors, so that picture and boxes cannot part. As for
classifiers, every draw comes from a generator of its own (see `augment`). Shapes: image_CHW uint8 [3, H, W] RGB.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.images.augment import jitter
from prodrec.images.objects import Objects
from prodrec.images.transforms import PAD_GREY

# An object of which a crop leaves less than this share would be learned from a scrap. Source: assumed.
_LEAST_VISIBLE = 0.3
# Crops that are tried before the whole picture is taken. Source: torchvision RandomIoUCrop, a quarter of its 40 trials.
_TRIALS = 10
_CROP_RATIO = (1 / 2, 2.0)  # Source: torchvision RandomIoUCrop.
_JITTER = 0.3  # of brightness, contrast and saturation. Source: assumed.

Placed = tuple[torch.Tensor, Objects]


def place(image_CHW: torch.Tensor, objects: Objects, spec: PreprocessSpec) -> Placed:
    """The evaluation transform: the whole picture on a square of side S; boxes and frame go with it."""
    size = (spec.size, spec.size)
    if spec.resize == "squash":
        return _resized(image_CHW, objects, size)
    height, width = image_CHW.shape[-2:]
    scale = spec.size / max(height, width)
    fitted = max(1, round(height * scale)), max(1, round(width * scale))
    return _padded(*_resized(image_CHW, objects, fitted), spec.size, (spec.size - fitted[1]) // 2, (spec.size - fitted[0]) // 2)


def augment_boxes(image_CHW: torch.Tensor, objects: Objects, spec: PreprocessSpec, config: AugmentConfig, rng: np.random.Generator) -> Placed:
    """The training transform: a crop that keeps objects, a flip, a place and size of its own on the square, light.

    Args:
        config: `policy` none switches all off; `min_crop_area`, `flip` and `zoom_out` are used.
    """
    if config.policy == "none":
        return place(image_CHW, objects, spec)
    if config.min_crop_area < 1:
        image_CHW, objects = _random_crop(image_CHW, objects, config.min_crop_area, rng)
    if rng.random() < config.flip:
        image_CHW, objects = _moved(image_CHW, objects, F.horizontal_flip)
    share = rng.uniform(config.zoom_out, 1) if config.zoom_out < 1 else 1.0
    height, width = image_CHW.shape[-2:]
    scale = share * spec.size / max(height, width)
    stretch = (share * spec.size,) * 2 if spec.resize == "squash" else (height * scale, width * scale)
    fitted = tuple(max(1, round(side)) for side in stretch)
    left, top = (int(rng.integers(spec.size - side + 1)) for side in (fitted[1], fitted[0]))
    image_CHW, objects = _resized(image_CHW, objects, (fitted[0], fitted[1]))
    return _padded(jitter(image_CHW, rng, strength=_JITTER, hue=0), objects, spec.size, left, top)


def _random_crop(image_CHW: torch.Tensor, objects: Objects, min_area: float, rng: np.random.Generator) -> Placed:
    """A crop that shows at least one object by its larger part, or any crop where there are none."""
    height, width = image_CHW.shape[-2:]
    for _ in range(_TRIALS):
        area, ratio = height * width * rng.uniform(min_area, 1), np.exp(rng.uniform(*np.log(_CROP_RATIO)))
        h, w = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if not (0 < h <= height and 0 < w <= width):
            continue
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        cut = objects.boxes_M4.clone()
        cut[:, 0::2], cut[:, 1::2] = cut[:, 0::2].clamp(left, left + w), cut[:, 1::2].clamp(top, top + h)
        visible = _areas(cut) / _areas(objects.boxes_M4).clamp(min=1e-6) >= _LEAST_VISIBLE
        if len(objects.labels_M) and not (visible & ~objects.crowd_M).any():
            continue
        image, moved = _moved(image_CHW, objects, partial(F.crop, top=top, left=left, height=h, width=w))
        return image, moved.kept(visible)
    return image_CHW, objects


def _areas(boxes_N4: torch.Tensor) -> torch.Tensor:
    return (boxes_N4[:, 2] - boxes_N4[:, 0]) * (boxes_N4[:, 3] - boxes_N4[:, 1])


def _resized(image_CHW: torch.Tensor, objects: Objects, size: tuple[int, int]) -> Placed:
    return _moved(image_CHW, objects, lambda item: F.resize(item, list(size), antialias=True))


def _padded(image_CHW: torch.Tensor, objects: Objects, side: int, left: int, top: int) -> Placed:
    height, width = image_CHW.shape[-2:]
    edges = [left, top, side - width - left, side - height - top]
    return _moved(image_CHW, objects, lambda item: F.pad(item, edges, fill=PAD_GREY))


def _moved(image_CHW: torch.Tensor, objects: Objects, move: Callable[[Any], Any]) -> Placed:
    """Moves picture, boxes and frame alike; boxes are cut off at the new edges, the frame is not."""
    height, width = image_CHW.shape[-2:]

    def boxes(values_N4: torch.Tensor, clamp: str | None) -> torch.Tensor:
        wrapped = tv_tensors.BoundingBoxes(values_N4, format="XYXY", canvas_size=(height, width), clamping_mode=clamp)
        return move(wrapped).as_subclass(torch.Tensor)

    return move(image_CHW), replace(objects, boxes_M4=boxes(objects.boxes_M4, "hard"), frames_B4=boxes(objects.frames_B4, None))
