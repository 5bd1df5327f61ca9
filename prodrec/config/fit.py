"""The section `fit` of a recipe: heads fitted on the features of a frozen backbone, in place of the loop over images."""

from typing import Annotated

from pydantic import Field

from prodrec.config.frozen import Frozen
from prodrec.config.sections import HeadKind


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
