"""From encoded images of shards to batches of model inputs; `prodrec.shards.feed` reads them and hands them on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.images.box_transforms import augment_boxes, place
from prodrec.images.decode import decode_rgb
from prodrec.images.objects import Objects, placed_columns, read_objects, read_placed
from prodrec.images.transforms import augment, resize
from prodrec.images.views import Views, decode_views, is_views, read_views, views_column


@dataclass(frozen=True)
class Batch:
    """Model inputs of one step.

    Attributes:
        images: uint8 [B, 3, S, S], or the `Views` of B listings.
        targets: int64 [B], labels, or the objects of images with boxes.
        rows: int64 [B], row numbers in the split.
    """

    images: Any
    targets: Any
    rows: torch.Tensor

    def parts(self, count: int) -> "list[Batch]":
        """Neighbouring rows in as many parts, of sizes that differ by one at most; in fewer, if there are fewer rows."""
        edges = np.linspace(0, len(self.rows), min(count, len(self.rows)) + 1).astype(int)
        slices = [slice(low, high) for low, high in pairwise(edges.tolist())]
        return [Batch(self.images[rows], self.targets[rows], self.rows[rows]) for rows in slices] if count > 1 else [self]


Transform = Callable[[torch.Tensor, int, int], torch.Tensor]
"""(image_CHW uint8, row, occurrence) to uint8 [3, S, S]."""

BoxTransform = Callable[[torch.Tensor, Objects, int, int], tuple[torch.Tensor, Objects]]
"""The same for an image with its objects."""

AnyTransform = Transform | BoxTransform


def eval_transform(spec: PreprocessSpec) -> Transform:
    return partial(_resize, spec)


def train_transform(spec: PreprocessSpec, config: AugmentConfig, seed: int, epoch: int) -> Transform:
    """The augmentation of one epoch; each showing of each row has a random stream of its own."""
    return partial(_augment, spec, config, (seed, epoch))


def eval_box_transform(spec: PreprocessSpec) -> BoxTransform:
    return partial(_place, spec)


def train_box_transform(spec: PreprocessSpec, config: AugmentConfig, seed: int, epoch: int) -> BoxTransform:
    """As `train_transform`, for images with boxes."""
    return partial(_augment_boxes, spec, config, (seed, epoch))


def decode_pixels(table: pa.Table, transform: AnyTransform) -> pa.Table:
    """Replaces the column `image` by `pixels`, and objects by those of the model input: for decoding away from the consumer."""
    pixels, targets = _decode(table, transform)
    if isinstance(pixels, Views):
        return table.drop_columns(["image", "image_row"]).append_column("pixels", views_column(pixels))
    flat = pa.array(pixels.reshape(-1).numpy())
    table = table.drop_columns(["image"]).append_column("pixels", pa.FixedSizeListArray.from_arrays(flat, pixels[0].numel()))
    if isinstance(targets, Objects):
        table = table.drop_columns(["objects"])
        for name, column in placed_columns(targets).items():
            table = table.append_column(name, column)
    return table


def decode_batch(table: pa.Table, transform: AnyTransform, pin_memory: bool = False) -> Batch:
    """The model inputs of the rows of a step; those of a table with `pixels` were decoded before."""
    images: torch.Tensor | Views
    targets: torch.Tensor | Objects
    if "pixels" in table.column_names and is_views(table["pixels"]):
        images, targets = read_views(table["pixels"]), _labels(table)
    elif "pixels" in table.column_names:
        column = table["pixels"].combine_chunks()
        side = round((column.type.list_size // 3) ** 0.5)
        images = torch.from_numpy(column.flatten().to_numpy().reshape(-1, 3, side, side).copy())
        targets = read_placed(table) if "objects" in table.column_names else _labels(table)
    else:
        images, targets = _decode(table, transform)
    if pin_memory:
        images, targets = images.pin_memory(), targets.pin_memory()
    return Batch(images, targets, torch.from_numpy(table["row"].to_numpy().copy()))


def _decode(table: pa.Table, transform: Any) -> tuple[torch.Tensor | Views, torch.Tensor | Objects]:
    if is_views(table["image"]):
        return decode_views(table, transform), _labels(table)
    images, rows = (decode_rgb(image.as_py()) for image in table["image"]), zip(table["row"].to_pylist(), table["occurrence"].to_pylist(), strict=True)
    if "objects" not in table.column_names:
        return torch.stack([transform(image, row, nth) for image, (row, nth) in zip(images, rows, strict=True)]), _labels(table)
    placed = [transform(image, objects, row, nth) for image, objects, (row, nth) in zip(images, read_objects(table), rows, strict=True)]
    return torch.stack([image for image, _ in placed]), Objects.joined([objects for _, objects in placed])


def _labels(table: pa.Table) -> torch.Tensor:
    return torch.from_numpy(table["label_id"].to_numpy().astype(np.int64))


def _resize(spec: PreprocessSpec, image_CHW: torch.Tensor, row: int, occurrence: int) -> torch.Tensor:
    return resize(image_CHW, spec)


def _augment(spec: PreprocessSpec, config: AugmentConfig, seed: tuple[int, int], image_CHW: torch.Tensor, row: int, occurrence: int) -> torch.Tensor:
    return augment(image_CHW, spec, config, np.random.default_rng([*seed, row, occurrence]))


def _place(spec: PreprocessSpec, image_CHW: torch.Tensor, objects: Objects, row: int, occurrence: int) -> tuple[torch.Tensor, Objects]:
    return place(image_CHW, objects, spec)


def _augment_boxes(
    spec: PreprocessSpec, config: AugmentConfig, seed: tuple[int, int], image_CHW: torch.Tensor, objects: Objects, row: int, occurrence: int
) -> tuple[torch.Tensor, Objects]:
    return augment_boxes(image_CHW, objects, spec, config, np.random.default_rng([*seed, row, occurrence]))
