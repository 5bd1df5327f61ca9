"""Recipes: one complete training run as data.

Models are frozen and refuse unknown keys. Reading them from YAML and `--set` is `prodrec.recipes`.
"""

from prodrec.config.distill import DistillConfig
from prodrec.config.fit import FitConfig, FitHead
from prodrec.config.frozen import SHORT_SIDE_PX, Fraction, Frozen, PositiveFloat, PositiveInt, explain_validation
from prodrec.config.recipe import Recipe
from prodrec.config.refit import RefitConfig
from prodrec.config.sections import (
    INTERPOLATIONS,
    AugmentConfig,
    BalanceConfig,
    DataConfig,
    EarlyStopConfig,
    HeadKind,
    ModelConfig,
    OptimConfig,
    PreprocessSpec,
    TagsConfig,
    TrackingConfig,
    TrainConfig,
)

__all__ = [
    "INTERPOLATIONS",
    "SHORT_SIDE_PX",
    "AugmentConfig",
    "BalanceConfig",
    "DataConfig",
    "DistillConfig",
    "EarlyStopConfig",
    "FitConfig",
    "FitHead",
    "Fraction",
    "Frozen",
    "HeadKind",
    "ModelConfig",
    "OptimConfig",
    "PositiveFloat",
    "PositiveInt",
    "PreprocessSpec",
    "Recipe",
    "RefitConfig",
    "TagsConfig",
    "TrackingConfig",
    "TrainConfig",
    "explain_validation",
]
