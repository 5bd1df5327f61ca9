import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from prodrec.errors import ConfigError
from prodrec.shards.order import epoch_order, sequential_order

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def shown(order):
    return np.concatenate([w.rows for w in order.windows]) if order.windows else np.empty(0, int)


def batches_of(orders):
    """The rows of each global step, as sets, put together from the ranks."""
    steps = []
    for order in orders:
        lanes = {}
        for window in order.windows:
            lanes.setdefault(window.lane, []).extend(window.rows.tolist())
        for number, counts in enumerate(order.steps):
            steps.extend([] for _ in range(number + 1 - len(steps)))
            for lane, count in zip(lanes, counts, strict=True):
                steps[number] += [lanes[lane].pop(0) for _ in range(count)]
    return [sorted(step) for step in steps]


@given(sizes, st.integers(1, 4), st.integers(2, 12), st.integers(1, 3), st.integers(0, 3))
def test_every_row_is_shown_exactly_once_an_epoch(groups, world, per_rank, window, epoch):
    assume(sum(groups) >= world)
    orders = [epoch_order(groups, per_rank * world, rank=r, world_size=world, window_row_groups=window, epoch=epoch) for r in range(world)]
    assert sorted(np.concatenate([shown(o) for o in orders])) == list(range(sum(groups)))
    assert len({len(o.steps) for o in orders}) == 1
    per_step = sum(o.steps.sum(axis=1) for o in orders)
    assert per_step.sum() == sum(groups)
    assert per_step.max() <= per_rank * world + world
    assert min(o.steps.min() for o in orders) >= 1
    if len(per_step) > 1:
        assert per_step.min() >= per_rank * world / 2 - world


@given(sizes, st.integers(4, 12), st.integers(0, 5))
def test_worker_counts_that_divide_the_lanes_see_the_same_batches(groups, half, seed):
    assume(sum(groups) >= 4)
    seen = []
    for world in (1, 2, 4):
        seen.append(batches_of([epoch_order(groups, 2 * half, rank=r, world_size=world, lanes=4, seed=seed) for r in range(world)]))
    assert seen[0] == seen[1] == seen[2]


@given(sizes, st.integers(2, 4), st.integers(4, 12), st.integers(0, 4))
def test_what_is_left_of_an_epoch_is_the_same_steps(groups, lanes, half, step):
    assume(sum(groups) >= lanes)
    whole = epoch_order(groups, 2 * half, lanes=lanes, window_row_groups=2)
    assert batches_of([whole.after(step)]) == batches_of([whole])[step:]
    shares = [whole.after(step).divided(lanes).share(rank, lanes) for rank in range(lanes)]
    alone = [epoch_order(groups, 2 * half, rank=rank, world_size=lanes, lanes=lanes, window_row_groups=2).after(step) for rank in range(lanes)]
    assert batches_of(shares) == batches_of(alone) == batches_of([whole])[step:]


@given(sizes, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))
def test_what_is_left_of_an_epoch_is_shown_once_by_other_numbers_of_workers(groups, first, second, step, later):
    assume(sum(groups) >= 3)
    whole = epoch_order(groups, 8, lanes=first)
    left = whole.after(step).divided(second)
    assert len(left.steps) == len(whole.steps[step:])
    again = left.after(later).divided(3)
    taken = [row for rows in (batches_of([whole])[:step] + batches_of([left])[:later]) for row in rows]
    orders = [again.share(rank, 3) for rank in range(3)]
    assert sorted(taken + np.concatenate([shown(order) for order in orders]).tolist()) == list(range(sum(groups)))
    assert all(order.steps.min(initial=1) >= 1 for order in orders)


def test_epochs_and_seeds_differ_and_repeat():
    groups = [50] * 8
    first = shown(epoch_order(groups, 16, seed=1, epoch=1))
    assert (first == shown(epoch_order(groups, 16, seed=1, epoch=1))).all()
    assert (first != shown(epoch_order(groups, 16, seed=1, epoch=2))).any()
    assert (first != shown(epoch_order(groups, 16, seed=2, epoch=1))).any()


def test_repeat_factors_come_out_on_average_and_number_their_showings():
    repeats = np.array([0.25] * 4000 + [1.0] * 100 + [2.5] * 4000)
    order = epoch_order([len(repeats)], 64, repeats=repeats)
    rows, nth = shown(order), np.concatenate([w.occurrence for w in order.windows])
    times = np.bincount(rows, minlength=len(repeats))
    assert times[:4000].mean() == pytest.approx(0.25, abs=0.03)
    assert (times[4000:4100] == 1).all()
    assert set(times[4100:]) == {2, 3}
    assert times[4100:].mean() == pytest.approx(2.5, abs=0.03)
    assert len(set(zip(rows, nth, strict=True))) == len(rows)
    assert set(nth[rows == 4200]) == set(range(times[4200]))


def test_showings_of_one_row_are_spread_over_their_window():
    repeats = np.array([3.0] * 200 + [1.0] * 800)
    [window] = epoch_order([len(repeats)], 64, repeats=repeats).windows
    order = window.rows
    places = [np.flatnonzero(order == row) for row in range(200)]
    assert all(len(found) == 3 for found in places)
    assert min(np.diff(found).min() for found in places) > len(order) / 3 * 0.8
    once = np.flatnonzero(order >= 200)
    assert abs(np.corrcoef(np.arange(len(once)), order[once])[0, 1]) < 0.15


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ConfigError, match="multiple of the workers"):
        epoch_order([100], 16, world_size=2, lanes=3)
    with pytest.raises(ConfigError, match="two images"):
        epoch_order([100], 4, world_size=4)
    with pytest.raises(ConfigError, match="fewer workers"):
        epoch_order([3], 16, world_size=4)


@given(st.integers(0, 200), st.integers(1, 4), st.integers(1, 40))
def test_looking_at_rows_takes_each_once_in_order(count, world, batch):
    orders = [sequential_order(np.arange(count), batch, rank=r, world_size=world, window_rows=32) for r in range(world)]
    assert np.concatenate([shown(o) for o in orders]).tolist() == list(range(count))
    assert all(o.steps.sum() == len(shown(o)) and (o.steps <= batch).all() for o in orders)
