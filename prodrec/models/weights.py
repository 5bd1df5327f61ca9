"""Weights from the Hugging Face hub or from a file; a model never starts from random weights unless its recipe says `none`."""

import logging
import ssl
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import timm
from huggingface_hub import constants, try_to_load_from_cache
from timm.models import load_state_dict, model_entrypoint
from torch import Tensor, nn

from prodrec.errors import WeightsError
from prodrec.models.backbones import timm_backbone

HUB, NONE = "hub", "none"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MEND = "set model.weights=none to train from scratch or model.weights=PATH to a local file"
# How many tensors an error names. Source: assumed; the first few show which architecture the file is of.
NAMED_TENSORS = 3

log = logging.getLogger(__name__)
StateDict = dict[str, Tensor]


def no_hub_weights(arch: str) -> WeightsError:
    """The error for an architecture that nobody has published weights of."""
    return WeightsError(f"model.weights=hub: there are no pretrained weights of {arch}; {MEND}")


def hub_backbone(arch: str, name: str, input_size: int, args: dict[str, Any]) -> nn.Module:
    """A timm backbone with the weights that its authors published, downloaded once and then read from the hub's cache.

    Args:
        arch: what the recipe calls it, for errors.
        name: what timm calls it.
        input_size: side of the square input, pixels; position embeddings are resized to it.
        args: keyword arguments of the architecture.

    Raises:
        WeightsError: there are none, the hub cannot be reached, or they do not fit `args`.
    """
    published = timm.get_pretrained_cfg(name)
    if not published.has_weights:
        raise no_hub_weights(arch)
    _check_reachable(arch, published.hf_hub_id, published.hf_hub_filename)
    try:
        return timm_backbone(name, input_size, args, pretrained=True)
    except Exception as error:  # the hub's client, its HTTP library, timm and torch each have a tree of their own
        raise WeightsError(f"model.weights=hub: cannot load the pretrained weights of {arch}: {_brief(error)}; {MEND}") from error


def load_file(path: str, arch: str, backbone: nn.Module, head: nn.Module) -> None:
    """Loads a backbone, and a head where it fits, from a file.

    The file is a Classifier's own (a bundle's model.safetensors, a checkpoint) or a state dict in timm's naming, with or
    without classifier. A head of another class count, and every classifier of timm's, is left out: `head` stays fresh.

    Raises:
        WeightsError: the file is missing, unreadable, holds code, or lacks tensors of the backbone.
    """
    state = read_weights(path)
    own = any(key.startswith("backbone.") for key in state)
    backbone_state = _adapt(path, arch, _below("backbone.", state) if own else state, backbone)
    _check_fit(path, arch, backbone_state, backbone)
    # Not strict: files of old PyTorch versions lack batch norm's step counters.
    backbone.load_state_dict(backbone_state, strict=False)
    head_state = _below("head.", state) if own else {}
    if _shapes(head_state) == _shapes(head.state_dict()):
        head.load_state_dict(head_state)
    else:
        log.info("%s: no head for these classes in it; the head starts fresh", path)


def read_weights(path: str) -> StateDict:
    """Tensors by name from a .safetensors file or a state dict saved by PyTorch; wrappers are taken off, code is never run.

    Raises:
        WeightsError: the file is missing, unreadable, of another kind, or holds anything but tensors.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise WeightsError(f"model.weights: {path} is a folder; give the file in it, such as {file / 'model.safetensors'}")
    if not file.is_file():
        raise WeightsError(f"model.weights: there is no file '{path}'; give hub, none or the path of a {', '.join(SUFFIXES)} file")
    if file.suffix not in SUFFIXES:
        raise WeightsError(f"model.weights: {path} is no weights file; give a {', '.join(SUFFIXES)} file")
    try:
        state: StateDict = load_state_dict(str(file), weights_only=True)
    except Exception as error:  # torch.load raises nearly anything for damaged files
        raise WeightsError(
            f"model.weights: cannot read {path} ({type(error).__name__}): it is damaged, or a pickle of more than tensors, which could run code; "
            "give a .safetensors file or a plain state dict"
        ) from error
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"model.weights: {path} holds no state dict; save one with torch.save(model.state_dict(), ...)")
    return state


def _check_reachable(arch: str, repository: str | None, filename: str | None) -> None:
    """Fails at once where the hub's host cannot be connected to.

    The hub's own client retries a host that does not resolve for 46 s (measured, huggingface_hub 2.4: five retries for
    each of two file names). A host that answers, however slowly or oddly, is left to that client and its retries.
    """
    if not repository or _is_cached(repository, filename):
        return
    if constants.is_offline_mode():
        raise WeightsError(f"model.weights=hub: HF_HUB_OFFLINE is set and the weights of {arch} are not in the hub's cache; unset it, or {MEND}")
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=constants.HF_HUB_ETAG_TIMEOUT).close()
    except URLError as error:
        if isinstance(error.reason, OSError) and not isinstance(error.reason, ssl.SSLError):
            reason = error.reason.strerror or str(error.reason)
            raise WeightsError(f"model.weights=hub: cannot reach {constants.ENDPOINT} for the weights of {arch}: {reason}; {MEND}") from error
    except (OSError, ValueError, HTTPException):
        log.debug("no plain answer from %s", constants.ENDPOINT, exc_info=True)


def _is_cached(repository: str, filename: str | None) -> bool:
    name, _, revision = repository.partition("@")
    names = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    return any(isinstance(try_to_load_from_cache(name, file, revision=revision or None), str) for file in names)


def _adapt(path: str, arch: str, state: StateDict, backbone: nn.Module) -> StateDict:
    """Brings timm's older namings up to date, resizes position embeddings to the input size and drops the classifier."""
    published = getattr(backbone, "pretrained_cfg", None)
    if not published:
        return state
    module = sys.modules[model_entrypoint(published["architecture"]).__module__]
    if adapt := getattr(module, "checkpoint_filter_fn", None):
        try:
            state = adapt(state, backbone)
        except Exception as error:  # filters index and reshape tensors of a file that may be of any other model
            raise WeightsError(f"model.weights: {path} does not fit {arch}: {_brief(error)}; give weights of {arch}, or {MEND}") from error
    classifiers = published["classifier"] or ()
    prefixes = tuple(f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers))
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}


def _check_fit(path: str, arch: str, state: StateDict, backbone: nn.Module) -> None:
    if told := misfits(state, backbone.state_dict()):
        raise WeightsError(f"model.weights: {path} does not fit {arch}: {told}; give weights of {arch}, or {MEND}")


def misfits(state: StateDict, wanted_state: StateDict) -> str:
    """How the tensors of a file differ from those of a model, in few words; "" where they fit."""
    wanted, found = _shapes(wanted_state), _shapes(state)
    faults = {
        "missing": [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")],
        "of another shape": [f"{key} {found[key]} for {wanted[key]}" for key in wanted if key in found and found[key] != wanted[key]],
        "too many": [key for key in found if key not in wanted],
    }
    told = [f"{len(names)} {what} ({_first(names)})" for what, names in faults.items() if names]
    return f"of {len(wanted)} tensors {', '.join(told)}" if told else ""


def _below(prefix: str, state: StateDict) -> StateDict:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _shapes(state: StateDict) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED_TENSORS]) + (", ..." if len(names) > NAMED_TENSORS else "")


def _brief(error: Exception) -> str:
    # Source: assumed; torch lists every tensor that does not fit, and one line is enough.
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
