"""The section `fit` of a recipe: heads fitted on the features of a frozen backbone, in place of the loop over images."""

from typing import Annotated, Literal

from pydantic import Field

from prodrec.config.frozen import Frozen
from prodrec.config.sections import HeadKind

FitHead = Literal[HeadKind, "lda"]
Share = Annotated[float, Field(gt=0, le=1)]


class FitConfig(Frozen):
    """Heads to try on the features of a frozen backbone, and how. `optim` and `train.epochs`, `.batch_size` are those of the heads.

    Where there is no val split to choose on, the first of each list is taken.

    Attributes:
        heads: as `model.head`, each with its default arguments and fitted in steps; or `lda`, a linear head in closed form,
            `prodrec.training.discriminant`.
        weight_decays: tried with every head but `lda`, on features scaled to a spread of 1.
        shrinkages: tried with `lda`: how far the covariance is drawn to a round one. Source: docs/log.md 2026-11-28.
        powers: tried with `lda`: that features are raised to, as `power` of a linear head. Source: docs/log.md 2026-11-28.
        random_backbone: allows model.weights=none: the features of a backbone that has learned nothing, as a baseline.
    """

    heads: Annotated[tuple[FitHead, ...], Field(min_length=1)]
    weight_decays: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.1,)
    shrinkages: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.2)
    powers: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 1.0)
    random_backbone: bool = False
