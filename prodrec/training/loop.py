"""The training loop: plain torch, one process or many (torch.distributed), under any launcher.

    for each epoch:   train on the epoch's order -> validate -> record -> checkpoint -> stop early?
    then:             `prodrec.training.run` scores the best weights and writes report and bundle.

A step is `prodrec.training.learner`. Metrics of training are sums merged over ranks and divided once; those of val are made of
the predictions of all ranks. NOT covered: checkpoints within an epoch; a resumed run starts at an epoch's first step.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from prodrec.config import Recipe
from prodrec.errors import ProdrecError, ShardsError, TrainingError
from prodrec.models.start import starting_labels
from prodrec.models.tasks import LOSS, WEIGHT, N, means
from prodrec.shards.feed import Feed, Pass
from prodrec.shards.listing_shards import by_listing
from prodrec.shards.order import EpochOrder, Ints, epoch_order, sequential_order
from prodrec.shards.reading import Shards
from prodrec.shards.stream import Batch
from prodrec.training.averages import mean_weights
from prodrec.training.checkpoint import read_checkpoint, write_checkpoint
from prodrec.training.context import WorkerContext
from prodrec.training.kinds import create_kind
from prodrec.training.learner import Learner
from prodrec.training.pace import Stopwatch, read_behind
from prodrec.training.progress import Progress
from prodrec.training.records import RunRecords, write_history
from prodrec.training.refit import learned_from
from prodrec.training.state import TrainState, score_of

# Before the epoch, in the names of a checkpoint's sections.
_KEPT = "kept-"
# Steps in a row whose gradient is not finite, after which a run ends: one bad batch is passed over, weights that have run away do not come
# back. Source: assumed.
_MOST_SKIPPED = 10
_ADVICE = "lower optim.lr, set optim.clip_norm or train.precision=fp32"


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
        self.state, self.skipped_in_a_row = TrainState(), 0

    def fit(self, records: RunRecords | None) -> TrainState:
        """Trains from the latest checkpoint, if there is one, to the last epoch or to an early stop.

        Args:
            records: on rank 0, where the history is written.

        Raises:
            TrainingError: a loss that is not finite, on all ranks at the same step.
        """
        with self.context.latest_checkpoint() as folder:
            if folder:
                self._restore(folder)
        feed = self.feed(self._passes(self.state.epochs_done + 1))
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

    def train_pass(self, epoch: int) -> Pass:
        return Pass(self.train_split, self._order(epoch), self.kind.train_transform(epoch))

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
            own = self.kind.predict(model, inputs or self.batches(self.eval_pass(split)), self.context.device, to_finish)
        except TrainingError as error:
            own = error
        parts = gathered(own, self.context)
        for part in parts:
            if isinstance(part, ProdrecError):
                raise part
        return self.kind.merged(parts)

    def _passes(self, first_epoch: int) -> Iterator[Pass]:
        """What the epochs take, in turn."""
        for epoch in range(first_epoch, self.recipe.last_epoch + 1):
            yield self.train_pass(epoch)
            if self.val_split.rows:
                yield self.eval_pass("val")

    def _epoch(self, epoch: int, feed: Feed, records: RunRecords | None) -> None:
        started = time.monotonic()
        sums, wait_s, skipped = self._train_epoch(epoch, feed, started)
        train_s, images = time.monotonic() - started, int(sums[N])
        entry = {"epoch": epoch} | _named("train", means(sums, self.task.names)) | {"lr": self.learner.lr}
        entry |= {"images": images, "images_per_s": images / train_s, "data_wait_s": wait_s, "skipped_steps": skipped}
        if self.val_split.rows:
            entry |= _named("val", self._validate(epoch, feed.next_pass()[1]))
        self.state.history.append(entry | {"seconds": time.monotonic() - started})
        metric = self.recipe.train.early_stop.metric
        self.state.keep(lambda: _copy(self.evaluated_model()), metric, self.recipe.train.average_best, self.recipe.chosen_epochs)
        if records:
            records.epoch(self.state.history)
        score = self.state.score(epoch, metric)
        self.context.report(entry | {"score": score}, self._checkpoint(score) if self.context.rank == 0 else None)

    def _train_epoch(self, epoch: int, feed: Feed, started: float) -> tuple[torch.Tensor, float, int]:
        """Returns the merged sums of the epoch, the seconds this rank waited for data, and how many steps were left out."""
        torch.manual_seed(_seed(self.recipe.train.seed, epoch, self.context.rank))
        self.learner.start_epoch(epoch)
        one, inputs = feed.next_pass()
        steps, waiting = len(one.order.steps), Stopwatch()

        def take_steps() -> Iterator[torch.Tensor]:
            for step, batch in enumerate(waiting.for_each(inputs)):
                yield self.learner.step(batch, epoch - 1 + step / steps)

        total, skipped = torch.zeros(N + 1 + len(self.task.names), dtype=torch.float64), 0
        for step, values in enumerate(read_behind(take_steps()), start=1):
            sums, norm = values[:-1], float(values[-1])
            if is_sound := bool(values.isfinite().all()):
                total += sums
            skipped += not is_sound
            self.skipped_in_a_row = 0 if is_sound else self.skipped_in_a_row + 1
            self._watch(sums, norm, total, epoch, step, steps, started)
        return total, waiting.seconds, skipped

    def _watch(self, sums: torch.Tensor, norm: float, total: torch.Tensor, epoch: int, step: int, steps: int, started: float) -> None:
        """Every rank sees the same merged sums, so all stop together; an epoch's last step is watched before its checkpoint."""
        loss = float(sums[LOSS] / sums[WEIGHT])
        if self.skipped_in_a_row >= _MOST_SKIPPED:
            told = f"the loss is {loss:g} and the norm of its gradient {norm:g}"
            raise TrainingError(f"{told} at epoch {epoch}, step {step} of {steps}, the {self.skipped_in_a_row}th step in a row that is not finite; {_ADVICE}")
        if self.context.rank == 0:
            elapsed = time.monotonic() - started
            epochs = self.recipe.last_epoch
            left = (epochs - epoch) * steps + steps - step
            running = means(total, self.task.names) | {"loss": loss}
            self.context.progress(Progress(epoch, epochs, step, steps, running, float(total[N]) / elapsed, elapsed / step * left))

    def _validate(self, epoch: int, inputs: Iterator[Batch]) -> dict[str, float]:
        """Metrics of the kept weights on the whole val split."""
        self.learner.share_buffers()
        metrics = self.kind.val_metrics(self.predict("val", inputs))
        if not np.isfinite(metrics["loss"]):
            raise TrainingError(f"the val loss is {metrics['loss']} after epoch {epoch}; {_ADVICE}")
        return metrics

    def _order(self, epoch: int) -> EpochOrder:
        train, data, context = self.recipe.train, self.recipe.data, self.context
        return epoch_order(
            self.train_split.row_group_sizes,
            train.batch_size,
            rank=context.rank,
            world_size=context.world_size,
            lanes=data.lanes,
            window_row_groups=data.window_row_groups,
            seed=train.seed,
            epoch=epoch,
            repeats=self.kind.repeats,
        )

    def _checkpoint(self, score: float) -> Path:
        sections = self.learner.sections() | {f"{_KEPT}{epoch}": tensors for epoch, tensors in self.state.kept.items()}
        folder = Path(tempfile.mkdtemp(prefix="prodrec-checkpoint-"))
        try:
            write_checkpoint(folder, sections, {"history": self.state.history, "best_epoch": self.state.best_epoch, "score": score})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _restore(self, folder: Path) -> None:
        sections, facts = read_checkpoint(folder)
        self.learner.restore(sections)
        kept = {int(name.removeprefix(_KEPT)): tensors for name, tensors in sections.items() if name.startswith(_KEPT)}
        self.state = TrainState(facts["history"], kept, facts["best_epoch"])


def gathered(own: Any, context: WorkerContext) -> list[Any]:
    """What each rank has, on every rank: a rank that fails says so here instead of leaving the others to wait."""
    if context.world_size == 1:
        return [own]
    parts: list[Any] = [None] * context.world_size
    distributed.all_gather_object(parts, own)
    return parts


def _named(split: str, metrics: dict[str, float]) -> dict[str, Any]:
    return {f"{split}_{name}": value for name, value in metrics.items()}


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _seed(seed: int, epoch: int, rank: int) -> int:
    """Of dropout and other draws inside the model; a function of the position, so that a resumed run repeats it."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
