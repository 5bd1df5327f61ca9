"""The objects of a batch of pictures as flat tensors, and their way through Arrow.

Shapes: B pictures, M objects of all of them together; boxes are absolute xyxy pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import torch

from prodrec.images.boxes import object_lists


@dataclass(frozen=True)
class Objects:
    """The objects of a batch, picture after picture.

    Attributes:
        boxes_M4: float32, in pixels of the model input.
        labels_M: int64, label ids.
        crowd_M: bool; a box around many objects.
        counts_B: int64, objects of each picture.
        frames_B4: float32, where each whole picture lies in the model input, xyxy; beyond its edges where it was cropped.
        sources_B2: float32, width and height of each original, pixels.
    """

    boxes_M4: torch.Tensor
    labels_M: torch.Tensor
    crowd_M: torch.Tensor
    counts_B: torch.Tensor
    frames_B4: torch.Tensor
    sources_B2: torch.Tensor

    def __len__(self) -> int:
        return len(self.counts_B)

    def __getitem__(self, pictures: slice) -> "Objects":
        """Those of neighbouring pictures."""
        first, last, _ = pictures.indices(len(self))
        edges = [0, *self.counts_B.cumsum(0).tolist()]
        objects = slice(edges[first], edges[last])
        flat = (tensor[objects] for tensor in (self.boxes_M4, self.labels_M, self.crowd_M))
        return Objects(*flat, *(tensor[pictures] for tensor in (self.counts_B, self.frames_B4, self.sources_B2)))

    def to(self, device: torch.device, non_blocking: bool = False) -> "Objects":
        return Objects(*(getattr(self, field.name).to(device, non_blocking=non_blocking) for field in fields(self)))

    def pin_memory(self) -> "Objects":
        return Objects(*(getattr(self, field.name).pin_memory() for field in fields(self)))

    def pictures(self) -> list["Objects"]:
        """One a picture."""
        sizes = self.counts_B.tolist()
        flat = zip(*(tensor.split(sizes) for tensor in (self.boxes_M4, self.labels_M, self.crowd_M)), strict=True)
        return [Objects(parts[0], parts[1], parts[2], self.counts_B[[i]], self.frames_B4[[i]], self.sources_B2[[i]]) for i, parts in enumerate(flat)]

    def at_source(self) -> "Objects":
        """With boxes in pixels of the originals."""
        frames_M4, sources_M2 = (tensor.repeat_interleave(self.counts_B, 0) for tensor in (self.frames_B4, self.sources_B2))
        return replace(self, boxes_M4=to_source(self.boxes_M4, frames_M4, sources_M2))

    def kept(self, which_M: torch.Tensor) -> "Objects":
        """One picture's objects that are chosen by a mask."""
        count = which_M.sum().view(1)
        return replace(self, boxes_M4=self.boxes_M4[which_M], labels_M=self.labels_M[which_M], crowd_M=self.crowd_M[which_M], counts_B=count)

    def moved(self, scale: torch.Tensor, corner: torch.Tensor) -> "Objects":
        """With boxes scaled and then shifted, each by 4 numbers."""
        return replace(self, boxes_M4=self.boxes_M4 * scale + corner)

    @classmethod
    def joined(cls, parts: Sequence["Objects"]) -> "Objects":
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @classmethod
    def none_on(cls, frames_B4: torch.Tensor, sources_B2: torch.Tensor) -> "Objects":
        """Of pictures on which nothing is known."""
        ids = torch.zeros(0, dtype=torch.int64)
        return cls(torch.zeros(0, 4), ids, ids.bool(), torch.zeros(len(frames_B4), dtype=torch.int64), frames_B4, sources_B2)


def to_source(boxes_N4: torch.Tensor, frames_N4: torch.Tensor, sources_N2: torch.Tensor) -> torch.Tensor:
    """Boxes of model inputs in pixels of the originals, cut off at their edges.

    Args:
        frames_N4: where the whole picture of each box lies in the input (or [1, 4] for all).
        sources_N2: width and height of its original (or [1, 2]).
    """
    scale_N2 = sources_N2 / (frames_N4[:, 2:] - frames_N4[:, :2])
    moved_N4 = (boxes_N4 - frames_N4[:, :2].repeat(1, 2)) * scale_N2.repeat(1, 2)
    return torch.minimum(moved_N4.clamp(min=0), sources_N2.repeat(1, 2))


def read_objects(table: pa.Table) -> list[Objects]:
    """The objects of the rows of a shard, one a row; boxes and frame in pixels of the prepared image."""
    sizes = np.stack([table[name].to_numpy() for name in ("width", "height", "source_width", "source_height")], 1).astype(np.float32)
    pictures = []
    for items, (width, height, source_width, source_height) in zip(table["objects"], sizes, strict=True):
        found = items.as_py()
        pictures.append(
            Objects(
                torch.tensor([item["box"] for item in found], dtype=torch.float32).reshape(-1, 4),
                torch.tensor([item["label_id"] for item in found], dtype=torch.int64),
                torch.tensor([item["crowd"] for item in found], dtype=torch.bool),
                torch.tensor([len(found)]),
                torch.tensor([[0, 0, width, height]]),
                torch.tensor([[source_width, source_height]]),
            )
        )
    return pictures


def placed_columns(objects: Objects) -> dict[str, pa.Array]:
    """Objects in model inputs as columns of a table, for decoding away from the consumer."""
    boxes, frames, sources = (_rows(tensor) for tensor in (objects.boxes_M4, objects.frames_B4, objects.sources_B2))
    labels, crowd = pa.array(objects.labels_M.numpy().astype(np.int32)), pa.array(objects.crowd_M.numpy())
    return {"objects": object_lists(labels, boxes, crowd, objects.counts_B.numpy()), "frame": frames, "source": sources}


def read_placed(table: pa.Table) -> Objects:
    """What `placed_columns` made."""
    objects, frames, sources = (table[name].combine_chunks() for name in ("objects", "frame", "source"))
    items = objects.flatten()
    labels, crowd = (torch.from_numpy(items.field(name).to_numpy(zero_copy_only=False).copy()) for name in ("label_id", "crowd"))
    counts = torch.from_numpy(objects.value_lengths().to_numpy().astype(np.int64))
    return Objects(_tensor(items.field("box")), labels.long(), crowd.bool(), counts, _tensor(frames), _tensor(sources))


def _rows(values_NW: torch.Tensor) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values_NW.numpy().reshape(-1)), values_NW.shape[1])


def _tensor(rows: pa.FixedSizeListArray) -> torch.Tensor:
    return torch.from_numpy(rows.flatten().to_numpy(zero_copy_only=False).copy()).reshape(-1, rows.type.list_size)
