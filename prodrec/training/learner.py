"""What a step changes: the weights, their moving average and the optimiser; on one rank or many.

One step over W ranks with losses l_i and class weights w_i of all images i of the global batch:

    loss = sum_i w_i l_i / sum_i w_i

Each rank has a part of the sums, and goes through its images in one pass or in several (`train.micro_batch`). Gradients are those of
sum_i w_i l_i until all is added up, and are scaled once, when sum_i w_i of the whole global batch is known; DDP averages
gradients over ranks, hence the factor W in `step`.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from prodrec.config import Recipe, TrainConfig
from prodrec.errors import ConfigError
from prodrec.models.scorer import autocast, is_out_of_memory
from prodrec.models.tasks import LOSS, WEIGHT, Task
from prodrec.shards.stream import Batch
from prodrec.training.averages import moving_average
from prodrec.training.checkpoint import Tensors, optimizer_tensors, restore_optimizer
from prodrec.training.context import WorkerContext
from prodrec.training.optim import build_optimizer, lr_factor, set_lr, update

# Fewer images make poor statistics of a batch. Source: Wu & He 2018 (arXiv 1803.08494), figure 1: 23.6 % error at 32 and 23.7 at 16
# images a GPU, 24.8 at 8, 27.3 at 4.
_FEWEST_NORMED = 16

_log = logging.getLogger(__name__)


class Learner:
    """A task that learns, epoch by epoch.

    Raises:
        ConfigError: `train.sync_batchnorm` without a GPU.

    Attributes:
        task: on the device of the context.
        at_once: images of this rank that go through the model together.
    """

    def __init__(self, task: Task, recipe: Recipe, context: WorkerContext) -> None:
        train = recipe.train
        self.recipe, self.context = recipe, context
        if context.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # inputs have a few sizes, each seen often
            if train.precision == "bf16":
                torch.set_float32_matmul_precision("high")  # of what autocast leaves in float32
        if train.sync_batchnorm:
            if context.device.type != "cuda":
                raise ConfigError("train.sync_batchnorm needs GPUs (torch has it for no other device); leave it out, or set train.freeze_bn")
            task.model = convert_sync_batchnorm(task.model)
        self.task = task.to(context.device)
        self.ema = moving_average(task.model, train.ema_decay)
        self.optimizer = build_optimizer(task.model, recipe.optim)
        self.backbone: list[nn.Parameter] = list(task.model.backbone_parameters()) if train.head_epochs else []
        # The same on every rank, whose batches may differ by an image: layers that talk to each other must be passed equally often.
        self.parts = math.ceil(train.batch_size / context.world_size / train.micro_batch) if train.micro_batch else 1
        self.at_once = math.ceil(train.batch_size / context.world_size / self.parts)
        self.head_only = False
        self.forward: Any = None
        self.start_epoch(1)
        self._warn_of_small_batches()

    @property
    def lr(self) -> float:
        """Of the head, now."""
        rate: float = self.optimizer.param_groups[-1]["lr"]
        return rate

    def evaluated_model(self) -> Any:
        """The weights that are validated and kept: the moving average where the recipe asks for one."""
        return self.ema.module if self.ema else self.task.model

    def start_epoch(self, epoch: int) -> None:
        """Frees the backbone where its time has come, or not yet; the task is in train mode after it."""
        head_only = epoch <= self.recipe.train.head_epochs
        if self.forward is None or head_only != self.head_only:
            self.forward = None  # a wrapper's hooks go before those of the next come
            self._train_head_only(head_only)
            self.forward = self._wrapped()
        self.task.train()
        if self.recipe.train.freeze_bn:
            for norm in self._batch_norms():
                norm.eval()

    def step(self, batch: Batch, epochs_done: float) -> torch.Tensor:
        """One optimiser step, left out where the gradient is not finite.

        Args:
            epochs_done: where the run stands, fractions count.

        Returns:
            Sums of the global batch and, last, the norm of its gradient before clipping, float64: as a tensor on the device, so that
            the host need not wait for them.

        Raises:
            ConfigError: memory is full.
        """
        world_size = self.context.world_size
        set_lr(self.optimizer, self._lr_factor(epochs_done))
        self.optimizer.zero_grad(set_to_none=True)
        with _advised_on_memory(self.recipe.train, self.at_once):
            sums = self._gradients(batch)
            if world_size > 1:
                distributed.all_reduce(sums)
            norm = update(self.optimizer, world_size / sums[WEIGHT], self.recipe.optim.clip_norm, sums[LOSS].isfinite())
            if self.ema:
                self.ema.update_parameters(self.task.model)
        return torch.cat([sums, norm.to(sums.dtype).view(1)])

    def share_buffers(self) -> None:
        """Each rank's batch-norm statistics saw its own images; rank 0's are the ones kept."""
        if self.context.world_size > 1:
            for buffer in self.evaluated_model().buffers():
                distributed.broadcast(buffer, 0)

    def sections(self) -> dict[str, Tensors]:
        """All of it, for a checkpoint."""
        sections = {"model": self.task.model.state_dict(), "optimizer": optimizer_tensors(self.optimizer)}
        return sections | ({"ema": self.ema.state_dict()} if self.ema else {})

    def restore(self, sections: dict[str, Tensors]) -> None:
        """Puts back what `sections` took."""
        self.task.model.load_state_dict(sections["model"])
        restore_optimizer(self.optimizer, sections.get("optimizer", {}))
        if self.ema:
            self.ema.load_state_dict(sections["ema"])

    def _gradients(self, batch: Batch) -> torch.Tensor:
        """Leaves the gradient of this rank's sum of losses; returns its sums. Ranks talk to each other in the last part alone."""
        parts, sums = batch.parts(self.parts), []
        for number, part in enumerate(parts, start=1):
            with self._apart(number < len(parts)):
                images, targets = (each.to(self.context.device, non_blocking=True) for each in (part.images, part.targets))
                with autocast(self.context.device, self.recipe.train.precision):
                    loss_sum, own = self.forward(images, targets)
                loss_sum.backward()
                sums.append(own)
        return torch.stack(sums).sum(0)

    def _apart(self, is_apart: bool) -> AbstractContextManager[None]:
        """Where ranks need not hear of each other's gradients."""
        silent: AbstractContextManager[None] = self.forward.no_sync() if is_apart and self.context.world_size > 1 else nullcontext()
        return silent

    def _lr_factor(self, epochs_done: float) -> float:
        """Each phase has the whole schedule: the backbone, too, begins with a warm-up."""
        head, epochs = self.recipe.train.head_epochs, self.recipe.train.epochs
        done, length = (epochs_done, head) if epochs_done < head else (epochs_done - head, epochs - head)
        return lr_factor(done, length, self.recipe.optim)

    def _train_head_only(self, head_only: bool) -> None:
        """The optimiser leaves out what has no gradient; the backbone's momentum begins when it is freed."""
        self.head_only = head_only
        for parameter in self.backbone:
            parameter.requires_grad_(not head_only)

    def _wrapped(self) -> Any:
        module: Any = self.task.compiled() if self.recipe.train.compile else self.task
        if self.context.world_size == 1:
            return module
        on_gpu = self.context.device.type == "cuda"
        # Buffers are shared once an epoch: in training no rank looks at another's running statistics.
        return DistributedDataParallel(module, device_ids=[self.context.device] if on_gpu else None, forward_sync_buffers=False)

    def _batch_norms(self) -> list[_BatchNorm]:
        return [module for module in self.task.modules() if isinstance(module, _BatchNorm)]

    def _warn_of_small_batches(self) -> None:
        train = self.recipe.train
        seen = self.at_once * (self.context.world_size if train.sync_batchnorm else 1)
        if self.context.rank == 0 and seen < _FEWEST_NORMED and any(norm.training for norm in self._batch_norms()):
            mend = "raise train.batch_size, use fewer workers" + (", raise train.micro_batch" if train.micro_batch else "")
            _log.warning(
                "batch norm sees %d images at a time, too few for good statistics; %s, or set train.sync_batchnorm (GPUs) or train.freeze_bn", seen, mend
            )


@contextmanager
def _advised_on_memory(train: TrainConfig, at_once: int) -> Iterator[None]:
    """Says what helps where memory runs out within the block.

    Args:
        at_once: images that go through the model together.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        told = f"{at_once} images at once (train.batch_size={train.batch_size}, micro_batch={train.micro_batch}, precision={train.precision})"
        parts = f"set train.micro_batch={max(1, at_once // 2)} (the same step in parts)"
        precision = ", set train.precision=bf16" if train.precision == "fp32" else ""
        raise ConfigError(f"memory ran out in a training step of {told}; {parts}, lower train.batch_size or input.size{precision}") from error
