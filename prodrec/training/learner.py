"""What a step changes: the weights, their moving average and the optimiser; on one rank or many.

One step over W ranks with losses l_i and class weights w_i of all images i of the global batch:

    loss = sum_i w_i l_i / sum_i w_i

Each rank has a part of the sums; DDP averages gradients over ranks, hence the factor W in `step`.
"""

from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from prodrec.config import Recipe
from prodrec.models.scorer import autocast
from prodrec.models.tasks import WEIGHT, Task
from prodrec.shards.stream import Batch
from prodrec.training.averages import moving_average
from prodrec.training.checkpoint import Tensors, optimizer_tensors, restore_optimizer
from prodrec.training.context import WorkerContext
from prodrec.training.optim import build_optimizer, lr_factor, set_lr


class Learner:
    """A task that learns, epoch by epoch.

    Attributes:
        task: on the device of the context.
    """

    def __init__(self, task: Task, recipe: Recipe, context: WorkerContext) -> None:
        self.task, self.recipe, self.context = task.to(context.device), recipe, context
        self.ema = moving_average(task.model, recipe.train.ema_decay)
        self.optimizer = build_optimizer(task.model, recipe.optim)
        self.backbone: list[nn.Parameter] = list(task.model.backbone_parameters()) if recipe.train.head_epochs else []
        self.head_only = False
        self.forward: Any = None
        self.start_epoch(1)

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

    def step(self, batch: Batch, epochs_done: float) -> torch.Tensor:
        """One optimiser step; returns the sums of the global batch, as a tensor so that the host need not wait for them.

        Args:
            epochs_done: where the run stands, fractions count.
        """
        context, clip_norm = self.context, self.recipe.optim.clip_norm
        set_lr(self.optimizer, self._lr_factor(epochs_done))
        images, targets = batch.images.to(context.device, non_blocking=True), batch.targets.to(context.device, non_blocking=True)
        with autocast(context.device, self.recipe.train.precision):
            loss_sum, sums = self.forward(images, targets)
        if context.world_size > 1:
            distributed.all_reduce(sums)
        loss = loss_sum / sums[WEIGHT].to(loss_sum.dtype) * context.world_size
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), clip_norm)
        self.optimizer.step()
        if self.ema:
            self.ema.update_parameters(self.task.model)
        return sums

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
        module: Any = torch.compile(self.task) if self.recipe.train.compile else self.task
        if self.context.world_size == 1:
            return module
        on_gpu = self.context.device.type == "cuda"
        return DistributedDataParallel(module, device_ids=[self.context.device] if on_gpu else None)
