"""Fitting heads on features, and choosing one of them on val.

The first linear layer of a head is fitted on features that are scaled to mean 0 and a spread of 1 over the training rows, so
that one learning rate and one range of weight decays serve every backbone; the scaling is then folded into the layer:

    W ((x - mean) * scale) + b  =  (W * scale) x + (b - (W * scale) mean)

Shapes: N rows, D features, K classes, B rows of a step.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from prodrec.config import FitConfig, HeadKind, Recipe
from prodrec.errors import TrainingError
from prodrec.evaluation.predict import predict
from prodrec.evaluation.predictions import Predictions
from prodrec.models.heads import create_head
from prodrec.models.registry import Classifier
from prodrec.shards.stream import Batch
from prodrec.training.optim import build_optimizer, lr_factor, set_lr, update
from prodrec.training.state import score_of

# Of two heads that val finds equally good, the one that comes first here is kept.
_SIMPLEST_FIRST: tuple[HeadKind, ...] = ("linear", "cosine", "arcface", "relu", "mlp")
# A feature whose spread is under this share of the largest says nothing and is left out. Source: assumed; float32 has 7 digits.
_LEAST_SPREAD = 1e-6
# Rows that a head judges at once. Source: as `prodrec evaluate` scores images, `prodrec.evaluation.judging`.
_JUDGED_ROWS = 64


@dataclass(frozen=True)
class Rows:
    """Features of a split with their labels.

    Attributes:
        features_ND: float32.
        labels_N: int64.
    """

    features_ND: torch.Tensor
    labels_N: torch.Tensor

    def to(self, device: torch.device) -> "Rows":
        return Rows(self.features_ND.to(device), self.labels_N.to(device))

    def chosen(self, rows: torch.Tensor) -> "Rows":
        return Rows(self.features_ND[rows], self.labels_N[rows])


class Trial(NamedTuple):
    """One head with one weight decay."""

    head: HeadKind
    weight_decay: float


def trials(fit: FitConfig, is_judged: bool) -> list[Trial]:
    """What is tried, the simplest first: fewer parameters, then more decay.

    Args:
        is_judged: whether there is a val split to choose on; without one only the first of each list is fitted.
    """
    if not is_judged:
        return [Trial(fit.heads[0], fit.weight_decays[0])]
    return [Trial(head, decay) for head in _SIMPLEST_FIRST if head in fit.heads for decay in sorted(set(fit.weight_decays), reverse=True)]


def search(
    recipe: Recipe,
    fit: FitConfig,
    train: Rows,
    class_weights_K: torch.Tensor,
    judge: Callable[[nn.Module], dict[str, float]] | None,
    on_trial: Callable[[dict[str, Any]], None],
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Fits every trial and keeps the best by the recipe's early-stop metric on val; of equals the simplest.

    Args:
        train: on the device to fit on.
        judge: val metrics of a head; None: there is no val split.
        on_trial: told each entry.

    Returns:
        The head kept, in eval mode, and an entry for each trial: trial, head, weight_decay, train_ and val_ metrics, seconds, kept.

    Raises:
        TrainingError: a loss that is not finite.
    """
    metric, best, history = recipe.train.early_stop.metric, None, []
    for number, trial in enumerate(trials(fit, judge is not None), start=1):
        started = time.monotonic()
        head, sums = fit_head(trial, recipe, train, class_weights_K)
        entry: dict[str, Any] = {"trial": number, "head": trial.head, "weight_decay": trial.weight_decay} | sums
        if judge:
            entry |= {f"val_{name}": value for name, value in judge(head).items()}
        entry["seconds"] = time.monotonic() - started
        history.append(entry)
        if best is None or score_of(entry, metric) > score_of(best[1], metric):
            best = head, entry
        on_trial(entry)
    assert best is not None
    return best[0], [entry | {"kept": entry is best[1]} for entry in history]


