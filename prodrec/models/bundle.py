"""Bundles: what is served. A model with all that it needs to answer; its folder is `prodrec.models.bundle_files`.

Not covered here: how an image becomes a model input (prodrec.images.transforms, told by `BundleInfo.input`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from prodrec.errors import BundleError, UserError
from prodrec.label_photos import PHOTOS, LabelPhotos, packed_photos
from prodrec.models.bundle_files import CARD, INFO, WEIGHTS, bundle_folder, check_weights, read_file, write_files
from prodrec.models.bundle_info import COPY_AGAIN, BundleInfo, ClassifierInfo, TaggerInfo, parse_info
from prodrec.models.card import model_card
from prodrec.models.heads import head_shape
from prodrec.models.registry import create_classifier
from prodrec.models.tagger import create_tagger
from prodrec.models.weights import NONE


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        info: a ClassifierInfo or a TaggerInfo.
        model: in eval mode; of a classifier normalised float images_BCHW -> logits_BK, of a tagger -> `Tags` of each image.
        photos: of its labels.
    """

    info: Any
    model: Any
    photos: LabelPhotos = field(default_factory=LabelPhotos)


def write_bundle(folder: str | Path, model: nn.Module, info: BundleInfo, photos: Mapping[str, bytes] = {}) -> None:
    """Writes a bundle; a reader sees all of it or none, and one that stands there already is replaced.

    Args:
        folder: a local path or a URI such as s3://bucket/bundle.
        model: a Classifier or a Tagger, also wrapped for data parallelism or compiled.
        info: what the bundle is; `weights_sha256` is filled in.
        photos: JPEGs of its labels, by their ids.

    Raises:
        OutputError: the place cannot be written (read-only, full), or other files are there.
        ValueError: the model has other labels than `info`.
    """
    state = plain_state(model)
    if told := _misfit(state, info):
        raise ValueError(told)
    weights = safetensors.save(state, metadata={"format": "pt"})
    info = info.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    files = {WEIGHTS: weights, PHOTOS: packed_photos(photos), CARD: model_card(info).encode(), INFO: info.model_dump_json(indent=2).encode()}
    write_files(folder, {name: data for name, data in files.items() if data})


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors by name: on the CPU, contiguous, in the precision trained, without the prefixes of wrappers."""
    return {_plain_name(name): value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in model.state_dict().items()}


def load_bundle(folder: str | Path, device: str | torch.device = "cpu", kind: str | None = None) -> Bundle:
    """Reads and checks a bundle; never touches the network, never runs code from the bundle.

    Args:
        folder: a local path or a URI, of a bundle or of a registry's kind.
        device: where the model goes.
        kind: `classifier` or `tagger`; None: either.

    Raises:
        BundleError: no complete bundle, changed weights, another version or kind, or parts that do not belong together.
    """
    place = bundle_folder(folder)
    info = parse_info(read_file(place, INFO), place / INFO, kind)
    state = _parse_weights(read_file(place, WEIGHTS), info, place / WEIGHTS)
    return Bundle(info, _assemble(info, state, place.uri).to(device).eval(), LabelPhotos(place))


def _plain_name(name: str) -> str:
    """`module.` of data parallelism stands in front; `_orig_mod.` of torch.compile stands wherever a module was compiled."""
    return name.replace("_orig_mod.", "").removeprefix("module.")


def _misfit(state: dict[str, Tensor], info: BundleInfo) -> str:
    """What is wrong with the head of a classifier; a tagger's tensors tell it each in its own way."""
    if not isinstance(info, ClassifierInfo):
        return ""
    classes, embedding_dim = head_shape(state, info.model)
    if classes != len(info.labels):
        return f"bundle.json has {len(info.labels)} labels, the head has {classes} classes"
    if embedding_dim != info.embedding_dim:
        return f"bundle.json says embedding_dim {info.embedding_dim}, the head has {embedding_dim}"
    return ""


def _parse_weights(data: bytes, info: BundleInfo, where: str) -> dict[str, Tensor]:
    check_weights(data, info, where)
    try:
        state: dict[str, Tensor] = safetensors.load(data)
    except SafetensorError as error:
        raise BundleError(f"{where} is no safetensors file: {error}; train again") from error
    return state


def _assemble(info: BundleInfo, state: dict[str, Tensor], where: str) -> nn.Module:
    if told := _misfit(state, info):
        raise BundleError(f"{where}: {told}; {COPY_AGAIN}")
    config, labels = info.model.model_copy(update={"weights": NONE}), len(info.labels)
    try:
        model: nn.Module = create_tagger(config, labels) if isinstance(info, TaggerInfo) else create_classifier(config, labels, info.input.size)
        # assign keeps the precision that the weights were trained in.
        model.load_state_dict(state, assign=True)
    except (UserError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{where}: the weights do not fit the architecture of bundle.json: {reason}; use the prodrec and timm that wrote it") from error
    return model
