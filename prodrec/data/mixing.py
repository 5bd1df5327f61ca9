"""Mixed pictures of a batch, for taggers: few photos of one large thing each teach neither small things nor things side by side.

Draws from torch's generator. Shapes: images_BCHW uint8 [B, 3, S, S]; frames and sources of the objects stay those of the
pictures before, as training does not use them.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torchvision.transforms.v2 import functional as F

from prodrec.data.objects import Objects

# Share of the side where the four tiles meet. Source: assumed; no tile is narrower than 0.3.
_CENTRE = (0.3, 0.7)
# Size of a pasted object as a share of its own, and how far its middle lies from that of its neighbour, as a share of the distance
# at which they would only touch. Source: assumed.
_SCALE, _DISTANCE = (0.6, 1.2), (0.5, 1.1)
# What is there already stays visible by this share. Source: as scenes, `data.sample.scene_set`.
_LEAST_VISIBLE = 0.6
_TRIALS = 5

Mixed = tuple[torch.Tensor, Objects]


def mix(images_BCHW: torch.Tensor, objects: Objects) -> Mixed:
    """Mosaic or pasted objects, as often the one as the other."""
    return mosaic(images_BCHW, objects) if torch.rand(()) < 0.5 else paste(images_BCHW, objects)


def mosaic(images_BCHW: torch.Tensor, objects: Objects) -> Mixed:
    """As many pictures as before, each of four squashed into tiles; every picture is shown four times.

    Source: Bochkovskiy et al. 2020 (arXiv 2004.10934), section 3.3.
    """
    side = images_BCHW.shape[-1]
    x, y = (round(_uniform(*_CENTRE) * side) for _ in range(2))
    tiled, pictures, tiles = torch.empty_like(images_BCHW), objects.pictures(), []
    for left, top, width, height in ((0, 0, x, y), (x, 0, side - x, y), (0, y, x, side - y), (x, y, side - x, side - y)):
        chosen = torch.randperm(len(images_BCHW))
        tiled[:, :, top : top + height, left : left + width] = F.resize(images_BCHW[chosen], [height, width], antialias=True)
        scale, corner = (objects.boxes_M4.new_tensor(pair * 2) for pair in ([width / side, height / side], [left, top]))
        tiles.append([pictures[number].moved(scale, corner) for number in chosen.tolist()])
    return tiled, _joined(list(zip(*tiles, strict=True)), objects)


def paste(images_BCHW: torch.Tensor, objects: Objects) -> Mixed:
    """Each picture gets an object of another, box and all, beside or partly over one of its own.

    Source: Dwibedi et al. 2017 (arXiv 1708.01642), here with whole boxes, as no masks are known.
    """
    pasted, pictures, found = images_BCHW.clone(), objects.pictures(), []
    for number, donor in enumerate(torch.randperm(len(pictures)).tolist()):
        found.append([pictures[number]])
        if (chosen := _any_object(pictures[donor])) is None:
            continue
        left, top, right, bottom = pictures[donor].boxes_M4[chosen].round().int().tolist()
        scale = _uniform(*_SCALE)
        size = [max(1, min(images_BCHW.shape[-1], round(side * scale))) for side in (bottom - top, right - left)]
        if (place := _place(size, pictures[number].boxes_M4, images_BCHW.shape[-1])) is None:
            continue
        crop = images_BCHW[donor, :, top:bottom, left:right]
        pasted[number, :, place[1] : place[3], place[0] : place[2]] = F.resize(crop, size, antialias=True)
        given = pictures[donor].kept(torch.arange(len(pictures[donor].labels_M), device=chosen.device) == chosen)
        found[number].append(replace(given, boxes_M4=given.boxes_M4.new_tensor([place])))
    return pasted, _joined(found, objects)


def _any_object(picture: Objects) -> torch.Tensor | None:
    """Number of one of a picture's objects of two pixels and more."""
    sides_M2 = picture.boxes_M4[:, 2:] - picture.boxes_M4[:, :2]
    usable = ((sides_M2 >= 2).all(1) & ~picture.crowd_M).nonzero()[:, 0]
    return usable[int(torch.randint(len(usable), ()))] if len(usable) else None


def _place(size: list[int], boxes_M4: torch.Tensor, side: int) -> list[int] | None:
    """Where a thing of (height, width) goes, xyxy; None where it would hide one of the boxes."""
    height, width = size
    for _ in range(_TRIALS):
        x, y = _uniform(0, side), _uniform(0, side)
        if len(boxes_M4):
            left, top, right, bottom = boxes_M4[int(torch.randint(len(boxes_M4), ()))].tolist()
            angle, distance = _uniform(0, 2 * math.pi), _uniform(*_DISTANCE)
            x = (left + right) / 2 + distance * math.cos(angle) * (right - left + width) / 2
            y = (top + bottom) / 2 + distance * math.sin(angle) * (bottom - top + height) / 2
        low_x, low_y = (round(min(max(0, middle - extent / 2), side - extent)) for middle, extent in ((x, width), (y, height)))
        placed = [low_x, low_y, low_x + width, low_y + height]
        if (_shown(boxes_M4, placed) >= _LEAST_VISIBLE).all():
            return placed
    return None


def _shown(boxes_M4: torch.Tensor, cover: list[int]) -> torch.Tensor:
    """Share of each box that a rectangle leaves uncovered, [M]."""
    over_4 = boxes_M4.new_tensor(cover)
    shared_M = (torch.minimum(boxes_M4[:, 2:], over_4[2:]) - torch.maximum(boxes_M4[:, :2], over_4[:2])).clamp(min=0).prod(1)
    return 1 - shared_M / (boxes_M4[:, 2:] - boxes_M4[:, :2]).prod(1).clamp(min=1e-6)


def _joined(parts: Sequence[Sequence[Objects]], before: Objects) -> Objects:
    """The objects of each picture as one batch."""
    flat = Objects.joined([part for picture in parts for part in picture])
    counts_B = torch.stack([torch.cat([part.counts_B for part in picture]).sum() for picture in parts])
    return replace(flat, counts_B=counts_B, frames_B4=before.frames_B4, sources_B2=before.sources_B2)


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))
