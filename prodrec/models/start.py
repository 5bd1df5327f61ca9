"""The model that a run starts from: random, pretrained, or that of a bundle, with a head for the labels that are new."""

import operator
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prodrec.config import PreprocessSpec, Recipe
from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.label_photos import LabelPhotos
from prodrec.labels import Label, with_words
from prodrec.models.bundle import Bundle, load_bundle
from prodrec.models.bundle_files import INFO, bundle_folder, load_info
from prodrec.models.bundle_info import BundleInfo, ClassifierInfo, TaggerInfo
from prodrec.models.detectors import DETECTORS
from prodrec.models.registry import check_input, create_classifier
from prodrec.models.tagger import create_tagger
from prodrec.models.weights import HUB, NONE, SUFFIXES
from prodrec.recipes import load_recipe, parse_recipe
from prodrec.shards.reading import Shards


def is_bundle(weights: str) -> bool:
    """Whether a recipe's model.weights is the folder of a bundle."""
    return weights not in (HUB, NONE) and not weights.endswith(SUFFIXES) and Folder(weights).exists(INFO)


def starting_info(recipe: Recipe) -> BundleInfo | None:
    """Of the bundle that a run starts from, if it does.

    Raises:
        BundleError: model.weights is no bundle of the recipe's kind.
    """
    return load_info(recipe.model.weights, recipe.kind) if is_bundle(recipe.model.weights) else None


def teacher_info(recipe: Recipe) -> BundleInfo | None:
    """Of the bundle whose answers a run learns from, if it does.

    Raises:
        BundleError: distill.teacher is no classifier's bundle.
    """
    return load_info(recipe.distill.teacher, "classifier") if recipe.distill else None


def learned_before(recipe: Recipe, shards: Shards) -> list[str]:
    """Hashes of the manifests of the data, other than the run's own, that a run knows of: through its first weights or its teacher."""
    infos = [info for info in (starting_info(recipe), teacher_info(recipe)) if info]
    return sorted({manifest for info in infos for manifest in info.learned_from} - {shards.manifest_sha256})


def val_learned(recipe: Recipe) -> bool:
    """Whether a run learns from val: as a refit, or through its first weights or its teacher."""
    return recipe.refit is not None or any(info.val_learned for info in (starting_info(recipe), teacher_info(recipe)) if info)


def starting_labels(recipe: Recipe, labels: list[Label]) -> list[Label]:
    """The labels of a run on data with `labels`: those of the bundle that it starts from stay in front, new ones follow.

    The data's titles and links are newer than the bundle's and go before them.
    """
    info = continued_info(recipe)
    known = info.labels if info else []
    names = {label.name for label in known}
    return with_words(known, labels) + [label for label in labels if label.name not in names]


def label_photos(recipe: Recipe, shards: Shards) -> LabelPhotos:
    """The reference photos of a run's labels: of the bundle that it starts from, and of its data."""
    return LabelPhotos(*([bundle_folder(recipe.model.weights)] if continued_info(recipe) else []), Folder(shards.uri))


def trained_counts(recipe: Recipe, shards: Shards, counts_K: npt.NDArray[np.int64]) -> list[int]:
    """Images (or boxes) of each label that the weights have learned from: those of the run and of the bundle that it starts from.

    Where the shards go on with the split of the bundle's, its images are among them, or were taken out since.

    Args:
        counts_K: of the run.
    """
    info = continued_info(recipe)
    before = info.train_boxes if isinstance(info, TaggerInfo) else info.train_counts if isinstance(info, ClassifierInfo) else []
    together = max if info and shards.keeps_split_of([info.data_manifest_sha256]) else operator.add
    return [together(count, earlier) for count, earlier in zip_longest(counts_K.tolist(), before, fillvalue=0)]


