"""Embedding: the files of a plan of features are made by a frozen backbone, each whole or not at all."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from prodrec.errors import TrainingError, WeightsError
from prodrec.files import Folder
from prodrec.models.embedder import Embedder, weights_sha256
from prodrec.shards.order import sequential_order
from prodrec.shards.reading import SplitIndex
from prodrec.shards.stream import Batch, batches, eval_transform, read_windows
from prodrec.training.features import FeaturePlan, Part

# Images embedded at once. Source: as `prodrec evaluate` scores them, `prodrec.evaluation.judging`.
_BATCH_SIZE = 64


def check_same_weights(plan: FeaturePlan, backbone: nn.Module) -> None:
    """Raises: WeightsError: the backbone has other weights than the plan was made with."""
    if weights_sha256(backbone) != plan.made_of["weights_sha256"]:
        raise WeightsError(f"model.weights={plan.recipe.model.weights} differ from process to process; give a file or a bundle that all nodes see alike")


class PartEmbedder:
    """Makes the files of a plan, one by one.

    Args:
        threads: that decode.

    Raises:
        WeightsError: the backbone has other weights than the plan was made with.
    """

    def __init__(self, plan: FeaturePlan, backbone: nn.Module, device: torch.device, threads: int) -> None:
        check_same_weights(plan, backbone)
        self.plan, self.folder, self.device, self.threads = plan, Folder(plan.uri), device, threads
        self.embedder = Embedder(backbone, plan.recipe.input, device, plan.recipe.train.precision)

    def __call__(self, part: Part) -> int:
        """Writes the file of a part; returns its rows.

        Raises:
            TrainingError: a feature is not finite.
            OutputError: it cannot be written.
        """
        features = [self.embedder(batch.images).cpu() for batch in self._batches(part)]
        features_ND = torch.cat(features)
        if not torch.isfinite(features_ND).all():
            raise TrainingError(f"features of {part.split} are not finite; set train.precision=fp32")
        flat = pa.array(features_ND.float().reshape(-1).numpy())
        rows = pa.array(np.arange(part.first, part.first + part.rows))
        table = pa.table({"row": rows, "features": pa.FixedSizeListArray.from_arrays(flat, features_ND.shape[1])})
        sink = pa.BufferOutputStream()
        kind = {"dtype": str(features_ND.dtype).removeprefix("torch.")}
        # Float noise does not compress.
        pq.write_table(table.replace_schema_metadata(kind), sink, compression="none", use_dictionary=False)
        self.folder.write(part.name, sink.getvalue().to_pybytes())
        return part.rows

    def _batches(self, part: Part) -> Iterator[Batch]:
        index: SplitIndex = self.plan.shards.split(part.split)
        order = sequential_order(np.arange(part.first, part.first + part.rows), _BATCH_SIZE)
        transform = eval_transform(self.plan.recipe.input)
        return batches(read_windows(index, order.windows), order, transform, self.threads, pin_memory=self.device.type == "cuda")


def embed_here(plan: FeaturePlan, backbone: nn.Module, device: torch.device, threads: int, on_part: Callable[[int], None]) -> None:
    """Makes what is missing of a plan in this process; `on_part` is told the rows of each file."""
    embedder = PartEmbedder(plan, backbone, device, threads)
    for part in plan.missing():
        on_part(embedder(part))
    plan.complete()
