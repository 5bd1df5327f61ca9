"""Refits: once a run has chosen on val all there is to choose, its recipe learns from train and val together.

    the run before  ->  epochs (or a head and its settings), on val  ->  the refit: train and val, the same schedule, the weights of those epochs
    its temperature and thresholds are taken over, or chosen anew on what K trainings say of the fold that each has not seen:
    RUN/folds/1 ... RUN/folds/K  ->  RUN/folds/*/answers.npz  ->  RUN/bundle

No choice is made within a fold. The refit itself has learned from more than each of them: its own answers are at least as good, as
a rule. Whether folds stand for new photos is asked of val, see `prodrec.evaluation.folds`.
"""

import torch

from prodrec.config import Recipe
from prodrec.errors import ConfigError, ShardsError
from prodrec.evaluation.acceptance import CONFIDENCE, TARGET_PRECISION
from prodrec.evaluation.folds import chosen_on_folds
from prodrec.evaluation.judging import predicted
from prodrec.evaluation.predictions import Predictions
from prodrec.files import Folder
from prodrec.models.bundle import load_bundle
from prodrec.models.bundle_files import load_info
from prodrec.models.bundle_info import Acceptance, ClassifierInfo
from prodrec.recipes import parse_recipe
from prodrec.shards.folds import LEARNED, joined, without_fold
from prodrec.shards.reading import Shards, open_shards
from prodrec.training.progress import SETTINGS
from prodrec.training.records import BUNDLE, is_finished, read_history, recipe_of
from prodrec.training.state import kept_epochs
from prodrec.training.tracking import untracked


def refit_recipe(before: str, shards: Shards, folds: int) -> Recipe:
    """The recipe of a refit of the finished run in the folder `before`.

    Raises:
        ConfigError: no finished run is there, it learned from other shards, or is a refit itself; or folds that its recipe cannot have.
        ShardsError: they have no val split, so there is nothing more to learn from.
    """
    run, recipe = Folder(before), recipe_of(before)
    if recipe is None or not is_finished(run):
        raise ConfigError(f"--refit {before}: no finished run is there; train one, which chooses on val, or give its folder")
    if recipe.refit:
        raise ConfigError(f"--refit {before}: that run is a refit itself; give the run that it was made of")
    if not all(shards.split(name).rows for name in LEARNED):
        raise ShardsError(f"{shards.uri} has no val images, so the run in {before} has learned from all there is: there is nothing to refit")
    if load_info(run / BUNDLE).data_manifest_sha256 != shards.manifest_sha256:
        raise ConfigError(f"--refit {before}: that run learned from other shards than {shards.uri}; give those, or train on these")
    history, where = read_history(run), {"bundle": run / BUNDLE, "folds": folds}
    tree = recipe.model_dump(mode="json")
    if recipe.fit:
        kept = next(entry for entry in history if entry["kept"])
        tree["fit"] |= {"heads": [kept["head"]]} | {f"{name}s": [kept[name]] for name in SETTINGS if name in kept}
    else:
        where |= {"epochs": kept_epochs(history, recipe.train)}
    return parse_recipe(tree | {"refit": where}, f"--refit {before}")


def learned_from(recipe: Recipe, shards: Shards) -> Shards:
    """Shards as a run of the recipe sees them: a refit's train is train and val, but for the fold that it holds out."""
    if recipe.refit is None:
        return shards
    whole = joined(shards)
    return without_fold(whole, recipe.refit.folds, recipe.refit.fold) if recipe.refit.fold else whole


def fold_recipes(recipe: Recipe) -> list[Recipe]:
    """Those of a refit's folds, for which trainings of their own are due; heads on features need none."""
    refit = recipe.refit
    if refit is None or recipe.fit:
        return []
    held_out = (refit.model_copy(update={"fold": fold}) for fold in range(1, refit.folds + 1))
    return [untracked(recipe).model_copy(update={"name": f"{recipe.name}-fold-{one.fold}", "refit": one}) for one in held_out]


def served(recipe: Recipe, shards: Shards, answers: Predictions | None, device: torch.device) -> tuple[float, Acceptance | None]:
    """Temperature and thresholds of a refit: of the folds' answers, at the precision that the run before promises; without folds, that run's own.

    Args:
        shards: that it learned from, `joined`.
    """
    assert recipe.refit is not None
    bundle = load_bundle(recipe.refit.bundle, device, "classifier")
    before: ClassifierInfo = bundle.info
    asked = before.acceptance
    if answers is None:
        return before.temperature, asked and asked.model_copy(update={"carried_over": "there are no folds (--folds) to choose by"})
    on_val = predicted(bundle, open_shards(shards.uri).limited(recipe.data.limit).relabelled(before.labels), "val", device)
    precision, confidence = (asked.target_precision, asked.confidence) if asked else (TARGET_PRECISION, CONFIDENCE)
    return chosen_on_folds(answers, on_val, before, precision, confidence)
