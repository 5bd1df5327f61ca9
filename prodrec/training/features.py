"""Features of shards, computed once by a frozen backbone and kept beside them.

    SHARDS/features/<key>/{train,val,test}-00000-of-00003.parquet    row int64, features float32 [D]; 1024 rows a file
    SHARDS/features/<key>/manifest.json                              written last: its presence means complete

The key is a hash of all that the features depend on. A file is written whole or not at all, and its name and its rows follow
from the key: of two runs that embed at once each may use the other's files, and a run that was killed goes on where it was.
`features/` may be deleted at any time. Float32 holds every bf16 number exactly, so what is read is what the backbone said.
NOT covered: taking files away whose shards or backbone are no longer used.
"""

import hashlib
import json
import uuid
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import ValidationError
from torch import nn

from prodrec.config import Frozen, Recipe
from prodrec.errors import OutputError
from prodrec.files import Folder
from prodrec.models.embedder import weights_sha256
from prodrec.models.scorer import precision_on
from prodrec.shards.reading import MANIFEST, Shards
from prodrec.sources.schema import SPLITS

FEATURES = "features"
# Of this file and of all that leads from a JPEG to features; a change of either makes a new number.
_CODE_VERSION = 1
# Rows of a file, the unit of work: what a killed worker costs. Source: assumed; 20 s of a small ViT on one core.
PART_ROWS = 1024


class FeaturesManifest(Frozen):
    """What stands in a folder of features.

    Attributes:
        made_of: what the key is a hash of.
        dtype: `float32` or `bfloat16`, in which the backbone said them and a head is given them while serving.
        rows: of each split.
    """

    made_of: dict[str, Any]
    dim: int
    dtype: str
    rows: dict[str, int]


@dataclass(frozen=True)
class Part:
    """Rows [first, first + rows) of a split, in one file."""

    split: str
    number: int
    first: int
    rows: int
    name: str


@dataclass(frozen=True)
class FeaturePlan:
    """Which features, and where; small and picklable.

    Attributes:
        shards: with the rows that are used, and no others.
        made_of: what the key is a hash of.
        uri: of the folder that they are in, or will be.
    """

    recipe: Recipe
    shards: Shards
    made_of: dict[str, Any]
    uri: str

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`, in which all of them are computed."""
        return str(self.made_of["precision"])

    def parts(self) -> list[Part]:
        """All files, in the order of their rows."""
        found = []
        for split in SPLITS:
            rows = self.shards.split(split).rows
            count = -(-rows // PART_ROWS)
            for number in range(count):
                first = number * PART_ROWS
                found.append(Part(split, number, first, min(PART_ROWS, rows - first), f"{split}-{number:05d}-of-{count:05d}.parquet"))
        return found

    def missing(self) -> list[Part]:
        """Files that are still to be made: none where the manifest is there and all of its files are whole."""
        folder = Folder(self.uri)
        there = {info.base_name for info in folder.names()}
        return [part for part in self.parts() if part.name not in there or not _is_whole(folder, part)]

    def manifest(self) -> FeaturesManifest | None:
        """None until they are complete."""
        try:
            return FeaturesManifest.model_validate_json(Folder(self.uri).read(MANIFEST))
        except (OSError, ValidationError):
            return None

    def complete(self) -> None:
        """Says that all features are there.

        Raises:
            OutputError: they are not, or the folder cannot be written.
        """
        if missing := self.missing():
            raise OutputError(f"{self.uri} lacks {len(missing)} files of features ({missing[0].name}); run it again")
        folder, parts = Folder(self.uri), self.parts()
        facts = [_schema_facts(folder, part) for part in parts]
        if len(set(facts)) > 1:
            raise OutputError(f"{self.uri} holds features of several kinds; delete it and run it again")
        dim, dtype = facts[0]
        manifest = FeaturesManifest(made_of=self.made_of, dim=dim, dtype=dtype, rows={split: self.shards.split(split).rows for split in SPLITS})
        folder.write(MANIFEST, manifest.model_dump_json(indent=1).encode())

    def read(self, split: str) -> torch.Tensor:
        """float32 [N, D] of a split, rows in order; complete ones only.

        Raises:
            OutputError: a file holds other rows than its name says.
        """
        manifest = self.manifest()
        assert manifest is not None
        folder, chunks = Folder(self.uri), []
        for part in (part for part in self.parts() if part.split == split):
            with folder.filesystem.open_input_file(folder.within(part.name)) as file:
                table = pq.read_table(file)
            if not np.array_equal(table["row"].to_numpy(), np.arange(part.first, part.first + part.rows)):
                raise OutputError(f"{folder / part.name} holds other features than it should; delete {self.uri} and run it again")
            flat = table["features"].combine_chunks().flatten()
            chunks.append(torch.from_numpy(flat.to_numpy().reshape(part.rows, manifest.dim).copy()))
        return torch.cat(chunks) if chunks else torch.empty(0, manifest.dim)


def plan_features(recipe: Recipe, shards: Shards, backbone: nn.Module, run: Folder, device: torch.device) -> FeaturePlan:
    """Finds the features of a recipe, or a place for them: beside the shards, or in the run's folder where those cannot be written.

    Args:
        shards: with the rows that are used, and no others.
        backbone: with the weights of the recipe.
        device: of the kind that will compute them.

    Raises:
        OutputError: neither place can be written.
    """
    made_of = feature_facts(recipe, shards, weights_sha256(backbone), precision_on(device, recipe.train.precision))
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    plan = FeaturePlan(recipe, shards, made_of, Folder(Folder(shards.uri) / f"{FEATURES}/{key}").uri)
    if (plan.manifest() and not plan.missing()) or _is_writable(plan.uri):
        return plan
    beside = replace(plan, uri=Folder(run / f"{FEATURES}/{key}").uri)
    Folder(beside.uri).make()
    return beside


def feature_facts(recipe: Recipe, shards: Shards, weights: str, precision: str) -> dict[str, Any]:
    """All that features depend on; the precision is that which is computed in, wherever another was asked for."""
    return {
        "code_version": _CODE_VERSION,
        "arch": recipe.model.arch,
        "args": recipe.model.args,
        "weights_sha256": weights,
        "input": recipe.input.model_dump(mode="json"),
        "precision": precision,
        "data_manifest_sha256": shards.manifest_sha256,
        "rows": {split: shards.split(split).rows for split in SPLITS},
    }


def _is_whole(folder: Folder, part: Part) -> bool:
    try:
        with folder.filesystem.open_input_file(folder.within(part.name)) as file:
            return pq.ParquetFile(file).metadata.num_rows == part.rows
    except (OSError, pa.ArrowException):
        return False


def _schema_facts(folder: Folder, part: Part) -> tuple[int, str]:
    """D, and the type in which the backbone said the features."""
    with folder.filesystem.open_input_file(folder.within(part.name)) as file:
        schema = pq.read_schema(file)
    return schema.field("features").type.list_size, schema.metadata[b"dtype"].decode()


def _is_writable(uri: str) -> bool:
    try:
        folder, probe = Folder(uri).make(), f".probe-{uuid.uuid4().hex}"
        folder.write(probe, b"")
        folder.delete(probe)
    except (OutputError, OSError):
        return False
    return True
