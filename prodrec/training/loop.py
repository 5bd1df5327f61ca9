"""The training loop: plain torch, one process or many (torch.distributed), under any launcher.

    for each epoch:   train on the epoch's order -> validate -> record -> checkpoint -> stop early?
    then:             `prodrec.training.run` scores the best weights and writes report and bundle.

A step is `prodrec.training.learner`. Metrics of training are sums merged over ranks and divided once; those of val are made of
the predictions of all ranks. Rank 0 writes a checkpoint after each epoch, and within one by the clock; the others wait for it in
their next step. All that is random comes from the place in the run, so a run that is taken up at any step equals the undisturbed
one: to the last bit on a CPU.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from prodrec.config import Recipe
from prodrec.errors import ProdrecError, ShardsError, TrainingError
from prodrec.models.start import starting_labels
from prodrec.models.tasks import LOSS, WEIGHT, N, means
from prodrec.shards.listing_shards import by_listing
from prodrec.shards.order import EpochOrder, Ints, sequential_order
from prodrec.shards.reading import Shards
from prodrec.shards.stream import AnyTransform, Batch, batches
from prodrec.training.averages import mean_weights
from prodrec.training.checkpoint import Position
from prodrec.training.context import WorkerContext, gathered
from prodrec.training.kinds import create_kind
from prodrec.training.learner import Learner
from prodrec.training.pace import Stopwatch, prefetch_one
from prodrec.training.places import lanes_of, share_of_epoch, step_seed
from prodrec.training.progress import Progress
from prodrec.training.records import RunRecords, write_history
from prodrec.training.state import EpochBegun, TrainState, score_of

_ADVICE = "lower optim.lr, set optim.clip_norm or train.precision=fp32; --resume goes on with them: --resume --set optim.lr=..."


class Trainer:
    """One rank of a run.

    Raises:
        ShardsError: no training images, or no listings for a model that fuses views.
        WeightsError, BundleError, ConfigError: from building the model, or an epoch that cannot be divided among the workers.
    """

    def __init__(self, recipe: Recipe, shards: Shards, context: WorkerContext) -> None:
        shards = shards.limited(recipe.data.limit)
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
        self.state = TrainState()
        self.saved_at = time.monotonic()

    def fit(self, records: RunRecords | None) -> TrainState:
        """Trains from the latest checkpoint, if there is one, to the last epoch or to an early stop.

        Args:
            records: on rank 0, where the history is written.

        Raises:
            TrainingError: a loss that is not finite, on all ranks at the same step.
        """
        self.restore()
        while self.state.epochs_done < self.recipe.train.epochs and not self.state.is_stopped(self.recipe.train):
            self._epoch(self.state.epochs_done + 1, records)
        return self.state

    def ended(self, records: RunRecords | None) -> TrainState:
        """As `fit`, of a run that is not to train on. Raises: TrainingError: its latest checkpoint knows of no complete epoch."""
        self.restore()
        if not self.state.history:
            raise TrainingError("no checkpoint that can be read has a complete epoch; go on by --resume")
        if records:
            write_history(records.run, self.state.history)
        return self.state

    def restore(self) -> None:
        """Takes up the latest checkpoint that can be read, the same on every rank; where there is none, the run begins."""
        checkpoints, found = self.context.checkpoints, None
        if self.context.rank == 0:
            found = checkpoints.latest(self.context.note)
        name = gathered(found and found[0], self.context)[0]
        if name is None:
            return
        sections, facts = found[1:] if found else checkpoints.read(name)
        self.learner.restore(sections)
        self.state = TrainState.restored(sections, facts)

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
            found = _named("val", self.kind.val_metrics(self.predict("val")))
            state.history[-1][f"average_{metric}"] = found[metric]
            if records:
                write_history(records.run, state.history)
            if score_of(found, metric) >= state.score(state.best_epoch, metric):
                return
        model.load_state_dict(state.best)

    def batches(self, split: str, order: EpochOrder, transform: AnyTransform) -> Iterator[Batch]:
        """Batches of this rank, decoded where the recipe says."""
        away = transform if self.recipe.data.decode == "stream" else None
        tables = self.context.tables(self.shards.split(split), order.windows, away)
        return self.context.watched(batches(tables, order, transform, self.threads, pin_memory=self.context.device.type == "cuda"))

    def predict(self, split: str, rows: Ints | None = None) -> Any:
        """Predictions of the kept weights, each rank for its share, gathered on every rank.

        Args:
            rows: row numbers of the split; None: all.

        Raises:
            TrainingError: a logit is not finite, on all ranks if on one.
        """
        context = self.context
        rows = np.arange(self.shards.split(split).rows) if rows is None else rows
        order = sequential_order(rows, self.recipe.train.batch_size, rank=context.rank, world_size=context.world_size)
        model = self.evaluated_model().eval()
        own: Any
        try:
            own = self.kind.predict(model, self.batches(split, order, self.kind.eval_transform()), context.device)
        except TrainingError as error:
            own = error
        parts = gathered(own, context)
        for part in parts:
            if isinstance(part, ProdrecError):
                raise part
        return self.kind.merged(parts)

    def _epoch(self, epoch: int, records: RunRecords | None) -> None:
        sums = self._train_epoch(epoch)
        begun, images, started = self.state.begun, int(sums[N]), time.monotonic()
        entry = {"epoch": epoch} | _named("train", means(sums, self.task.names)) | {"lr": self.learner.lr}
        entry |= {"images": images, "images_per_s": images / begun.train_s, "data_wait_s": begun.wait_s}
        if self.val_split.rows:
            entry |= _named("val", self._validate(epoch))
        self.state.history.append(entry | {"seconds": begun.train_s + time.monotonic() - started})
        self.state.begun = EpochBegun()
        metric = self.recipe.train.early_stop.metric
        self.state.keep(lambda: _copy(self.evaluated_model()), metric, self.recipe.train.average_best)
        if records:
            records.epoch(self.state.history)
        if self.context.rank == 0:
            self._save(score=self.state.score(epoch, metric))
            self.context.report(entry)

    def _train_epoch(self, epoch: int) -> torch.Tensor:
        """Takes the steps of an epoch that are left, with checkpoints between them when they are due; returns its merged sums."""
        before, order = self.state.begun, self._order(epoch, self.state.begun.cuts)
        steps, waiting, started, is_due = before.step + len(order.steps), Stopwatch(), time.monotonic(), False
        numbered = enumerate(waiting.for_each(self.batches("train", order, self.kind.train_transform(epoch))), start=before.step)
        self.learner.start_epoch(epoch)

        def take_steps() -> Iterator[torch.Tensor]:
            nonlocal is_due
            for step, batch in numbered:
                torch.manual_seed(step_seed(self.recipe.train.seed, epoch, step, self.context.rank))
                yield self.learner.step(batch, epoch - 1 + step / steps)
                if is_due := self._is_due():
                    return

        total = torch.tensor(before.sums or [0.0] * (N + 1 + len(self.task.names)), dtype=torch.float64)
        step = before.step
        while step < steps:
            for values in prefetch_one(take_steps()):
                sums, step = values.cpu(), step + 1
                total += sums
                self._watch(sums, total, epoch, step, steps, before.train_s + time.monotonic() - started)
            cuts = [*before.cuts, (lanes_of(self.recipe, self.context), step - before.step)]
            self.state.begun = EpochBegun(cuts, total.tolist(), before.train_s + time.monotonic() - started, before.wait_s + waiting.seconds)
            if is_due:
                self._save()
        return total

    def _is_due(self) -> bool:
        """Whether a checkpoint is to be written after this step. Rank 0 alone decides: what the others have is the same."""
        seconds = self.recipe.train.checkpoint_minutes * 60
        return self.context.rank == 0 and (time.monotonic() - self.saved_at >= seconds or self.context.is_leaving())

    def _watch(self, sums: torch.Tensor, total: torch.Tensor, epoch: int, step: int, steps: int, elapsed: float) -> None:
        """Every rank sees the same merged sums, so all stop together; an epoch's last step is watched before its checkpoint."""
        loss = float(sums[LOSS] / sums[WEIGHT])
        if not np.isfinite(loss):
            self._drop_checkpoint(epoch, step - 1)
            raise TrainingError(f"the loss is {loss} at epoch {epoch}, step {step} of {steps}; {_ADVICE}")
        if self.context.rank == 0:
            left = (self.recipe.train.epochs - epoch) * steps + steps - step
            running = means(total, self.task.names) | {"loss": loss}
            self.context.progress(Progress(epoch, self.recipe.train.epochs, step, steps, running, float(total[N]) / elapsed, elapsed / step * left))

    def _validate(self, epoch: int) -> dict[str, float]:
        """Metrics of the kept weights on the whole val split."""
        self.learner.share_buffers()
        try:
            metrics = self.kind.val_metrics(self.predict("val"))
            if not np.isfinite(metrics["loss"]):
                raise TrainingError(f"the val loss is {metrics['loss']} after epoch {epoch}; {_ADVICE}")
        except TrainingError:
            self._drop_checkpoint(epoch, self.state.begun.step)
            raise
        return metrics

    def _order(self, epoch: int, cuts: Sequence[tuple[int, int]] = ()) -> EpochOrder:
        return share_of_epoch(self.recipe, self.train_split.row_group_sizes, self.kind.repeats, self.context, epoch, cuts)

    def _drop_checkpoint(self, epoch: int, step: int) -> None:
        """Weights that make a loss which is not finite were broken by the step before: nobody is to go on from them."""
        if self.context.rank == 0 and step:
            self.context.checkpoints.drop(Position(epoch - 1, step))

    def _save(self, **facts: float) -> None:
        state = self.state
        self.context.checkpoints.save(state.position, self.learner.sections() | state.sections(), state.facts() | facts)
        self.saved_at = time.monotonic()


def _named(split: str, metrics: dict[str, float]) -> dict[str, Any]:
    return {f"{split}_{name}": value for name, value in metrics.items()}


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
