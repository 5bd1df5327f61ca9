"""Mosaic: pictures and boxes cannot part."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from prodrec.images.mosaic import mosaic
from prodrec.images.objects import Objects

SIDE = 96


def batch(counts, seed):
    """Black pictures with bright boxes that do not touch, each of its own grey."""
    generator = torch.Generator().manual_seed(seed)
    images, boxes = torch.zeros(len(counts), 3, SIDE, SIDE, dtype=torch.uint8), []
    for image, count in zip(images, counts, strict=True):
        for place in range(count):
            left, top = 32 * place + 4, int(torch.randint(4, 60, (), generator=generator))
            image[:, top : top + 24, left : left + 20] = 100 + 50 * place
            boxes.append([left, top, left + 20, top + 24])
    flat = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.cat([torch.arange(count) for count in counts])
    frames = torch.tensor([[0.0, 0, SIDE, SIDE]] * len(counts))
    return images, Objects(flat, labels, torch.zeros(len(flat), dtype=torch.bool), torch.tensor(counts), frames, frames[:, 2:])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 1000))
def test_every_object_comes_four_times_and_its_box_lies_on_it(counts, seed):
    images, objects = batch(counts, seed)
    torch.manual_seed(seed)
    tiled, now = mosaic(images, objects)
    assert tiled.shape == images.shape
    assert tiled.dtype == torch.uint8
    assert len(now) == len(counts)
    assert torch.bincount(now.labels_M, minlength=3).tolist() == (4 * torch.bincount(objects.labels_M, minlength=3)).tolist()
    for image, picture in zip(tiled, now.pictures(), strict=True):
        bright = (image[0] > 60).float()
        for box, label in zip(picture.boxes_M4, picture.labels_M, strict=True):
            left, top, right, bottom = box.tolist()
            inner = image[0, round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2]
            assert (inner.float() - (100 + 50 * int(label))).abs().max() < 12
            bright[max(0, round(top) - 2) : round(bottom) + 2, max(0, round(left) - 2) : round(right) + 2] = 0
        assert bright.sum() == 0, "nothing bright without a box"
