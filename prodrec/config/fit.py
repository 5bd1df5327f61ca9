"""The section `fit` of a recipe: heads fitted on the features of a frozen backbone, in place of the loop over images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from prodrec.config.base import Frozen
from prodrec.config.sections import HeadKind

if TYPE_CHECKING:
    from prodrec.config.recipe import Recipe

# What a fit reads, by section; every other field of a recipe must be left at its default. A list of what is allowed, so
# that a field which is new elsewhere is refused here instead of being passed over in silence.
_USED: dict[str, set[str]] = {
    "input": {"size", "resize", "crop_fraction", "normalize"},
    "model": {"arch", "weights", "dropout", "freeze_backbone", "args"},
    "balance": {"class_weights", "beta"},
    "optim": {"name", "lr", "momentum", "warmup_epochs", "final_lr_fraction", "clip_norm", "label_smoothing"},
    "train": {"epochs", "batch_size", "seed", "precision", "early_stop"},
    "data": {"threads", "limit"},
    "tracking": {"mlflow", "experiment"},
}
# Where the field has a counterpart, the error names it.
_INSTEAD = {"model.head": "fit.heads", "optim.weight_decay": "fit.weight_decays"}


class FitConfig(Frozen):
    """Heads to try on the features of a frozen backbone, and how. `optim` and `train.epochs`, `.batch_size` are those of the heads.

    Attributes:
        heads: as `model.head`, each with its default arguments; where there is no val split to choose on, the first is taken.
        weight_decays: tried with every head, on features scaled to a spread of 1; without val the first is taken.
        random_backbone: allows model.weights=none: the features of a backbone that has learned nothing, as a baseline.
    """

    heads: Annotated[tuple[HeadKind, ...], Field(min_length=1)]
    weight_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    random_backbone: bool = False


def fit_faults(recipe: "Recipe", fit: FitConfig) -> Iterator[str]:
    """What has no meaning beside `fit`, a line each that names the field."""
    if recipe.kind != "classifier":
        yield f"fit has no meaning for a {recipe.kind}; leave it out"
    if recipe.model.weights == "none" and not fit.random_backbone:
        yield (
            "model.weights=none with fit would fit heads on random features; set model.weights to hub, a file or a bundle "
            "(fit.random_backbone=true if random features are what you want to measure)"
        )
    for section, values in recipe:
        if not isinstance(values, BaseModel) or section == "fit":
            continue
        for name, field in type(values).model_fields.items():
            if name not in _USED.get(section, ()) and getattr(values, name) != field.get_default(call_default_factory=True):
                path = f"{section}.{name}"
                instead = f"; set {_INSTEAD[path]} instead" if path in _INSTEAD else "; leave it out"
                yield f"{path} has no meaning with fit, which trains heads on features{instead}"
    if recipe.train.early_stop.patience is not None:
        yield "train.early_stop.patience has no meaning with fit: every head is fitted to the end; leave it out"
