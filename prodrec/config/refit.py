"""The section `refit` of a recipe: training once more on train and val, after another run has chosen all there is to choose."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from prodrec.config.frozen import Frozen, PositiveInt


class RefitConfig(Frozen):
    """Learning from train and val together. `prodrec train --refit RUN` fills it in from the run before, RUN.

    Attributes:
        bundle: folder of that run's bundle. Without folds its temperature and thresholds are taken over.
        epochs: after which the weights are kept (their mean, of several), as that run chose on val; it ends after the last one, on
            the schedule of the whole. Empty with `fit`.
        folds: as many parts of train and val are in turn held out of a training of their own; what those say of them chooses
            temperature and thresholds. 0: none.
        fold: the part that this training holds out, of 1 to `folds`; None: it learns from all.
    """

    bundle: Annotated[str, Field(min_length=1)]
    epochs: tuple[PositiveInt, ...] = ()
    folds: Annotated[int, Field(ge=0, le=100)] = 0
    fold: PositiveInt | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds 1 would hold out everything at once; use 5 (or 2 at the least), or 0 for none")
        if self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold {self.fold} is none of {self.folds} folds")
        return self