def fit_head(trial: Trial, recipe: Recipe, train: Rows, class_weights_K: torch.Tensor) -> tuple[nn.Module, dict[str, float]]:
    """Fits one head by the recipe's optimiser and schedule; a pure function of its arguments on one device.

    Returns:
        The head in eval mode, and train_loss (weighted, smoothed) and train_top1 of the last epoch.

    Raises:
        TrainingError: a loss that is not finite.
    """
    torch.manual_seed(recipe.train.seed)
    device, epochs = train.features_ND.device, recipe.train.epochs
    head = create_head(trial.head, train.features_ND.shape[1], len(class_weights_K), recipe.model.dropout).to(device)
    scaling = _scaling(train.features_ND) if _first_linear(head) else None
    model = Classifier(nn.Identity(), head)
    optimizer = build_optimizer(model, recipe.optim.model_copy(update={"weight_decay": trial.weight_decay}))
    steps = -(-len(train.labels_N) // recipe.train.batch_size)
    sums = torch.zeros(3)
    for epoch in range(epochs):
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        for step, rows in enumerate(torch.randperm(len(train.labels_N)).to(device).tensor_split(steps)):
            set_lr(optimizer, lr_factor(epoch + step / steps, epochs, recipe.optim))
            batch = train.chosen(rows)
            inputs_BD = (batch.features_ND - scaling[0]) * scaling[1] if scaling else batch.features_ND
            sums += _step(model, inputs_BD, batch.labels_N, class_weights_K, recipe, optimizer)
        if not torch.isfinite(sums).all():
            raise TrainingError(f"the loss of the {trial.head} head is not finite in epoch {epoch + 1}; lower optim.lr or set optim.clip_norm")
    if scaling:
        _fold(head, *scaling)
    loss, weight, hits = sums.tolist()
    return head.eval(), {"train_loss": loss / weight, "train_top1": hits / len(train.labels_N)}


def feature_batches(rows: Rows, dtype: torch.dtype) -> Iterator[Batch]:
    """Features as a head is given them within a bundle.

    Args:
        dtype: in which the backbone says them.
    """
    numbers = torch.arange(len(rows.labels_N))
    parts = (tensor.split(_JUDGED_ROWS) for tensor in (rows.features_ND, rows.labels_N, numbers))
    for features_BD, labels_B, numbers_B in zip(*parts, strict=True):
        yield Batch(features_BD.to(dtype), labels_B, numbers_B)


def predict_features(head: nn.Module, rows: Rows, dtype: torch.dtype, device: torch.device, precision: str) -> Predictions:
    """What a bundle with this head says of the images of the rows.

    Raises:
        TrainingError: a logit is not finite.
    """
    return predict(head, feature_batches(rows, dtype), device, precision)


def _step(
    model: Classifier, inputs_BD: torch.Tensor, labels_B: torch.Tensor, class_weights_K: torch.Tensor, recipe: Recipe, optimizer: torch.optim.Optimizer
) -> torch.Tensor:
    """One step of the optimiser on sum(w_i l_i) / sum(w_i), as `prodrec.training.learner`; returns [sum w l, sum w, hits]."""
    logits_BK: torch.Tensor = model(inputs_BD)
    weights_B = class_weights_K[labels_B]
    losses_B = F.cross_entropy(model.with_margin(logits_BK, labels_B), labels_B, label_smoothing=recipe.optim.label_smoothing, reduction="none") * weights_B
    optimizer.zero_grad(set_to_none=True)
    loss = losses_B.sum()
    loss.backward()
    update(optimizer, 1 / weights_B.sum(), recipe.optim.clip_norm, loss.isfinite())
    hits = (logits_BK.detach().argmax(1) == labels_B).sum()
    return torch.stack([losses_B.detach().double().sum(), weights_B.double().sum(), hits.double()])


def _scaling(features_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and scale [D] each; the scale is 0 where a feature says nothing."""
    mean_D, spread_D = features_ND.mean(0), features_ND.std(0, correction=0)
    return mean_D, torch.where(spread_D > _LEAST_SPREAD * spread_D.max(), 1 / spread_D, 0.0)


def _first_linear(head: nn.Module) -> nn.Linear | None:
    """The layer that reads the features; None where a head looks at their direction, which scaling would turn."""
    return next((layer for layer in head if isinstance(layer, nn.Linear)), None) if isinstance(head, nn.Sequential) else None


@torch.no_grad()
def _fold(head: nn.Module, mean_D: torch.Tensor, scale_D: torch.Tensor) -> None:
    """Lets the first layer take features as they are."""
    layer = _first_linear(head)
    assert layer is not None
    layer.weight.mul_(scale_D)
    # In double: the mean may be large beside the spread, and the difference is what counts.
    layer.bias.copy_((layer.bias.double() - layer.weight.double() @ mean_D.double()).float())
