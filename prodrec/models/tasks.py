"""Tasks: a model with its loss, as one module, so that data parallelism wraps both and one loop trains every kind.

A task maps (images, targets) of a batch to the sum of its losses, which has the gradient, and to sums that merge over steps and
ranks and are divided once, at the end: float64 [3 + M], the sums of WEIGHT, LOSS and N, then one for each of its `names`.

Shapes: images_BCHW uint8 [B, 3, S, S]; labels_B int64 [B]; logits_BK [B, K].
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from prodrec.config import PreprocessSpec
from prodrec.images.mosaic import mosaic
from prodrec.images.objects import Objects
from prodrec.images.transforms import Normalizer
from prodrec.images.views import Views, packed
from prodrec.models.inference import classified
from prodrec.models.tagger import Tagger, Tags
from prodrec.models.teacher import Teacher

# Beta distribution of the mixing share. Source: Zhang et al. 2018 (arXiv 1710.09412), 0.1-0.4; Yun et al. 2019 (arXiv 1905.04899), 1.
_MIXUP_ALPHA, _CUTMIX_ALPHA = 0.2, 1.0
# Source: the ImageNet convention of top-5.
TOP_K = 5

WEIGHT, LOSS, N = range(3)
Margin = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Task(nn.Module):
    """A model with its loss.

    Attributes:
        model: a module with `backbone_parameters()` and `head_parameters()`.
        names: of the sums beyond WEIGHT, LOSS and N.
    """

    model: Any
    names: tuple[str, ...]

    def compiled(self, backend: str = "inductor") -> Any:
        """The task as `torch.compile` makes it."""
        return torch.compile(self, backend=backend)


def means(sums: torch.Tensor, names: tuple[str, ...]) -> dict[str, float]:
    """Metrics of merged sums: `loss`, the weighted mean, and the mean over images of each name; nan for no images."""
    values = sums.detach().cpu()
    return {"loss": float(values[LOSS] / values[WEIGHT])} | {name: float(value / values[N]) for name, value in zip(names, values[N + 1 :], strict=True)}


class ClassificationTask(Task):
    """Class-weighted cross-entropy with label smoothing. Of a model that fuses views, images are the `Views` of B listings everywhere.

    Args:
        model: normalised float images to logits_BK.
        class_weights: [K] > 0.
        label_smoothing: in [0, 1).
        channels_last: memory format of the images.
        mix: share of the training steps that mix images and labels in pairs.
        margin: of (logits_BK, labels_B), makes what the loss takes for the logits while training; None: nothing does.
        log_prior: [K], added to what the loss takes for the logits while training.
        teacher: whose answers are learned from while training; pictures are then made as it renders them.
    """

    names = ("top1", "top5", "nll")

    def __init__(
        self,
        model: nn.Module,
        spec: PreprocessSpec,
        class_weights: torch.Tensor,
        label_smoothing: float,
        channels_last: bool,
        mix: float = 0.0,
        margin: Margin | None = None,
        log_prior: torch.Tensor | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last) if channels_last else model
        self.normalizer = Normalizer(spec)
        self.class_weights = nn.Buffer(class_weights.float(), persistent=False)
        self.label_smoothing, self.margin, self.flip, self.teacher = label_smoothing, margin, spec.flip, teacher
        self.log_prior = nn.Buffer(torch.zeros(len(class_weights)) if log_prior is None else log_prior.float(), persistent=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        classes = len(class_weights)
        mixers = [v2.MixUp(alpha=_MIXUP_ALPHA, num_classes=classes), v2.CutMix(alpha=_CUTMIX_ALPHA, num_classes=classes), v2.Identity()]
        self.mixer = v2.RandomChoice(mixers, p=[mix / 2, mix / 2, 1 - mix]) if mix else None

    def compiled(self, backend: str = "inductor") -> Any:
        """Mixing stays out of it: it draws in Python, and each share and box would be a graph of its own, step after step."""
        if isinstance(self.mixer, v2.RandomChoice):
            self.mixer = torch.compiler.disable(self.mixer)
        return super().compiled(backend)

    def logits(self, images_BCHW: torch.Tensor | Views, model: nn.Module | None = None) -> torch.Tensor:
        """logits_BK of the task's model in eval mode, or of another with the same inputs (a moving average)."""
        images, *lengths_B = packed(images_BCHW)
        return classified(model or self.model, self._arranged(self.normalizer(images)), self.flip, *lengths_B)[0]

    def forward(self, images_BCHW: torch.Tensor | Views, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits_BK, losses_B, weights_B, shown_B = self.losses(images_BCHW, labels_B)
        hits_Bk = logits_BK.detach().topk(min(TOP_K, logits_BK.shape[1])).indices == shown_B[:, None]
        loss, n = losses_B.sum(), torch.full((), len(labels_B), dtype=torch.float64, device=labels_B.device)
        # Plain, as val is judged, where the loss that is minimised may be weighted and smoothed.
        nll = F.cross_entropy(logits_BK.detach().float(), shown_B, reduction="sum")
        sums = (weights_B.double().sum(), losses_B.detach().double().sum(), n, hits_Bk[:, 0].double().sum(), hits_Bk.double().sum(), nll.double())
        return loss, torch.stack(sums)

    def losses(self, images_BCHW: torch.Tensor | Views, labels_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns logits_BK, weighted losses_B (float32), their weights_B and shown_B; the loss of a step is sum(losses) / sum(weights).

        The logits are without margin and prior, as they are judged. A mixed image is one of each of its two classes in the shares in which
        it shows them: each share of the loss has the weight of its class. Its label in shown_B is that of the larger one.
        """
        images, *lengths_B = packed(images_BCHW)
        if self.teacher and self.training:
            return self._student_losses(self.teacher, images, labels_B)
        inputs, targets = self._mixed(self.normalizer(images), labels_B)
        logits_BK = self.model(self._arranged(inputs), *lengths_B)
        return logits_BK, *self._label_losses(logits_BK, targets, labels_B)

    def _student_losses(self, teacher: Teacher, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `losses`; pictures are mixed before either model sees them."""
        pictures_BCHW, targets = self._mixed(images_BCHW.float(), labels_B)
        answers_BK = teacher.answers(pictures_BCHW)
        logits_BK = self.model(self._arranged(self.normalizer(teacher.for_student(pictures_BCHW))))
        losses_B, weights_B, shown_B = self._label_losses(logits_BK, targets, labels_B)
        share = teacher.config.weight
        return logits_BK, (1 - share) * losses_B + share * teacher.losses(logits_BK, answers_BK) * weights_B, weights_B, shown_B

    def _mixed(self, images_BCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Float images and what they show: labels_B, or shares [B, K] of those that the recipe mixes while training."""
        return self.mixer(images_BCHW, labels_B) if self.mixer is not None and self.training else (images_BCHW, labels_B)

    def _label_losses(self, logits_BK: torch.Tensor, targets: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weighted losses_B (float32), their weights_B and shown_B, as `losses`.

        Args:
            targets: as `_mixed` gives them.
        """
        judged_BK = self._judged(logits_BK.float(), labels_B)
        if targets.ndim == 1:
            weights_B = self.class_weights[targets]
            losses_B = F.cross_entropy(judged_BK, targets, label_smoothing=self.label_smoothing, reduction="none") * weights_B
            return losses_B, weights_B, labels_B
        weighted_BK = targets * self.class_weights
        return _smoothed_losses(judged_BK, weighted_BK, self.label_smoothing), weighted_BK.sum(1), targets.argmax(1)

    def _judged(self, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """What the loss takes for the logits."""
        if not self.training:
            return logits_BK
        return (self.margin(logits_BK, labels_B) if self.margin else logits_BK) + self.log_prior

    def _arranged(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.contiguous(memory_format=self.memory_format)


def _smoothed_losses(logits_BK: torch.Tensor, weights_BK: torch.Tensor, smoothing: float) -> torch.Tensor:
    """[B] cross-entropies of each class, with smoothed labels, in the sum with these weights: sum_k w_k ((1 - s) -log p_k + s mean(-log p))."""
    log_p_BK = F.log_softmax(logits_BK, dim=1)
    return -(1 - smoothing) * (weights_BK * log_p_BK).sum(1) - smoothing * weights_BK.sum(1) * log_p_BK.mean(1)


class DetectionTask(Task):
    """The parts of a detector's loss, summed.

    torchvision means each part over what it sampled from the batch; weighed by the images of each rank, the loss of a step is
    that of the global batch up to that sampling.

    Args:
        model: float images and objects to parts of the loss, see `prodrec.models.tagger`.
        names: of the parts.
        mix: share of the training steps whose pictures are tiled by four.
    """

    def __init__(self, model: Tagger, spec: PreprocessSpec, names: tuple[str, ...], channels_last: bool, mix: float = 0.0) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.memory_format)
        self.normalizer = Normalizer(spec)
        self.names, self.mix = names, mix

    def forward(self, images_BCHW: torch.Tensor, objects: Objects) -> tuple[torch.Tensor, torch.Tensor]:
        if self.mix and float(torch.rand(())) < self.mix:
            images_BCHW, objects = mosaic(images_BCHW, objects)
        return self.losses(images_BCHW, objects, self.model)

    def losses(self, images_BCHW: torch.Tensor, objects: Objects, model: Tagger) -> tuple[torch.Tensor, torch.Tensor]:
        """As `forward` of pictures as they are; of the task's model or another with the same inputs (a moving average), in train mode."""
        parts = model.losses(self._inputs(images_BCHW), objects)
        n = float(len(objects))
        losses = torch.stack([parts[name].float() for name in self.names]) * n
        total, count = losses.sum(), losses.new_tensor(n).double()
        return total, torch.cat([torch.stack([count, total.detach().double(), count]), losses.detach().double()])

    def tags(self, images_BCHW: torch.Tensor, model: Tagger) -> list[Tags]:
        """What a model in eval mode finds."""
        found: list[Tags] = model(self._inputs(images_BCHW))
        return found

    def _inputs(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.normalizer(images_BCHW)
        return images.contiguous(memory_format=self.memory_format)
