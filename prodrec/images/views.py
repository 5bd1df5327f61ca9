"""The views of the listings of a batch, and their way through Arrow.

Shapes: B listings; N images of all of them together, listing after listing; V views of the longest; S side of the model input.
Images are packed, not padded: a padded picture would cost what a real one does to decode, to move and to convolve. Only
features are padded (`prodrec.models.sequence`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from prodrec.images.decode import decode_rgb


@dataclass(frozen=True)
class Views:
    """Model inputs of listings.

    Attributes:
        images: [N, 3, S, S], uint8, or float once normalised.
        lengths: int64 [B], views of each listing, 1 or more; their sum is N. They stay on the CPU, where shapes are made of them.
    """

    images: torch.Tensor
    lengths: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, listings: slice) -> "Views":
        """Neighbouring listings."""
        edges = torch.cat([self.lengths.new_zeros(1), self.lengths.cumsum(0)])[:, None]
        first, last, _ = listings.indices(len(self))
        return Views(self.images[int(edges[first]) : int(edges[last])], self.lengths[listings])

    def to(self, device: torch.device, non_blocking: bool = False) -> "Views":
        return replace(self, images=self.images.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Views":
        return replace(self, images=self.images.pin_memory())


def packed(images: torch.Tensor | Views) -> tuple[torch.Tensor, ...]:
    """What a classifier is called with: images, and for listings how many of them each has."""
    return (images.images, images.lengths) if isinstance(images, Views) else (images,)


def is_views(column: pa.ChunkedArray) -> bool:
    """Whether a column of images or pixels has a list of them a row."""
    return bool(pa.types.is_list(column.type))


def decode_views(table: pa.Table, transform: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Views:
    """Decodes the listings of a table of `ListingSplit.read`; each image has a random stream of its own."""
    rows = zip(table["image"], table["image_row"].to_pylist(), table["occurrence"].to_pylist(), strict=True)
    images = [transform(decode_rgb(image.as_py()), row, nth) for views, image_rows, nth in rows for image, row in zip(views.values, image_rows, strict=True)]
    return Views(torch.stack(images), _lengths(table["image"]))


def views_column(views: Views) -> pa.ListArray:
    """Decoded views as a column: a list of uint8 [3 * S * S] a listing."""
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(views.images.reshape(-1).numpy()), views.images[0].numel())
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], views.lengths.cumsum(0).numpy()]).astype(np.int32)), pixels)


def read_views(column: pa.ChunkedArray) -> Views:
    """What `views_column` wrote."""
    pixels = column.combine_chunks().flatten()
    side = round((pixels.type.list_size // 3) ** 0.5)
    return Views(torch.from_numpy(pixels.flatten().to_numpy().reshape(-1, 3, side, side).copy()), _lengths(column))


def _lengths(column: pa.ChunkedArray) -> torch.Tensor:
    return torch.tensor([len(views) for views in column], dtype=torch.int64)
