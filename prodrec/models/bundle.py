"""Bundles: the folder that is served. `model.safetensors`, `README.md` and, written last, `bundle.json`.

Not covered here: how an image becomes a model input (prodrec.data.transforms, told by `BundleInfo.input`).
"""

import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyarrow import fs
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from prodrec.data.files import Folder, writing
from prodrec.errors import BundleError, OutputError, SourceError, UserError
from prodrec.models.bundle_info import COPY_AGAIN, BundleInfo, ClassifierInfo, TaggerInfo, parse_info
from prodrec.models.card import model_card
from prodrec.models.heads import head_shape
from prodrec.models.registry import create_classifier
from prodrec.models.tagger import create_tagger
from prodrec.models.weights import NONE

__all__ = ["Bundle", "ClassifierInfo", "TaggerInfo", "bundle_folder", "copy_bundle", "load_bundle", "load_info", "plain_state", "rewrite_info", "write_bundle"]

WEIGHTS, CARD, INFO = "model.safetensors", "README.md", "bundle.json"
# In a registry's folder of a kind: names the version that is current. Written by prodrec.evaluation.releases.
POINTER = "current.json"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        info: a ClassifierInfo or a TaggerInfo.
        model: in eval mode; of a classifier normalised float images_BCHW -> logits_BK, of a tagger -> `Tags` of each image.
    """

    info: Any
    model: Any


def write_bundle(folder: str | Path, model: nn.Module, info: BundleInfo) -> None:
    """Writes a bundle; a reader sees all of it or none, and one that stands there already is replaced.

    Args:
        folder: a local path or a URI such as s3://bucket/bundle.
        model: a Classifier or a Tagger, also wrapped for data parallelism or compiled.
        info: what the bundle is; `weights_sha256` is filled in.

    Raises:
        OutputError: the place cannot be written (read-only, full), or other files are there.
        ValueError: the model has other labels than `info`.
    """
    state = plain_state(model)
    if told := _misfit(state, info):
        raise ValueError(told)
    weights = safetensors.save(state, metadata={"format": "pt"})
    info = info.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    _write(Folder(folder), {WEIGHTS: weights, CARD: model_card(info).encode(), INFO: info.model_dump_json(indent=2).encode()})


def copy_bundle(source: str | Path, target: str | Path) -> None:
    """Copies a bundle; a reader sees all of it or none.

    Raises:
        BundleError: as `load_info`, or changed weights.
        OutputError: the place cannot be written, or other files are there.
    """
    info, place = load_info(source), bundle_folder(source)
    files = {name: _read(place, name) for name in (WEIGHTS, CARD, INFO)}
    _parse_weights(files[WEIGHTS], info, place / WEIGHTS)
    _write(Folder(target), files)


def rewrite_info(folder: str | Path, info: BundleInfo) -> None:
    """Replaces what a bundle says about itself; its weights stay.

    Raises:
        BundleError: it is one of a registry.
        OutputError: the place cannot be written.
    """
    place = Folder(folder)
    if place.exists(POINTER) or Folder(place.uri.rpartition("/")[0]).exists(POINTER):
        raise BundleError(f"{place.uri} belongs to a registry, whose versions stay as they are; change the bundle that was promoted, then promote it again")
    place.write(CARD, model_card(info).encode())
    place.write(INFO, info.model_dump_json(indent=2).encode())


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors by name: on the CPU, contiguous, in the precision trained, without the prefixes of wrappers."""
    return {_plain_name(name): value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in model.state_dict().items()}


def bundle_folder(folder: str | Path) -> Folder:
    """Where a bundle lies: the folder itself, or of a registry's folder (REGISTRY/classifier) the version that is current now.

    What reads a bundle more than once asks once: a promotion may come between.

    Raises:
        BundleError: a place that cannot be opened, or a pointer that cannot be read.
    """
    try:
        place = Folder(folder)
    except SourceError as error:
        raise BundleError(str(error)) from error
    if place.exists(INFO) or not place.exists(POINTER):
        return place
    try:
        return Folder(place / json.loads(place.read(POINTER))["version"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BundleError(f"{place / POINTER} names no version: {error!r}; write it again by `prodrec registry promote`") from error


def load_info(folder: str | Path, kind: str | None = None) -> BundleInfo:
    """What a bundle says about itself; its weights are not read. As `load_bundle` for the rest."""
    place = bundle_folder(folder)
    return parse_info(_read(place, INFO), place / INFO, kind)


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
    info = parse_info(_read(place, INFO), place / INFO, kind)
    state = _parse_weights(_read(place, WEIGHTS), info, place / WEIGHTS)
    return Bundle(info, _assemble(info, state, place.uri).to(device).eval())


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


def _check_free(target: Folder) -> None:
    """Only a bundle, whole or begun, is ever replaced."""
    strangers = sorted(name for item in target.names() if (name := item.base_name) not in {WEIGHTS, CARD, INFO} and not name.endswith(".part"))
    if strangers:
        raise OutputError(f"cannot write the bundle {target.uri}: it holds other files ({', '.join(strangers[:3])}); choose another folder")


def _write(target: Folder, files: dict[str, bytes]) -> None:
    with writing(target.uri):
        _check_free(target)
    if isinstance(target.filesystem, fs.LocalFileSystem):
        _write_aside(Path(target.path), files)
    else:
        _write_in_place(target, files)


def _write_in_place(target: Folder, files: dict[str, bytes]) -> None:
    """Object stores cannot rename folders: without bundle.json there is no bundle, so it goes first and comes last."""
    with writing(target.uri):
        target.delete(INFO)
    target.make()
    for name in (WEIGHTS, CARD, INFO):
        target.write(name, files[name])


def _write_aside(path: Path, files: dict[str, bytes]) -> None:
    """Writes into a sibling folder and renames it into place."""
    tag = uuid.uuid4().hex[:8]
    aside, old = (path.with_name(f".{path.name}.{tag}.{end}") for end in ("part", "old"))
    try:
        _write_in_place(Folder(aside), files)
        with writing(str(path)):
            _swap(aside, path, old)
    except OutputError as error:
        raise OutputError(str(error).replace(str(aside), str(path))) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(new: Path, path: Path, old: Path) -> None:
    """If the new folder cannot take its place, the old one is back where it was."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read(place: Folder, name: str) -> bytes:
    try:
        return place.read(name)
    except FileNotFoundError as error:
        raise BundleError(f"{place.uri} is no complete bundle: {name} is missing; give the folder that training wrote, such as RUN/bundle") from error
    except OSError as error:
        raise BundleError(f"cannot read {place / name}: {' '.join(str(error).split())}; check the path and its permissions") from error


def _parse_weights(data: bytes, info: BundleInfo, where: str) -> dict[str, Tensor]:
    found = hashlib.sha256(data).hexdigest()
    if found != info.weights_sha256:
        raise BundleError(f"{where} was changed or cut short: sha256 {found[:12]}..., bundle.json says {info.weights_sha256[:12]}...; {COPY_AGAIN}")
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
