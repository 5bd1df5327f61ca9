"""Embedding: the files of a plan of features are made by a frozen backbone, each whole or not at all."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from prodrec.errors import TrainingError, WeightsError
from prodrec.files import Folder
from prodrec.models.embedder import Embedder, weights_sha256
from prodrec.models.scorer import precision_on
from prodrec.shards.feed import Feed, Pass
from prodrec.shards.order import sequential_order
from prodrec.shards.stream import Batch, eval_transform
from prodrec.training.features import FeaturePlan, Part

# Images embedded at once. Source: as `prodrec evaluate` scores them, `prodrec.evaluation.judging`.
_BATCH_SIZE = 64


def check_same_weights(plan: FeaturePlan, backbone: nn.Module) -> None:
    """Raises: WeightsError: the backbone has other weights than the plan was made with."""
    if weights_sha256(backbone) != plan.made_of["weights_sha256"]:
        raise WeightsError(f"model.weights={plan.recipe.model.weights} differ from process to process; give a file or a bundle that all nodes see alike")


class PartEmbedder:
    """Makes the files of a plan; may be called by several threads, which compute in turn and read and decode meanwhile.

    Args:
        threads: that decode.

    Raises:
        WeightsError: the backbone has other weights than the plan was made with.
        TrainingError: the device cannot compute in the plan's precision.
    """

    def __init__(self, plan: FeaturePlan, backbone: nn.Module, device: torch.device, threads: int) -> None:
        check_same_weights(plan, backbone)
        if precision_on(device, plan.precision) != plan.precision:
            raise TrainingError(f"this node has no {plan.precision} arithmetic, in which the other features are computed; set train.precision=fp32")
        self.plan, self.folder, self.device, self.threads = plan, Folder(plan.uri), device, threads
        self.embedder = Embedder(backbone, plan.recipe.input, device, plan.precision)
        self.computing, self.cores = threading.Lock(), torch.get_num_threads()

    def __call__(self, parts: Sequence[Part]) -> Iterator[int]:
        """Writes the files of parts, one after another; yields the rows of each.

        Raises:
            TrainingError: a feature is not finite.
            OutputError: it cannot be written.
        """
        torch.set_num_threads(self.cores)  # of this thread; one that decodes would else have told torch that 1 is enough for all
        feed = Feed(map(self._pass, parts), self.threads, self.device.type == "cuda")
        for part in parts:
            self._write(part, torch.cat(list(self._features(feed.next_pass()[1]))))
            yield part.rows

    def _pass(self, part: Part) -> Pass:
        order = sequential_order(np.arange(part.first, part.first + part.rows), _BATCH_SIZE)
        return Pass(self.plan.shards.split(part.split), order, eval_transform(self.plan.recipe.input))

    def _features(self, inputs: Iterable[Batch]) -> Iterator[torch.Tensor]:
        for batch in inputs:
            with self.computing:
                features_BD = self.embedder(batch.images).cpu()
            yield features_BD

    def _write(self, part: Part, features_ND: torch.Tensor) -> None:
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


def embed_here(plan: FeaturePlan, backbone: nn.Module, device: torch.device, threads: int, on_part: Callable[[int], None]) -> None:
    """Makes what is missing of a plan in this process; `on_part` is told the rows of each file."""
    for rows in PartEmbedder(plan, backbone, device, threads)(plan.missing()):
        on_part(rows)
    plan.complete()
