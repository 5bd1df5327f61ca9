"""In which order the rows of a split are seen: pure, seeded functions of row numbers.

One epoch:

1. The row groups of the split are permuted; their rows, repeated by the repeat factor of their class, make one sequence.
2. The sequence is cut into `lanes` equal spans (sizes differ by one at most). A lane belongs to one worker; worker counts
   that divide the number of lanes see the same global batches.
3. A lane is cut into windows of neighbouring rows; each window is read at once and permuted, showings of one row far apart.
4. Every lane is cut into the same number of steps, of sizes that differ by one at most: no row is dropped, no rank runs
   out early, and no last batch is a stub.

Every random draw comes from (seed, epoch, place), never from a state, so an epoch can be replayed anywhere, and taken up
at any step (`EpochOrder.after`), even by another number of workers (`divided`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from prodrec.errors import ConfigError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Rows that are read together.

    Attributes:
        lane: the lane that shows them.
        rows: [n] row numbers in the split, in the order in which they are shown.
        occurrence: [n] 0 for the first showing of a row in this epoch, 1 for the second, ...
    """

    lane: int
    rows: Ints
    occurrence: Ints


@dataclass(frozen=True)
class EpochOrder:
    """The share of one rank in an epoch.

    Attributes:
        windows: in the order in which they are needed; lanes take turns.
        steps: [S, lanes of this rank] rows that each lane gives to each step.
    """

    windows: list[Window]
    steps: Ints

    def after(self, step: int) -> "EpochOrder":
        """What is left of it after so many steps: the same rows in the same steps."""
        taken = self.steps[:step].sum(axis=0)
        lanes = [_without_first(lane, int(count)) for lane, count in zip(self._lanes(), taken, strict=True)]
        return EpochOrder(list(_round_robin(lanes)), self.steps[step:])

    def divided(self, lanes: int) -> "EpochOrder":
        """The same rows in as many steps, of another number of lanes; where it is the same number, nothing changes."""
        windows = self.windows
        if lanes == self.steps.shape[1]:
            return self
        if not windows:
            return EpochOrder([], np.zeros((0, lanes), dtype=np.int64))
        rows, occurrence = (np.concatenate([getattr(w, name) for w in windows]) for name in ("rows", "occurrence"))
        edges = np.cumsum([len(window.rows) for window in windows])
        bounds = np.linspace(0, len(rows), lanes + 1).astype(np.int64)
        cut = []
        for lane, (low, high) in enumerate(pairwise(bounds)):
            inner = [low, *edges[(edges > low) & (edges < high)], high]
            cut.append([Window(lane, rows[a:b], occurrence[a:b]) for a, b in pairwise(inner)])
        steps = np.stack([_even(int(high - low), len(self.steps)) for low, high in pairwise(bounds)], axis=1)
        return EpochOrder(list(_round_robin(cut)), steps)

    def share(self, rank: int, world_size: int) -> "EpochOrder":
        """The lanes of one rank out of those of all ranks."""
        lanes, count = self._lanes(), self.steps.shape[1]
        own = slice(rank * count // world_size, (rank + 1) * count // world_size)
        return EpochOrder(list(_round_robin(lanes[own])), self.steps[:, own])

    def _lanes(self) -> list[list[Window]]:
        """Windows by lane, in the order of the columns of `steps`."""
        lanes: dict[int, list[Window]] = {}
        for window in self.windows:
            lanes.setdefault(window.lane, []).append(window)
        return list(lanes.values()) or [[]] * self.steps.shape[1]


def epoch_order(
    row_group_sizes: list[int],
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    lanes: int | None = None,
    window_row_groups: int = 16,
    seed: int = 0,
    epoch: int = 0,
    repeats: npt.NDArray[np.float64] | None = None,
) -> EpochOrder:
    """The rows that `rank` shows in a training epoch, in order.

    Args:
        row_group_sizes: rows of each row group of the split.
        batch_size: images of one step over all ranks.
        lanes: parallel streams of a global batch, a multiple of world_size; None: world_size.
        repeats: [N] mean number of showings of each row; None: every row exactly once.

    Raises:
        ConfigError: lanes that do not divide among the workers, or fewer rows than a step needs.
    """
    lanes = lanes or world_size
    if lanes % world_size:
        raise ConfigError(f"data.lanes {lanes} does not divide among {world_size} workers; use a multiple of the workers")
    if batch_size < 2 * lanes:
        raise ConfigError(f"train.batch_size {batch_size} is under two images for each of {lanes} lanes; raise it or use fewer workers")
    rows, occurrence = _sequence(row_group_sizes, repeats, np.random.default_rng([seed, epoch]))
    if len(rows) < lanes:
        raise ConfigError(f"the training split shows {len(rows)} images an epoch, fewer than {lanes} lanes; use fewer workers")
    bounds = np.linspace(0, len(rows), lanes + 1).astype(np.int64)
    own = range(rank * lanes // world_size, (rank + 1) * lanes // world_size)
    window_rows = max(1, window_row_groups * max(row_group_sizes))
    cut = [_windows(rows, occurrence, lane, bounds[lane], bounds[lane + 1], window_rows, [seed, epoch, lane]) for lane in own]
    count = -(-len(rows) // batch_size)
    steps = np.stack([_even(int(bounds[lane + 1] - bounds[lane]), count) for lane in own], axis=1)
    return EpochOrder(list(_round_robin(cut)), steps)


def sequential_order(rows: Ints, batch_size: int, *, rank: int = 0, world_size: int = 1, window_rows: int = 1024) -> EpochOrder:
    """The share of `rank` when rows are only looked at: in order, each once; ranks may differ in steps, even have none.

    Args:
        rows: row numbers to look at.
        batch_size: images of one step over all ranks.
    """
    own = rows[len(rows) * rank // world_size : len(rows) * (rank + 1) // world_size]
    share = -(-batch_size // world_size)
    windows = [Window(0, part, np.zeros_like(part)) for part in np.split(own, range(window_rows, len(own), window_rows)) if len(part)]
    return EpochOrder(windows, _even(len(own), -(-len(own) // share))[:, None])


def _sequence(sizes: list[int], repeats: npt.NDArray[np.float64] | None, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Row numbers of the whole epoch by permuted row groups, and which showing of the row each is."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    groups = [np.arange(starts[g], starts[g + 1], dtype=np.int64) for g in rng.permutation(len(sizes))]
    rows = np.concatenate(groups) if groups else np.empty(0, dtype=np.int64)
    if repeats is None:
        return rows, np.zeros_like(rows)
    whole = np.floor(repeats).astype(np.int64)
    times = (whole + (rng.random(len(repeats)) < repeats - whole))[rows]
    first = np.repeat(np.cumsum(times) - times, times)
    return np.repeat(rows, times), np.arange(len(first), dtype=np.int64) - first


def _windows(rows: Ints, occurrence: Ints, lane: int, start: int, stop: int, size: int, seed: list[int]) -> list[Window]:
    windows = []
    for number, low in enumerate(range(start, stop, size)):
        order = low + _mixed(rows[low : min(low + size, stop)], np.random.default_rng([*seed, number]))
        windows.append(Window(lane, rows[order], occurrence[order]))
    return windows


def _mixed(rows: Ints, rng: np.random.Generator) -> Ints:
    """A permutation; showings of one row, which are neighbours in `rows`, come out evenly spread instead of in one step."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    if len(starts) == len(rows):
        return rng.permutation(len(rows))
    times = np.diff(starts, append=len(rows))
    nth = np.arange(len(rows)) - np.repeat(starts, times)
    return np.argsort((np.repeat(rng.random(len(starts)), times) + nth / np.repeat(times, times)) % 1, kind="stable")


def _without_first(windows: list[Window], rows: int) -> list[Window]:
    """A lane's windows without as many rows from its begin on."""
    left = []
    for window in windows:
        if rows < len(window.rows):
            left.append(Window(window.lane, window.rows[rows:], window.occurrence[rows:]))
        rows = max(0, rows - len(window.rows))
    return left


def _even(total: int, parts: int) -> Ints:
    """`total` cut into `parts` whole numbers that differ by one at most."""
    edges: Ints = np.linspace(0, total, parts + 1).astype(np.int64)
    return edges[1:] - edges[:-1]


def _round_robin(lanes: list[list[Window]]) -> Iterator[Window]:
    for turn in range(max(map(len, lanes), default=0)):
        yield from (lane[turn] for lane in lanes if turn < len(lane))
