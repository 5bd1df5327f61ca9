"""Checkpoints: tensors in safetensors, facts in JSON, no pickle. `state.json` is written last: its presence means complete."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from prodrec.errors import UserError
from prodrec.files import writing

Tensors = dict[str, torch.Tensor]
_FACTS, _TENSORS = "state.json", "state.safetensors"


def write_checkpoint(folder: Path, sections: dict[str, Tensors], facts: dict[str, Any]) -> None:
    """Writes named sections of tensors and JSON facts.

    Raises:
        OutputError: the folder cannot be written.
    """
    # One tensor may stand in two sections (the best epoch is often the last): safetensors refuses shared memory, so copy.
    flat = {
        f"{section}/{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for section, t in sections.items() for name, tensor in t.items()
    }
    with writing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            save_file(flat, folder / _TENSORS)
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from error
        (folder / f".{_FACTS}.part").write_text(json.dumps(facts))
        (folder / f".{_FACTS}.part").rename(folder / _FACTS)


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Returns the sections and facts of a checkpoint.

    Raises:
        UserError: the folder holds no complete checkpoint.
    """
    try:
        facts = read_facts(folder)
        flat = load_file(folder / _TENSORS)
    except Exception as error:
        raise UserError(f"{folder} holds no readable checkpoint: {error}; delete it to go on from an earlier one") from error
    sections: dict[str, Tensors] = {}
    for key, tensor in flat.items():
        section, name = key.split("/", 1)
        sections.setdefault(section, {})[name] = tensor
    return sections, facts


def read_facts(folder: Path) -> dict[str, Any]:
    """The JSON facts of a complete checkpoint."""
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text())
    return facts


def is_complete(folder: Path) -> bool:
    return (folder / _FACTS).is_file()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimiser's state by parameter position; its hyper-parameters come from the recipe, never from a checkpoint."""
    state = optimizer.state_dict()["state"]
    return {f"{position}/{name}": torch.as_tensor(value) for position, values in state.items() for name, value in values.items() if value is not None}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Puts back what `optimizer_tensors` took."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for key, tensor in tensors.items():
        position, name = key.split("/", 1)
        whole["state"].setdefault(int(position), {})[name] = tensor
    optimizer.load_state_dict(whole)
    # Files hold plain rows; where weights are channels-last, mixed layouts would slow down every step.
    for parameter, values in optimizer.state.items():
        for name, tensor in values.items():
            if tensor.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(tensor)
