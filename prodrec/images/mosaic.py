"""Mosaic: pictures of a batch tiled by four, so that objects come smaller, in company and in other shapes.

Source: Bochkovskiy et al. 2020 (arXiv 2004.10934), section 3.3, here with whole pictures squashed into their tiles.
"""

import torch
from torchvision.transforms.v2 import functional as F

from prodrec.images.objects import Objects

# Share of the side where the four tiles meet. Source: assumed; no tile is narrower than 0.3.
_CENTRE = (0.3, 0.7)


def mosaic(images_BCHW: torch.Tensor, objects: Objects) -> tuple[torch.Tensor, Objects]:
    """As many pictures as before, each of four; every picture is shown four times. Draws from torch's generator.

    Args:
        images_BCHW: uint8 [B, 3, S, S].

    Returns:
        Images of the same shape, and their objects; frames and sources are those of the pictures before.
    """
    side = images_BCHW.shape[-1]
    x, y = (torch.empty(2).uniform_(*_CENTRE) * side).round().int().tolist()
    tiled, pictures, tiles = torch.empty_like(images_BCHW), objects.pictures(), []
    for left, top, width, height in ((0, 0, x, y), (x, 0, side - x, y), (0, y, x, side - y), (x, y, side - x, side - y)):
        chosen = torch.randperm(len(images_BCHW))
        tiled[:, :, top : top + height, left : left + width] = F.resize(images_BCHW[chosen], [height, width], antialias=True)
        scale, corner = (objects.boxes_M4.new_tensor(pair * 2) for pair in ([width / side, height / side], [left, top]))
        tiles.append([pictures[number].moved(scale, corner) for number in chosen.tolist()])
    joined = [Objects.joined(parts) for parts in zip(*tiles, strict=True)]
    boxes_M4, labels_M, crowd_M = (torch.cat([getattr(part, name) for part in joined]) for name in ("boxes_M4", "labels_M", "crowd_M"))
    counts_B = torch.stack([part.counts_B.sum() for part in joined])
    return tiled, Objects(boxes_M4, labels_M, crowd_M, counts_B, objects.frames_B4, objects.sources_B2)
