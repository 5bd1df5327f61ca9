"""When a run's checkpoints are written, and what is taken up from them."""

import time

from prodrec.training.checkpoint import Position
from prodrec.training.context import WorkerContext, gathered
from prodrec.training.learner import Learner
from prodrec.training.state import TrainState


class Saves:
    """The checkpoints of a run on one rank; rank 0 alone writes and decides: what the others have is the same.

    Args:
        minutes: between two at most.
    """

    def __init__(self, learner: Learner, context: WorkerContext, minutes: float) -> None:
        self.learner, self.context, self.seconds = learner, context, minutes * 60
        self.last = time.monotonic()

    def restored(self) -> TrainState:
        """Takes up the latest that can be read, the same on every rank; where there is none, the run begins."""
        checkpoints, found = self.context.checkpoints, None
        if self.context.rank == 0:
            found = checkpoints.latest(self.context.note)
        name = gathered(found and found[0], self.context)[0]
        if name is None:
            return TrainState()
        sections, facts = found[1:] if found else checkpoints.read(name)
        self.learner.restore(sections)
        return TrainState.restored(sections, facts)

    def is_due(self) -> bool:
        """Whether one is to be written after this step."""
        return self.context.rank == 0 and (time.monotonic() - self.last >= self.seconds or self.context.is_leaving())

    def save(self, state: TrainState, **facts: float) -> None:
        """Writes one; called on rank 0. Raises: as `Checkpoints.save`."""
        self.context.checkpoints.save(state.position, self.learner.sections() | state.sections(), state.facts() | facts)
        self.last = time.monotonic()

    def drop(self, epoch: int, step: int) -> None:
        """Weights that make a loss which is not finite were broken by the step before: nobody is to go on from them."""
        if self.context.rank == 0 and step:
            self.context.checkpoints.drop(Position(epoch - 1, step))
