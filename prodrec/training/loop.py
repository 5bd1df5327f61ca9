"""The training loop: plain torch, one process or many (torch.distributed), under any launcher.

    for each epoch:   train on the epoch's order -> validate -> record -> checkpoint -> stop early?
    then:             `prodrec.training.run` scores the best weights and writes report and bundle.

A step is `prodrec.training.learner`. Metrics of training are sums merged over ranks and divided once; those of val are made of
the predictions of all ranks. Rank 0 writes a checkpoint after each epoch, and within one by the clock; the others wait for it in
their next step. All that is random comes from the place in the run, so a run that is taken up at any step equals the undisturbed
one: to the last bit on a CPU.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from prodrec.config import Recipe
from prodrec.errors import ProdrecError, ShardsError, TrainingError
from prodrec.models.start import starting_labels
from prodrec.models.tasks import LOSS, WEIGHT, N, means
from prodrec.shards.feed import Feed, Pass
from prodrec.shards.listing_shards import by_listing
from prodrec.shards.order import EpochOrder, Ints, sequential_order
from prodrec.shards.reading import Shards
from prodrec.shards.stream import Batch
from prodrec.training.averages import mean_weights
from prodrec.training.context import WorkerContext, gathered
from prodrec.training.kinds import create_kind
from prodrec.training.learner import Learner
from prodrec.training.pace import Stopwatch, read_behind
from prodrec.training.places import lanes_of, share_of_epoch, step_seed
from prodrec.training.progress import Progress
from prodrec.training.records import RunRecords, write_history
from prodrec.training.refit import learned_from
from prodrec.training.saves import Saves
from prodrec.training.state import EpochBegun, TrainState, score_of

# Steps in a row whose gradient is not finite, after which a run ends: one bad batch is passed over, weights that have run away do not come
# back. Source: assumed.
_MOST_SKIPPED = 10
_ADVICE = "lower optim.lr, set optim.clip_norm or train.precision=fp32; --resume goes on with them: --resume --set optim.lr=..."


class Trainer:
    """One rank of a run.

    Raises:
        ShardsError: no training images, or no listings for a model that fuses views.
        WeightsError, BundleError, ConfigError: from building the model, or an epoch that cannot be divided among the workers.
    """

    def __init__(self, recipe: Recipe, shards: Shards, context: WorkerContext) -> None:
        shards = learned_from(recipe, shards.limited(recipe.data.limit))
        shards = shards.relabelled(starting_labels(recipe, shards.manifest.labels))
        if recipe.model.fuse:
            shards = by_listing(shards, recipe.model.max_views)
        self.recipe, self.shards, self.context = recipe, shards, context
        self.train_split, self.val_split = shards.split("train"), shards.split("val")
        if not self.train_split.rows:
            raise ShardsError(f"{shards.uri} has no training images; prepare it again with another --split")
        self.threads = recipe.data.threads or context.threads
        torch.manual_seed(recipe.train.seed)
        self.kind = create_kind(recipe, shards)
        self._order(1)  # an order that cannot be made is the user's error: found here, before the first step
        self.learner = Learner(self.kind.task, recipe, context)
        self.task = self.learner.task
        self.saves = Saves(self.learner, context, recipe.train.checkpoint_minutes)
        self.state, self.skipped_in_a_row = TrainState(), 0

    def fit(self, records: RunRecords | None) -> TrainState:
        """Trains from the latest checkpoint, if there is one, to the last epoch or to an early stop.

        Args:
            records: on rank 0, where the history is written.

        Raises:
            TrainingError: a loss that is not finite, on all ranks at the same step.
        """
        self.state = self.saves.restored()
        feed = self.feed(self._passes(self.state.epochs_done + 1, self.state.begun.cuts))
        while self.state.epochs_done < self.recipe.last_epoch and not self.state.is_stopped(self.recipe.train):
            self._epoch(self.state.epochs_done + 1, feed, records)
        feed.close()
        return self.state

    def evaluated_model(self) -> torch.nn.Module:
        """The weights that are validated and kept: the moving average where the recipe asks for one."""
        model: torch.nn.Module = self.learner.evaluated_model()
        return model

    def choose(self, records: RunRecords | None) -> None:
        """Loads the weights that the run keeps: those of the best epoch, or the mean of the best ones if val finds it as good.

        The latest entry of the history then has the mean's figure beside its own, as `average_val_top1`.

        Raises:
            TrainingError: as `predict`.
        """
        model, metric, state = self.evaluated_model(), self.recipe.train.early_stop.metric, self.state
        if len(state.kept) > 1:
            model.load_state_dict(mean_weights([state.kept[epoch] for epoch in sorted(state.kept)]))
            if not self.val_split.rows:
                return
            found = _named("val", self.kind.val_metrics(self.predict("val")))
            state.history[-1][f"average_{metric}"] = found[metric]
            if records:
                write_history(records.run, state.history)
            if score_of(found, metric) >= state.score(state.best_epoch, metric):
                return
        model.load_state_dict(state.best)

    def feed(self, plan: Iterable[Pass]) -> Feed:
        """Batches of this rank, decoded where the recipe says."""
        away = self.context.away if self.recipe.data.decode == "stream" else None
        return Feed(plan, self.threads, self.context.device.type == "cuda", away)

    def batches(self, one: Pass) -> Iterator[Batch]:
        """As `feed`, of a single pass."""
        return self.feed([one]).next_pass()[1]

    def train_pass(self, epoch: int, cuts: Sequence[tuple[int, int]] = ()) -> Pass:
        """This rank's share of an epoch, or of what is left of it after `cuts`."""
        return Pass(self.train_split, self._order(epoch, cuts), self.kind.train_transform(epoch))

    def eval_pass(self, split: str, rows: Ints | None = None) -> Pass:
        """This rank's share of a split, in order.

        Args:
            rows: row numbers of the split; None: all.
        """
        rows = np.arange(self.shards.split(split).rows) if rows is None else rows
        order = sequential_order(rows, self.learner.at_once * self.context.world_size, rank=self.context.rank, world_size=self.context.world_size)
        return Pass(self.shards.split(split), order, self.kind.eval_transform())

    def predict(self, split: str, inputs: Iterator[Batch] | None = None, to_finish: bool = False) -> Any:
        """Predictions of the kept weights, each rank for its share, gathered on every rank.

        Args:
            inputs: batches of the split, or of some of its rows, that are on their way already; None: all are read now.
            to_finish: as `Kind.predict`.

        Raises:
            TrainingError: a logit is not finite, on all ranks if on one.
        """
        model = self.evaluated_model().eval()
        own: Any
        try:
            inputs = self.context.watched(inputs or self.batches(self.eval_pass(split)))
            own = self.kind.predict(model, inputs, self.context.device, to_finish)
        except TrainingError as error:
            own = error
        parts = gathered(own, self.context)
        for part in parts:
            if isinstance(part, ProdrecError):
                raise part
        return self.kind.merged(parts)

    def _passes(self, first_epoch: int, cuts: Sequence[tuple[int, int]] = ()) -> Iterator[Pass]:
        """What the epochs take, in turn; of the first, what is left after `cuts`."""
        for epoch in range(first_epoch, self.recipe.last_epoch + 1):
            yield self.train_pass(epoch, cuts if epoch == first_epoch else ())
            if self.val_split.rows:
                yield self.eval_pass("val")

    def _epoch(self, epoch: int, feed: Feed, records: RunRecords | None) -> None:
        sums = self._train_epoch(epoch, feed)
        begun, images, started = self.state.begun, int(sums[N]), time.monotonic()
        entry = {"epoch": epoch} | _named("train", means(sums, self.task.names)) | {"lr": self.learner.lr}
        entry |= {"images": images, "images_per_s": images / begun.train_s, "data_wait_s": begun.wait_s, "skipped_steps": begun.skipped}
        if self.val_split.rows:
            entry |= _named("val", self._validate(epoch, feed.next_pass()[1]))
        self.state.history.append(entry | {"seconds": begun.train_s + time.monotonic() - started})
        self.state.begun = EpochBegun()
        metric = self.recipe.train.early_stop.metric
        self.state.keep(lambda: _copy(self.evaluated_model()), metric, self.recipe.train.average_best, self.recipe.chosen_epochs)
        if records:
            records.epoch(self.state.history)
        if self.context.rank == 0:
            self.saves.save(self.state, score=self.state.score(epoch, metric))
            self.context.report(entry)

    def _train_epoch(self, epoch: int, feed: Feed) -> torch.Tensor:
        """Takes the steps of an epoch that are left, with checkpoints between them when they are due; returns its merged sums."""
        self.learner.start_epoch(epoch)
        one, inputs = feed.next_pass()
        before, waiting, started, is_due = self.state.begun, Stopwatch(), time.monotonic(), False
        steps, step, skipped = before.step + len(one.order.steps), before.step, before.skipped
        numbered = enumerate(waiting.for_each(self.context.watched(inputs)), start=step)

        def take_steps() -> Iterator[torch.Tensor]:
            nonlocal is_due
            for number, batch in numbered:
                torch.manual_seed(step_seed(self.recipe.train.seed, epoch, number, self.context.rank))
                yield self.learner.step(batch, epoch - 1 + number / steps)
                if is_due := self.saves.is_due():
                    return

        total = torch.tensor(before.sums or [0.0] * (N + 1 + len(self.task.names)), dtype=torch.float64)
        while step < steps:
            for values in read_behind(take_steps()):
                sums, norm, step = values[:-1], float(values[-1]), step + 1
                if is_sound := bool(values.isfinite().all()):
                    total += sums
                skipped += not is_sound
                self.skipped_in_a_row = 0 if is_sound else self.skipped_in_a_row + 1
                self._watch(sums, norm, total, epoch, step, steps, before.train_s + time.monotonic() - started)
            cuts, train_s = [*before.cuts, (lanes_of(self.recipe, self.context), step - before.step)], before.train_s + time.monotonic() - started
            self.state.begun = EpochBegun(cuts, total.tolist(), skipped, train_s, before.wait_s + waiting.seconds)
            if is_due and not self.skipped_in_a_row:  # else the weights may be what is wrong
                self.saves.save(self.state)
        next(numbered, None)  # where the last step was not asked for the one after it
        return total

    def _watch(self, sums: torch.Tensor, norm: float, total: torch.Tensor, epoch: int, step: int, steps: int, elapsed: float) -> None:
        """Every rank sees the same merged sums, so all stop together; an epoch's last step is watched before its checkpoint."""
        loss = float(sums[LOSS] / sums[WEIGHT])
        if self.skipped_in_a_row >= _MOST_SKIPPED:
            self.saves.drop(epoch, step - self.skipped_in_a_row)
            told = f"the loss is {loss:g} and the norm of its gradient {norm:g}"
            raise TrainingError(f"{told} at epoch {epoch}, step {step} of {steps}, the {self.skipped_in_a_row}th step in a row that is not finite; {_ADVICE}")
        if self.context.rank == 0:
            epochs = self.recipe.last_epoch
            left = (epochs - epoch) * steps + steps - step
            running = means(total, self.task.names) | {"loss": loss}
            self.context.progress(Progress(epoch, epochs, step, steps, running, float(total[N]) / elapsed, elapsed / step * left))

    def _validate(self, epoch: int, inputs: Iterator[Batch]) -> dict[str, float]:
        """Metrics of the kept weights on the whole val split."""
        self.learner.share_buffers()
        try:
            metrics = self.kind.val_metrics(self.predict("val", inputs))
            if not np.isfinite(metrics["loss"]):
                raise TrainingError(f"the val loss is {metrics['loss']} after epoch {epoch}; {_ADVICE}")
        except TrainingError:
            self.saves.drop(epoch, self.state.begun.step - self.skipped_in_a_row)
            raise
        return metrics

    def _order(self, epoch: int, cuts: Sequence[tuple[int, int]] = ()) -> EpochOrder:
        return share_of_epoch(self.recipe, self.train_split.row_group_sizes, self.kind.repeats, self.context, epoch, cuts)


def _named(split: str, metrics: dict[str, float]) -> dict[str, Any]:
    return {f"{split}_{name}": value for name, value in metrics.items()}


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
