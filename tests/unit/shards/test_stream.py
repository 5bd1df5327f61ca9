import numpy as np
import pyarrow as pa
import pytest
import torch

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.shards.order import epoch_order, sequential_order
from prodrec.shards.reading import open_shards
from prodrec.shards.stream import batches, decode_pixels, eval_transform, read_windows, train_transform

SPEC = PreprocessSpec(size=24)


def epoch(split, threads=2, transform=None, change=lambda tables: tables, **kwargs):
    order = epoch_order(split.row_group_sizes, 16, **kwargs)
    transform = transform or train_transform(SPEC, AugmentConfig(policy="heavy"), seed=5, epoch=kwargs.get("epoch", 0))
    return list(batches(change(read_windows(split, order.windows)), order, transform, threads))


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def split(small_shards):
    return open_shards(small_shards).split("train")


def test_batches_hold_every_row_with_its_own_label(split):
    found = epoch(split)
    rows = torch.cat([b.rows for b in found])
    assert sorted(rows.tolist()) == list(range(split.rows))
    labels = split.column("label_id").to_numpy()
    assert (torch.cat([b.targets for b in found]).numpy() == labels[rows]).all()
    assert all(b.images.dtype == torch.uint8 and b.images.shape[1:] == (3, 24, 24) for b in found)


def test_threads_and_the_cutting_of_tables_change_nothing(split):
    expected = epoch(split, threads=1)
    assert same(expected, epoch(split, threads=4))

    def in_crumbs(tables):
        for table in tables:
            yield from (table.slice(start, 7) for start in range(0, table.num_rows, 7))

    assert same(expected, epoch(split, change=in_crumbs))
    assert same(expected, epoch(split, change=lambda tables: iter([pa.concat_tables(list(tables))])))
    assert not same(expected, epoch(split, epoch=1))


def test_decoding_away_from_the_consumer_gives_the_same_batches(split):
    transform = train_transform(SPEC, AugmentConfig(policy="trivial"), seed=5, epoch=0)
    away = epoch(split, transform=transform, change=lambda tables: (decode_pixels(t, transform) for t in tables))
    assert same(epoch(split, transform=transform), away)


def test_lanes_of_one_worker_make_the_batches_of_two(split):
    alone = epoch(split, lanes=2)
    pair = [epoch(split, lanes=2, rank=rank, world_size=2) for rank in range(2)]
    for one, *two in zip(alone, *pair, strict=True):
        assert torch.equal(one.images, torch.cat([b.images for b in two]))


def test_looking_gives_the_images_in_order(split):
    order = sequential_order(np.arange(split.rows), 10)
    found = list(batches(read_windows(split, order.windows), order, eval_transform(SPEC), 2))
    assert torch.cat([b.rows for b in found]).tolist() == list(range(split.rows))


def test_an_error_in_a_decoding_thread_reaches_the_consumer(split):
    def broken(image, row, occurrence):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        epoch(split, transform=broken)
