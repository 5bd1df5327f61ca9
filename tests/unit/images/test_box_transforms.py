"""Pictures and boxes must not part: what a box encloses is followed by its colour."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.images.box_transforms import augment_boxes, place
from prodrec.images.objects import Objects
from prodrec.shards.feed import Pass, batches
from prodrec.shards.order import epoch_order
from prodrec.shards.reading import open_shards
from prodrec.shards.stream import decode_pixels, eval_box_transform, train_box_transform

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def picture(height, width, box=None):
    """Dark, with a white box."""
    image = torch.full((3, height, width), 20, dtype=torch.uint8)
    boxes = torch.tensor([box] if box else [], dtype=torch.float32).reshape(-1, 4)
    for left, top, right, bottom in boxes.int().tolist():
        image[:, top:bottom, left:right] = 255
    count = len(boxes)
    labels = torch.zeros(count, dtype=torch.int64)
    return image, Objects(
        boxes, labels, labels.bool(), torch.tensor([count]), torch.tensor([[0.0, 0, width, height]]), torch.tensor([[2.0 * width, 2.0 * height]])
    )


@given(sizes, st.sampled_from(["pad", "squash"]))
def test_placed_boxes_go_back_to_the_original(size, how):
    height, width = size
    image, objects = picture(height, width, (0.25 * width, 0.25 * height, 0.75 * width, height))
    made, placed = place(image, objects, PreprocessSpec(size=64, resize=how))
    assert made.shape == (3, 64, 64)
    expected = torch.tensor([[0.5 * width, 0.5 * height, 1.5 * width, 2.0 * height]])
    assert torch.allclose(placed.at_source().boxes_M4, expected, atol=1e-3 * max(size))


@given(st.integers(0, 500), st.sampled_from(["pad", "squash"]))
def test_augmented_boxes_enclose_what_they_enclosed(seed, how):
    image, objects = picture(80, 60, (15, 24, 45, 64))
    config = AugmentConfig(policy="light", min_crop_area=0.3, zoom_out=0.5)
    made, moved = augment_boxes(image, objects, PreprocessSpec(size=96, resize=how), config, np.random.default_rng(seed))
    assert made.shape == (3, 96, 96)
    assert len(moved.labels_M) == 1
    white = made.float().mean(0) > 150
    rows, columns = white.any(1).nonzero(), white.any(0).nonzero()
    left, top, right, bottom = moved.boxes_M4[0].tolist()
    found = [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]
    assert found == pytest.approx([left, top, right, bottom], abs=2)


@given(sizes, st.integers(0, 99))
def test_pictures_of_any_size_without_objects(size, seed):
    made, moved = augment_boxes(*picture(*size), PreprocessSpec(size=32, resize="pad"), AugmentConfig(min_crop_area=0.2), np.random.default_rng(seed))
    assert made.shape == (3, 32, 32)
    assert len(moved.boxes_M4) == 0


@pytest.mark.parametrize("training", [True, False])
def test_decoding_on_the_way_gives_the_same_pictures_and_boxes(box_shards, training):
    split, spec = open_shards(box_shards).split("train"), PreprocessSpec(size=48, resize="pad")
    order = epoch_order(split.row_group_sizes, 8)
    transform = train_box_transform(spec, AugmentConfig(min_crop_area=0.4), 0, 1) if training else eval_box_transform(spec)
    one = Pass(split, order, transform)
    here = list(batches(one, 2))
    away = list(batches(one, 2, away=lambda one: (decode_pixels(one.split.read(window), one.transform) for window in one.order.windows)))
    assert sum(len(batch.targets) for batch in here) == split.rows
    assert any(len(batch.targets.labels_M) for batch in here)
    for a, b in zip(here, away, strict=True):
        assert torch.equal(a.images, b.images)
        for name in ("boxes_M4", "labels_M", "crowd_M", "counts_B", "frames_B4", "sources_B2"):
            assert torch.equal(getattr(a.targets, name), getattr(b.targets, name)), name


def test_a_limit_leaves_the_first_rows_of_each_split(box_shards):
    whole, cut = open_shards(box_shards), open_shards(box_shards).limited(20)
    for split in ("train", "val", "test"):
        rows = cut.split(split).rows
        assert rows == max(1, whole.split(split).rows // 3)
        assert cut.split(split).column("sha256").to_pylist() == whole.split(split).column("sha256").to_pylist()[:rows]
    order = epoch_order(cut.split("train").row_group_sizes, 4)
    one = Pass(cut.split("train"), order, eval_box_transform(PreprocessSpec(size=32)))
    seen = [row for batch in batches(one, 1) for row in batch.rows.tolist()]
    assert sorted(seen) == list(range(cut.split("train").rows))