def starting_model(recipe: Recipe, num_labels: int) -> Any:
    """A Classifier or a Tagger for so many labels, with the weights that the recipe names.

    Raises:
        BundleError: model.weights is no bundle of the recipe's kind.
        ConfigError: an unknown architecture or arguments that it does not take, or a bundle of another architecture or input.
        WeightsError: weights that cannot be had or do not fit.
    """
    if not is_bundle(recipe.model.weights):
        return _created(recipe, num_labels)
    bundle = load_bundle(recipe.model.weights, kind=recipe.kind)
    _check_same(recipe, bundle.info)
    model = _created(recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": NONE})}), num_labels)
    model.load_state_dict(_grown(bundle, model, num_labels))
    return model


def starting_backbone(recipe: Recipe) -> nn.Module:
    """The frozen backbone of a recipe with `fit`, in eval mode; of a bundle nothing else is taken.

    Raises: as `starting_model`.
    """
    info, head = starting_info(recipe), recipe.model
    if info:  # loading checks that the recipe asks for the bundle's architecture; whatever head stands there is dropped
        head = info.model.model_copy(update={name: getattr(recipe.model, name) for name in ("arch", "args", "weights")})
    model = starting_model(recipe.model_copy(update={"model": head}), len(info.labels) if info else 1)
    backbone: nn.Module = model.backbone.requires_grad_(False).eval()
    return backbone


def continued_recipe(folder: str, name_or_path: str | None, overrides: list[str] | None) -> Recipe:
    """The recipe of a run that goes on from a bundle: architecture and input are the bundle's, all else is that of the recipe named.

    Args:
        name_or_path: None: the recipe that the bundle was trained by.

    Raises:
        BundleError: no bundle there.
        ConfigError: as `load_recipe`; a recipe of the other kind.
    """
    where = bundle_folder(folder).uri
    info = load_info(where)
    model = info.model.model_dump(mode="json", exclude={"freeze_layers"}) | {"weights": where}
    backbone = {name: model[name] for name in ("arch", "args", "weights")}
    if name_or_path:
        if (named := load_recipe(name_or_path)).kind != info.kind:
            raise ConfigError(f"{where} is a {info.kind}, and the recipe {name_or_path} trains a {named.kind}; name another, or leave --recipe out")
        own = backbone if named.fit else model | {"freeze_backbone": named.model.freeze_backbone}
        return load_recipe(name_or_path, overrides, {"model": own, "input": _input(info, named.fit is not None)})
    fits = bool(info.recipe.get("fit"))
    # Going on from a refit is no refit: val is there to choose again.
    sections = {"model": backbone if fits else model, "input": _input(info, fits), "refit": None}
    return parse_recipe(info.recipe | sections, f"the recipe in {where}", overrides)


def _input(info: BundleInfo, fits: bool) -> dict[str, Any]:
    """The bundle's; heads are fitted on the features of pictures as they are, not of mirrored ones."""
    return info.input.model_dump(mode="json") | ({"flip": False} if fits else {})


def continued_info(recipe: Recipe) -> BundleInfo | None:
    """Of the bundle whose head a run goes on with; a fit takes only the backbone of a bundle, its head knows what it was fitted on."""
    return None if recipe.fit else starting_info(recipe)


def _created(recipe: Recipe, num_labels: int) -> nn.Module:
    if recipe.kind == "tagger":
        return create_tagger(recipe.model, num_labels, recipe.input)
    check_input(recipe.model, recipe.input)
    return create_classifier(recipe.model, num_labels, recipe.input.size)


def _check_same(recipe: Recipe, info: BundleInfo) -> None:
    for name in ("arch", "args", "head", "head_args", "fuse"):
        there, asked = _fixed(getattr(info.model, name)), _fixed(getattr(recipe.model, name))
        if there != asked:
            raise ConfigError(f"model.{name} is {asked}, and the bundle {recipe.model.weights} has {there}; start by --from, which takes it from the bundle")
    scaled: PreprocessSpec = info.input
    if scaled.normalize != recipe.input.normalize:
        raise ConfigError(f"the bundle {recipe.model.weights} was trained with input.normalize={scaled.normalize}, not {recipe.input.normalize}; set that")


def _fixed(value: Any) -> Any:
    """What cannot be changed of a bundle; the margin is only of the loss."""
    return {name: part for name, part in value.items() if name != "margin"} if isinstance(value, dict) else value


def _grown(bundle: Bundle, model: nn.Module, num_labels: int) -> dict[str, Tensor]:
    """The bundle's tensors in the shapes of `model`, whose own values stay in the rows of the labels that are new."""
    info, wanted, state = bundle.info, model.state_dict(), bundle.model.state_dict()
    is_tagger = isinstance(info, TaggerInfo)
    before, now = (count + is_tagger for count in (len(info.labels), num_labels))  # a detector has a class for the background
    head = tuple(f"detector.{prefix}" for prefix in DETECTORS[info.model.arch].head) if is_tagger else ("head.",)
    odd = [name for name, tensor in state.items() if tensor.shape != wanted[name].shape and not name.startswith(head)]
    if odd:
        raise ConfigError(f"{odd[0]} of the bundle has another shape at this input.size; keep the bundle's, {info.input.size}")
    return {name: tensor if tensor.shape == wanted[name].shape else _more_rows(name, tensor, wanted[name], before, now) for name, tensor in state.items()}


def _more_rows(name: str, old: Tensor, fresh: Tensor, before: int, now: int) -> Tensor:
    """Rows are [classes x 4 edges] for the boxes of Faster R-CNN, and [anchors x classes] for the scores of every detector. Source: torchvision.

    Those of a classifier are [centres x classes], with one centre in most heads.
    """
    grown = fresh.clone()
    if "bbox_pred" in name:
        grown[: len(old)] = old
    else:
        anchors = len(old) // before
        torch.unflatten(grown, 0, (anchors, now))[:, :before] = torch.unflatten(old, 0, (anchors, before))
    return grown
