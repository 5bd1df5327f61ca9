"""What the loop does not know: what a kind of model learns from, how it is judged, and what a finished run leaves."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from prodrec.config import Recipe
from prodrec.files import Folder
from prodrec.models.tasks import Task
from prodrec.shards.reading import Shards
from prodrec.shards.stream import AnyTransform, Batch
from prodrec.training.classifier import ClassifierKind
from prodrec.training.tagger import TaggerKind


class Kind(Protocol):
    """One kind of model in one run.

    Attributes:
        repeats: float64 [N], mean number of showings of each training row; None: each once.
    """

    repeats: npt.NDArray[np.float64] | None

    @property
    def task(self) -> Task: ...

    def train_transform(self, epoch: int) -> AnyTransform: ...

    def eval_transform(self) -> AnyTransform: ...

    def predict(self, model: Any, inputs: Iterable[Batch], device: torch.device, to_finish: bool) -> Any:
        """What a model in eval mode says of batches; picklable.

        Args:
            to_finish: whether `finish` is given it, or `val_metrics` alone, which needs less.

        Raises:
            TrainingError: a logit is not finite.
        """

    def merged(self, parts: list[Any]) -> Any:
        """The predictions of all ranks as one."""

    def val_metrics(self, predictions: Any) -> dict[str, float]:
        """With `loss` and what the recipe's early stop may name."""

    def finish(self, model: Any, history: list[dict[str, Any]], predictions: dict[str, Any], run: Folder) -> None:
        """Chooses on val what is left to choose, judges every split, and writes reports and the bundle: the last thing a run does."""


KINDS: dict[str, Callable[[Recipe, Shards], Kind]] = {"classifier": ClassifierKind, "tagger": TaggerKind}


def create_kind(recipe: Recipe, shards: Shards) -> Kind:
    """Raises: WeightsError, ConfigError: from building the model."""
    kind: Kind = KINDS[recipe.kind](recipe, shards)
    return kind
