"""Which settings `prodrec tune` tries, around those of a recipe: pure functions of the recipe and a seed.

Trial 0 is the recipe as it is. Every other one leaves each setting as it is with a probability of a half, so that it changes a few at
once: at random rather than on a grid, as few of them matter (Bergstra & Bengio 2012, JMLR 13, 281-305).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prodrec.config import Recipe
from prodrec.errors import ConfigError
from prodrec.recipes import parse_recipe

Settings = dict[str, Any]
"""Values by dotted path, as of `--set`."""

# Rates are drawn from a third to three times the recipe's, on a logarithmic scale; decays from a fifth to five times. Source: assumed.
_RATE_SPAN, _DECAY_SPAN = 3.0, 5.0
_LEFT_ALONE = 0.5
# Draws of a trial, of which one must be a recipe that differs from all before it. Source: assumed.
_TRIES = 50


def drawn_settings(recipe: Recipe, trials: int, seed: int = 0) -> list[Settings]:
    """Settings of so many trials, each other than those before it; the first changes nothing.

    Raises:
        ConfigError: the recipe has not so many.
    """
    found: list[Settings] = [{}]
    for number in range(1, trials):
        rng = np.random.default_rng([seed, number])  # more trials are the same ones and others
        draws = (_draw(recipe, rng) for _ in range(_TRIES))
        found.append(next((draw for draw in draws if draw not in found and _is_valid(recipe, draw)), {}))
        if not found[-1]:
            raise ConfigError(f"--trials {trials}: {recipe.name} has settings for {number} trials; lower it")
    return found


def with_settings(recipe: Recipe, settings: Settings, name: str) -> Recipe:
    """A recipe with other values.

    Raises:
        ConfigError: they do not go together.
    """
    tree = recipe.model_dump(mode="json") | {"name": name}
    for path, value in settings.items():
        section, field = path.split(".")
        tree[section][field] = value
    return parse_recipe(tree, name)


def _is_valid(recipe: Recipe, settings: Settings) -> bool:
    try:
        with_settings(recipe, settings, recipe.name)
    except ConfigError:
        return False
    return True


def _draw(recipe: Recipe, rng: np.random.Generator) -> Settings:
    settings: Settings = {}
    for choices in _space(recipe, rng):
        if rng.random() >= _LEFT_ALONE:
            settings |= choices[int(rng.integers(len(choices)))]
    tree = recipe.model_dump(mode="json")
    return {path: value for path, value in settings.items() if tree[path.split(".")[0]][path.split(".")[1]] != value}


def _space(recipe: Recipe, rng: np.random.Generator) -> Iterator[Sequence[Settings]]:
    """What each setting may become: settings that are one decision are changed together."""
    yield [{"optim.lr": _around(recipe.optim.lr, _RATE_SPAN, rng)}]
    yield [{"optim.weight_decay": _around(recipe.optim.weight_decay or 0.01, _DECAY_SPAN, rng)}]
    # By step. Source: timm's ModelEmaV3; 0.98 to 0.998 helped runs of some thousand steps (docs/log.md 2026-11-25).
    yield [{"train.ema_decay": value} for value in (0.0, 0.98, 0.995, 0.998)]
    # Source: 0.08 Szegedy et al. 2015 (inception crops), 0.35 timm's fine-tuning; written products lose their writing below.
    yield [{"augment.min_crop_area": value} for value in (0.08, 0.2, 0.35, 0.6)]
    # Source: timm mixes every step or none; half of them helped here (docs/log.md 2026-11-25).
    yield [{"augment.mix": value} for value in (0.0, 0.25, 0.5)]
    if recipe.kind == "tagger":
        return
    # Source: Müller & Hutter 2021 (TrivialAugment, arXiv 2103.10158); Touvron et al. 2022 (DeiT III, arXiv 2204.07118) for milder ones.
    yield [{"augment.policy": value} for value in ("light", "trivial", "heavy")]
    yield [{"augment.erase": value} for value in (0.0, 0.25)]
    # Source: Müller et al. 2019 (arXiv 1906.02629), 0 to 0.2.
    yield [{"optim.label_smoothing": value} for value in (0.0, 0.05, 0.1, 0.2)]
    # Source: Cui et al. 2019, Gupta et al. 2019, Menon et al. 2021, as beside the fields; docs/results.md.
    yield [
        _BALANCED_BY_NOTHING,
        _BALANCED_BY_NOTHING | {"balance.sampling": "over"},
        _BALANCED_BY_NOTHING | {"balance.logit_adjustment": 0.5},
        _BALANCED_BY_NOTHING | {"balance.class_weights": "effective", "balance.beta": 0.9},
    ]
    if recipe.model.weights != "none" and not recipe.model.freeze_backbone:
        # Source: Bao et al. 2022 (BEiT), Clark et al. 2020 (ELECTRA): 0.65 to 0.9; heads at 2 to 10 times the backbone's rate.
        yield [{"optim.layer_decay": value} for value in (1.0, 0.9, 0.75)]
        yield [{"optim.backbone_lr_fraction": value} for value in (0.1, 0.2, 0.5, 1.0)]


_BALANCED_BY_NOTHING: Settings = {"balance.class_weights": "none", "balance.sampling": "none", "balance.logit_adjustment": 0.0}


def _around(value: float, span: float, rng: np.random.Generator) -> float:
    """Three digits that count."""
    return float(f"{value * math.exp(rng.uniform(-1, 1) * math.log(span)):.3g}")
