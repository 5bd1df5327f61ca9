"""The training loop: plain torch, one process or many (torch.distributed), under any launcher.

    for each epoch:   train on the epoch's order -> validate -> record -> checkpoint -> stop early?
    then:             `prodrec.training.run` scores the best weights and writes report and bundle.

One step over W ranks with losses l_i and class weights w_i of all images i of the global batch:

    loss = sum_i w_i l_i / sum_i w_i

Each rank has a part of the sums; DDP averages gradients over ranks, hence the factor W in `_step`. Metrics are sums merged
over ranks and divided once. NOT covered: checkpoints within an epoch; a resumed run starts at an epoch's first step.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prodrec.config import Recipe
from prodrec.data.balance import class_weights, repeat_factors
from prodrec.data.order import EpochOrder, epoch_order, sequential_order
from prodrec.data.shards import Shards
from prodrec.data.stream import Batch, Transform, batches, eval_transform, train_transform
from prodrec.errors import ShardsError, TrainingError
from prodrec.evaluation.metrics import Sums
from prodrec.evaluation.predict import autocast
from prodrec.models.registry import check_normalization, create_classifier
from prodrec.models.tasks import ClassificationTask
from prodrec.training.checkpoint import optimizer_tensors, read_checkpoint, restore_optimizer, write_checkpoint
from prodrec.training.context import Progress, WorkerContext
from prodrec.training.optim import build_optimizer, lr_factor, set_lr
from prodrec.training.pace import Stopwatch, one_behind
from prodrec.training.records import RunRecords
from prodrec.training.state import TrainState

_ADVICE = "lower optim.lr, set optim.clip_norm or train.precision=fp32"


class Trainer:
    """One rank of a run.

    Raises:
        ShardsError: no training images.
        WeightsError, ConfigError: from building the model, or an epoch that cannot be divided among the workers.
    """

    def __init__(self, recipe: Recipe, shards: Shards, context: WorkerContext) -> None:
        self.recipe, self.shards, self.context = recipe, shards, context
        self.train_split, self.val_split = shards.split("train"), shards.split("val")
        if not self.train_split.rows:
            raise ShardsError(f"{shards.uri} has no training images; prepare it again with another --split")
        self.threads = recipe.data.threads or context.threads
        label_ids = self.train_split.column("label_id").to_numpy()
        self.counts_K = counts_K = np.bincount(label_ids, minlength=len(shards.manifest.labels)).astype(np.int64)
        self.repeats = None if recipe.balance.sampling == "none" else repeat_factors(counts_K, recipe.balance)[label_ids]
        self._order(1)  # an order that cannot be made is the user's error: found here, before the first step
        check_normalization(recipe.model, recipe.input)
        torch.manual_seed(recipe.train.seed)
        model = create_classifier(recipe.model, len(counts_K), recipe.input.size)
        weights_K = torch.from_numpy(class_weights(counts_K, recipe.balance))
        task = ClassificationTask(model, recipe.input, weights_K, recipe.optim.label_smoothing, recipe.train.channels_last, recipe.augment.mix)
        self.task = task.to(context.device)
        self.ema = _ema(self.task.model, recipe.train.ema_decay)
        self.optimizer = build_optimizer(model, recipe.optim)
        self.forward = self._wrapped()
        self.state = TrainState()

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
        while self.state.epochs_done < self.recipe.train.epochs and not self.state.is_stopped(self.recipe.train.early_stop):
            self._epoch(self.state.epochs_done + 1, records)
        return self.state

    def evaluated_model(self) -> torch.nn.Module:
        """The weights that are validated and kept: the moving average where the recipe asks for one."""
        return self.ema.module if self.ema else self.task.model

    def batches(self, split: str, order: EpochOrder, transform: Transform) -> Iterator[Batch]:
        """Batches of this rank, decoded where the recipe says."""
        away = transform if self.recipe.data.decode == "stream" else None
        tables = self.context.tables(self.shards.split(split), order.windows, away)
        return batches(tables, order, transform, self.threads, pin_memory=self.context.device.type == "cuda")

    def _epoch(self, epoch: int, records: RunRecords | None) -> None:
        started = time.monotonic()
        sums, wait_s = self._train_epoch(epoch, started)
        train_s = time.monotonic() - started
        entry = {"epoch": epoch, "train_loss": sums.loss, "train_top1": sums.top1, "lr": self.optimizer.param_groups[-1]["lr"]}
        entry |= {"images": sums.n, "images_per_s": sums.n / train_s, "data_wait_s": wait_s}
        if self.val_split.rows:
            val = self._validate()
            if not np.isfinite(val.loss):
                raise TrainingError(f"the val loss is {val.loss} after epoch {epoch}; {_ADVICE}")
            entry |= {"val_loss": val.loss, "val_top1": val.top1, "val_top5": val.top5}
        self.state.history.append(entry | {"seconds": time.monotonic() - started})
        score = self.state.score(epoch, self.recipe.train.early_stop.metric)
        if score >= self.state.score(self.state.best_epoch, self.recipe.train.early_stop.metric):
            self.state.best, self.state.best_epoch = _copy(self.evaluated_model()), epoch
        if records:
            records.epoch(self.state.history)
        self.context.report(entry | {"score": score}, self._checkpoint() if self.context.rank == 0 else None)

    def _train_epoch(self, epoch: int, started: float) -> tuple[Sums, float]:
        """Returns the merged sums of the epoch and the seconds this rank waited for data."""
        recipe, order = self.recipe, self._order(epoch)
        transform = train_transform(recipe.input, recipe.augment, recipe.train.seed, epoch)
        torch.manual_seed(_seed(recipe.train.seed, epoch, self.context.rank))
        self.task.train()
        steps, waiting = len(order.steps), Stopwatch()

        def take_steps() -> Iterator[torch.Tensor]:
            for step, batch in enumerate(waiting.for_each(self.batches("train", order, transform))):
                set_lr(self.optimizer, lr_factor(epoch - 1 + step / steps, recipe.train.epochs, recipe.optim))
                yield self._step(batch)

        total = Sums.zero()
        for step, values in enumerate(one_behind(take_steps()), start=1):
            sums = Sums.from_tensor(values)
            total += sums
            self._watch(sums, total, epoch, step, steps, started)
        return total, waiting.seconds

    def _step(self, batch: Batch) -> torch.Tensor:
        """One optimiser step; returns the sums of the global batch, as a tensor so that the host need not wait for them."""
        context, config = self.context, self.recipe.optim
        images, labels = batch.images.to(context.device, non_blocking=True), batch.labels.to(context.device, non_blocking=True)
        with autocast(context.device, self.recipe.train.precision):
            logits_BK, losses_B, weights_B = self.forward(images, labels)
        sums = Sums.of(losses_B.detach(), weights_B, logits_BK.detach(), labels).as_tensor()
        self._merge(sums)
        loss = losses_B.sum() / sums[Sums.WEIGHT].to(losses_B.dtype) * context.world_size
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), config.clip_norm)
        self.optimizer.step()
        if self.ema:
            self.ema.update_parameters(self.task.model)
        return sums

    def _watch(self, sums: Sums, total: Sums, epoch: int, step: int, steps: int, started: float) -> None:
        """Every rank sees the same merged sums, so all stop together; an epoch's last step is watched before its checkpoint."""
        if not np.isfinite(sums.loss):
            raise TrainingError(f"the loss is {sums.loss} at epoch {epoch}, step {step} of {steps}; {_ADVICE}")
        if self.context.rank == 0:
            elapsed = time.monotonic() - started
            left = (self.recipe.train.epochs - epoch) * steps + steps - step
            eta_s = elapsed / step * left
            self.context.progress(Progress(epoch, self.recipe.train.epochs, step, steps, sums.loss, total.top1, total.n / elapsed, eta_s))

    @torch.inference_mode()
    def _validate(self) -> Sums:
        """Unweighted loss and hits of the kept weights on the whole val split."""
        recipe, context = self.recipe, self.context
        order = sequential_order(np.arange(self.val_split.rows), recipe.train.batch_size, rank=context.rank, world_size=context.world_size)
        model = self.evaluated_model().eval()
        if context.world_size > 1:
            for buffer in model.buffers():  # each rank's batch-norm statistics saw its own images; rank 0's are the ones kept
                distributed.broadcast(buffer, 0)
        total = Sums.zero().as_tensor().to(context.device)
        for batch in self.batches("val", order, eval_transform(recipe.input)):
            labels = batch.labels.to(context.device)
            with autocast(context.device, recipe.train.precision):
                logits_BK = self.task.logits(batch.images.to(context.device, non_blocking=True), model)
            losses_B = torch.nn.functional.cross_entropy(logits_BK.float(), labels, reduction="none")
            total += Sums.of(losses_B, torch.ones_like(losses_B), logits_BK, labels).as_tensor()
        self._merge(total)
        return Sums.from_tensor(total)

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
            repeats=self.repeats,
        )

    def _merge(self, sums: torch.Tensor) -> None:
        if self.context.world_size > 1:
            distributed.all_reduce(sums)

    def _wrapped(self) -> Any:
        module: Any = torch.compile(self.task) if self.recipe.train.compile else self.task
        if self.context.world_size == 1:
            return module
        on_gpu = self.context.device.type == "cuda"
        return DistributedDataParallel(module, device_ids=[self.context.device] if on_gpu else None)

    def _checkpoint(self) -> Path:
        sections = {"model": self.task.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer), "best": self.state.best}
        if self.ema:
            sections["ema"] = self.ema.state_dict()
        folder = Path(tempfile.mkdtemp(prefix="prodrec-checkpoint-"))
        try:
            write_checkpoint(folder, sections, {"history": self.state.history, "best_epoch": self.state.best_epoch})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _restore(self, folder: Path) -> None:
        sections, facts = read_checkpoint(folder)
        self.task.model.load_state_dict(sections["model"])
        restore_optimizer(self.optimizer, sections.get("optimizer", {}))
        if self.ema:
            self.ema.load_state_dict(sections["ema"])
        self.state = TrainState(facts["history"], sections["best"], facts["best_epoch"])


def _ema(model: torch.nn.Module, decay: float) -> AveragedModel | None:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def _copy(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _seed(seed: int, epoch: int, rank: int) -> int:
    """Of dropout and other draws inside the model; a function of the position, so that a resumed run repeats it."""
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
