import gc
import threading
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.shards.ahead import Ahead
from prodrec.shards.feed import Feed, Pass, batches
from prodrec.shards.order import epoch_order, sequential_order
from prodrec.shards.reading import SplitIndex, open_shards
from prodrec.shards.stream import decode_batch, decode_pixels, eval_transform, train_transform

SPEC = PreprocessSpec(size=24)
DEADLINE_S = 30


def epoch_pass(split, transform=None, **kwargs):
    transform = transform or train_transform(SPEC, AugmentConfig(policy="heavy"), seed=5, epoch=kwargs.get("epoch", 0))
    return Pass(split, epoch_order(split.row_group_sizes, 16, **kwargs), transform)


def epoch(split, threads=2, transform=None, away=None, **kwargs):
    return list(batches(epoch_pass(split, transform, **kwargs), threads, away=away))


def tables_of(one):
    return (one.split.read(window) for window in one.order.windows)


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

    def in_crumbs(one):
        for table in tables_of(one):
            yield from (table.slice(start, 7) for start in range(0, table.num_rows, 7))

    assert same(expected, epoch(split, away=in_crumbs))
    assert same(expected, epoch(split, away=lambda one: iter([pa.concat_tables(list(tables_of(one)))])))
    assert not same(expected, epoch(split, epoch=1))


def test_decoding_away_from_the_consumer_gives_the_same_batches(split):
    transform = train_transform(SPEC, AugmentConfig(policy="trivial"), seed=5, epoch=0)
    away = epoch(split, transform=transform, away=lambda one: (decode_pixels(t, transform) for t in tables_of(one)))
    assert same(epoch(split, transform=transform), away)


def test_lanes_of_one_worker_make_the_batches_of_two(split):
    alone = epoch(split, lanes=2)
    pair = [epoch(split, lanes=2, rank=rank, world_size=2) for rank in range(2)]
    for one, *two in zip(alone, *pair, strict=True):
        assert torch.equal(one.images, torch.cat([b.images for b in two]))


def test_looking_gives_the_images_in_order(split):
    one = Pass(split, sequential_order(np.arange(split.rows), 10), eval_transform(SPEC))
    assert torch.cat([b.rows for b in batches(one, 2)]).tolist() == list(range(split.rows))


def test_passes_that_follow_each_other_are_those_that_stand_alone(split):
    looked_at = Pass(split, sequential_order(np.arange(40), 10, window_rows=16), eval_transform(SPEC))
    nothing = Pass(split, sequential_order(np.arange(0), 10), eval_transform(SPEC))
    plan = [epoch_pass(split), looked_at, nothing, epoch_pass(split, epoch=1, lanes=2, window_row_groups=1)]
    feed = Feed(iter(plan), 3)
    for one in plan:
        planned, found = feed.next_pass()
        assert planned is one
        assert same(list(found), list(batches(one, 1)))
    with pytest.raises(StopIteration):
        feed.next_pass()


def test_a_pass_that_was_left_early_is_no_part_of_the_next(split):
    first, second = epoch_pass(split), epoch_pass(split, epoch=1)
    feed = Feed([first, second], 2)
    next(feed.next_pass()[1])
    planned, found = feed.next_pass()
    assert planned is second
    assert same(list(found), list(batches(second, 1)))


@dataclass(frozen=True)
class WatchedSplit(SplitIndex):
    """Tells which windows are asked for, by their first row."""

    asked: dict = None

    def read(self, window):
        self.asked[int(window.rows[0])].set()
        return super().read(window)


def test_the_next_windows_are_read_while_the_consumer_computes_and_over_the_end_of_a_pass(split):
    """Waits on what is read, never on a clock: a source that reads on demand never gets there."""
    asked = {first: threading.Event() for first in range(0, 72, 18)}
    watched = WatchedSplit(split.uri, split.files, split.columns, split.label_ids, split.index, asked)
    plan = [Pass(watched, sequential_order(rows, 18, window_rows=18), eval_transform(SPEC)) for rows in np.split(np.arange(72), 2)]
    _, found = Feed(plan, 1).next_pass()
    next(found)
    assert all(event.wait(DEADLINE_S) for event in asked.values())


def test_decoding_goes_on_while_the_consumer_computes(split):
    decoded = [threading.Event() for _ in range(4)]

    def transform(image, row, occurrence):
        decoded[row // 10].set()
        return image[:, :24, :24]

    found = batches(Pass(split, sequential_order(np.arange(40), 10), transform), threads=2)
    next(found)
    assert decoded[1].wait(DEADLINE_S)
    assert decoded[2].wait(DEADLINE_S)


def test_an_error_in_any_thread_reaches_the_consumer_in_its_place(split):
    def broken(image, row, occurrence):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        epoch(split, transform=broken)

    def torn(one):
        yield one.split.read(one.order.windows[0]).slice(0, 40)
        raise OSError("the store is away")

    found = batches(epoch_pass(split), 2, away=torn)
    assert len(next(found).rows) == 14
    with pytest.raises(OSError, match="away"):
        list(found)


def test_threads_end_when_nobody_takes_any_more(split):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name.startswith(("ahead", "decode", "read"))}

    before = threads()
    found = batches(epoch_pass(split), 2)
    next(found)
    own = threads() - before
    assert len(own) > 2
    del found
    gc.collect()
    for thread in own:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_an_iterator_worked_ahead_keeps_its_order_and_its_end():
    ahead = Ahead(iter(range(50)), 3)
    assert all(b == a + 1 for a, b in pairwise(ahead))
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(ahead)


def test_no_more_is_made_ahead_than_there_is_room_for():
    made, full = [], threading.Event()

    def numbers():
        for number in range(100):
            made.append(number)
            if number == 3:
                full.set()
            yield number

    ahead = Ahead(numbers(), 3)
    assert full.wait(DEADLINE_S)
    assert made == [0, 1, 2, 3]
    ahead.close()


def test_a_batch_for_a_gpu_has_its_targets_page_locked_too(split, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.dtype) or tensor)
    table = split.read(sequential_order(np.arange(4), 4).windows[0])
    decode_batch(table, eval_transform(SPEC), pin_memory=True)
    assert pinned == [torch.uint8, torch.int64]
