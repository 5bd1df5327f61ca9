"""Checkpoints: tensors in safetensors, facts in JSON, no pickle.

    RUN/checkpoints/epoch-0003/                 after three epochs
    RUN/checkpoints/epoch-0004-step-000120/     after 120 steps of the fourth
        state.safetensors, state.json           the latter is written last: its presence means complete

They lie in the run's folder whoever launched the run, on a local disk or an object store, and are read by whoever goes on with it.
"""

import json
import math
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from prodrec.errors import TrainingError
from prodrec.files import Folder, writing
from prodrec.lease import Claim

Tensors = dict[str, torch.Tensor]
_FACTS, _TENSORS, _FOLDER = "state.json", "state.safetensors", "checkpoints"
_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")
# Where runs on Ray had theirs before 2026-11-28.
_EARLIER = "ray"
# The latest so many stay whatever their score: should the last be torn, little is lost.
_LATEST = 2
# Read at a time to check a file, bytes.
_CHUNK_BYTES = 2**24


class Position(NamedTuple):
    """Where a run stands: complete epochs, and steps of the one after them."""

    epochs: int
    step: int = 0

    @property
    def name(self) -> str:
        return f"epoch-{self.epochs + 1:04d}-step-{self.step:06d}" if self.step else f"epoch-{self.epochs:04d}"


class Checkpoints:
    """Those of one run.

    Args:
        keep: the best this many, by the `score` among their facts, stay beside the latest.
        claim: of whoever writes them.
    """

    def __init__(self, run: Folder, keep: int = 1, claim: Claim | None = None) -> None:
        self.run, self.keep, self.claim = run, keep, claim
        self.scores: dict[str, float] = {}

    def save(self, position: Position, sections: dict[str, Tensors], facts: dict[str, Any]) -> None:
        """Writes one, and lets go of those that are neither among the best nor the latest.

        Raises:
            OutputError: it cannot be written (full, read-only).
            TrainingError: the run was taken over by another process, which took this one for dead.
        """
        if self.claim and not self.claim.stands():
            raise TrainingError(f"another process has taken over the run in {self.run.uri}; this one ends")
        name = f"{_FOLDER}/{position.name}"
        with writing(self.run / name):
            self.run.delete(f"{name}/{_FACTS}")  # of an attempt before: it must not speak for other tensors
        write_checkpoint(Folder(self.run / name), sections, facts)
        self.scores[name] = facts.get("score", -math.inf)
        found = dict(self._found())
        latest = sorted(found, key=lambda known: found[known])[-_LATEST:]
        best = sorted(found, key=lambda known: (self._score(known), found[known]), reverse=True)[: self.keep]
        with writing(self.run / _FOLDER):
            for info in self.run.names(_FOLDER):
                if _NAME.fullmatch(info.base_name) and (old := f"{_FOLDER}/{info.base_name}") not in (*latest, *best):
                    self.run.delete(old)

    def drop(self, position: Position) -> None:
        """Takes one away whose weights turned out to be broken, if it was written."""
        with writing(self.run / _FOLDER):
            self.run.delete(f"{_FOLDER}/{position.name}")

    def newest(self) -> Position | None:
        """Of the complete ones, whether they can be read or not."""
        return max((position for _, position in self._found()), default=None)

    def latest(self, note: Callable[[str], None]) -> tuple[str, dict[str, Tensors], dict[str, Any]] | None:
        """The latest that can be read: its name, and what is in it; None where there is none.

        Args:
            note: told of each that cannot.
        """
        for name, _ in sorted(self._found(), key=lambda found: found[1], reverse=True):
            try:
                return name, *self.read(name)
            except Exception as error:  # torn files show themselves in many ways
                note(f"the checkpoint {self.run / name} cannot be read and is passed over: {' '.join(str(error).split())[:200]}")
        return None

    def read(self, name: str) -> tuple[dict[str, Tensors], dict[str, Any]]:
        """As `read_checkpoint`."""
        return read_checkpoint(Folder(self.run / name))

    def _found(self) -> Iterator[tuple[str, Position]]:
        """Names of complete ones, and where in the run they are of."""
        for info in self.run.names(_FOLDER):
            if (match := _NAME.fullmatch(info.base_name)) and self.run.exists(f"{_FOLDER}/{info.base_name}/{_FACTS}"):
                epoch, step = int(match[1]), int(match[2] or 0)
                yield f"{_FOLDER}/{info.base_name}", Position(epoch - 1, step) if step else Position(epoch)
        for info in self.run.names(_EARLIER):
            name = f"{_EARLIER}/{info.base_name}"
            if info.base_name.startswith("checkpoint_") and self.run.exists(f"{name}/{_FACTS}"):
                yield name, Position(len(json.loads(self.run.read(f"{name}/{_FACTS}"))["history"]))

    def _score(self, name: str) -> float:
        if name not in self.scores:
            try:
                self.scores[name] = json.loads(self.run.read(f"{name}/{_FACTS}")).get("score", -math.inf)
            except (OSError, ValueError):
                self.scores[name] = -math.inf
        return self.scores[name]


def write_checkpoint(folder: Folder, sections: dict[str, Tensors], facts: dict[str, Any]) -> None:
    """Writes named sections of tensors and JSON facts.

    Raises:
        OutputError: the folder cannot be written.
    """
    # One tensor may stand in two sections (the best epoch is often the last): safetensors refuses shared memory, so copy.
    flat = {
        f"{section}/{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for section, t in sections.items() for name, tensor in t.items()
    }
    with writing(folder.uri), _on_disk(folder) as place:
        try:
            save_file(flat, place / _TENSORS)
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from error
        checksum = _checksum(place / _TENSORS)
        if place != Path(folder.path):
            fs.copy_files(str(place), folder.path, destination_filesystem=folder.filesystem)
    folder.write(_FACTS, json.dumps(facts | {"crc32": checksum}).encode())


def read_checkpoint(folder: Folder) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Returns the sections and facts of a checkpoint.

    Raises:
        OSError, ValueError, SafetensorError: the folder holds no complete checkpoint.
    """
    facts: dict[str, Any] = json.loads(folder.read(_FACTS))
    with _on_disk(folder) as place:
        if place != Path(folder.path):
            fs.copy_files(folder.within(_TENSORS), str(place / _TENSORS), source_filesystem=folder.filesystem)
        if "crc32" in facts and _checksum(place / _TENSORS) != facts["crc32"]:
            raise ValueError(f"{_TENSORS} is not what was written")
        flat = load_file(place / _TENSORS)
    sections: dict[str, Tensors] = {}
    for key, tensor in flat.items():
        section, name = key.split("/", 1)
        sections.setdefault(section, {})[name] = tensor
    return sections, facts


@contextmanager
def _on_disk(folder: Folder) -> Iterator[Path]:
    """The folder itself where it is local, else one for the time of a copy."""
    if isinstance(folder.filesystem, fs.LocalFileSystem):
        yield Path(folder.make().path)
        return
    with tempfile.TemporaryDirectory(prefix="prodrec-checkpoint-") as temporary:
        yield Path(temporary)


def _checksum(file: Path) -> int:
    """Of a file's bytes; cheap beside writing them."""
    found = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            found = zlib.crc32(chunk, found)
    return found


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
