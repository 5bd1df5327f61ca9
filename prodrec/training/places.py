"""What a place in a run decides: the images of a step, and the random draws inside the model."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prodrec.config import Recipe
from prodrec.shards.order import EpochOrder, epoch_order
from prodrec.training.context import WorkerContext


def lanes_of(recipe: Recipe, context: WorkerContext) -> int:
    """Parallel streams of the global batches, of all ranks together."""
    return recipe.data.lanes or context.world_size


def share_of_epoch(
    recipe: Recipe,
    row_group_sizes: list[int],
    repeats: npt.NDArray[np.float64] | None,
    context: WorkerContext,
    epoch: int,
    cuts: Sequence[tuple[int, int]] = (),
) -> EpochOrder:
    """What a rank shows in an epoch, or in what is left of it.

    Args:
        cuts: (lanes, steps) that were taken of it, in order.

    Raises:
        ConfigError: as `epoch_order`.
    """

    def whole(lanes: int, rank: int, world_size: int) -> EpochOrder:
        where = {"rank": rank, "world_size": world_size, "lanes": lanes, "window_row_groups": recipe.data.window_row_groups}
        return epoch_order(row_group_sizes, recipe.train.batch_size, **where, seed=recipe.train.seed, epoch=epoch, repeats=repeats)

    lanes = lanes_of(recipe, context)
    if not cuts:
        return whole(lanes, context.rank, context.world_size)
    left = whole(cuts[0][0], 0, 1)
    for before, steps in cuts:
        left = left.divided(before).after(steps)
    return left.divided(lanes).share(context.rank, context.world_size)


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Of dropout and other draws inside the model; a function of the place, so that a resumed run repeats them."""
    return int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1)[0])
