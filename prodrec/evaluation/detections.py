"""What a tagger found on pictures of a split, beside what is there: matching, score thresholds, COCO's metrics.

Shapes: D tags and M true boxes of one picture, K labels. Boxes are absolute xyxy pixels of the originals, so that COCO's sizes
(small under 32 x 32, large over 96 x 96 pixels) mean what they say. Areas are those of boxes, as no masks are known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.detection import MeanAveragePrecision

from prodrec.labels import Label

# A tag is right where it overlaps a true box of its label by this much. Source: Pascal VOC; COCO's AP50.
MATCH_IOU = 0.5
# A label with fewer true boxes on val shares the threshold of all labels. Source: assumed.
LEAST_BOXES = 8

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TaggedPicture:
    """One picture.

    Attributes:
        row: number in the split.
        size: width and height of the original, pixels.
        boxes_D4, scores_D, labels_D: what was found, best first.
        true_boxes_M4, true_labels_M: what is there.
        crowd_M: boxes around many objects: a tag on them is neither right nor wrong.
    """

    row: int
    size: tuple[int, int]
    boxes_D4: Floats
    scores_D: Floats
    labels_D: Ints
    true_boxes_M4: Floats
    true_labels_M: Ints
    crowd_M: Bools


@dataclass(frozen=True)
class Detections:
    """A tagger's answers for a split, or for the part of it that one rank has.

    Attributes:
        pictures: by row.
        loss: name to value summed over pictures.
    """

    pictures: list[TaggedPicture]
    loss: dict[str, float]

    @classmethod
    def concat(cls, parts: Sequence["Detections"]) -> "Detections":
        names = dict.fromkeys(name for part in parts for name in part.loss)
        pictures = sorted((picture for part in parts for picture in part.pictures), key=lambda picture: picture.row)
        return cls(pictures, {name: math.fsum(part.loss.get(name, 0.0) for part in parts) for name in names})

    def mean_loss(self) -> dict[str, float]:
        """By name; nan for no pictures."""
        return {name: value / len(self.pictures) if self.pictures else math.nan for name, value in self.loss.items()}


@dataclass(frozen=True)
class Matches:
    """All tags of a split in the order of their scores, best first; tags on crowds are left out.

    Attributes:
        scores_N, labels_N: of the tags.
        right_N: whether each found a true box that no better tag had found.
        true_K: true boxes of each label, crowds left out.
    """

    scores_N: Floats
    labels_N: Ints
    right_N: Bools
    true_K: Ints

    def of(self, label: int) -> "Matches":
        chosen = self.labels_N == label
        return Matches(self.scores_N[chosen], self.labels_N[chosen], self.right_N[chosen], self.true_K[label : label + 1])

    def precision_recall(self, threshold: float | Floats) -> tuple[float | None, float | None, int]:
        """Of the tags with at least the threshold (one for all, or one a tag): precision, recall, number; None where undefined."""
        kept = self.scores_N >= threshold
        right, found, true = int(self.right_N[kept].sum()), int(kept.sum()), int(self.true_K.sum())
        return (right / found if found else None), (right / true if true else None), found


def matched(picture: TaggedPicture, min_iou: float = MATCH_IOU) -> tuple[Bools, Bools, Bools]:
    """Which tags are right, which true boxes were found, which tags lie on a crowd.

    Each tag, best first, takes the free true box of its label that it overlaps most. Source: COCO's evaluation.
    """
    right_D, crowded_D, found_M = (np.zeros(n, dtype=bool) for n in (len(picture.scores_D), len(picture.scores_D), len(picture.true_labels_M)))
    if not len(right_D) or not len(found_M):
        return right_D, found_M, crowded_D
    iou_DM = _overlap(picture) * (picture.labels_D[:, None] == picture.true_labels_M[None])
    for tag in np.argsort(-picture.scores_D, kind="stable"):
        free = iou_DM[tag] * ~(found_M | picture.crowd_M)
        best = int(free.argmax())
        if free[best] >= min_iou:
            right_D[tag], found_M[best] = True, True
        else:
            crowded_D[tag] = bool((iou_DM[tag] * picture.crowd_M >= min_iou).any())
    return right_D, found_M, crowded_D


def _overlap(picture: TaggedPicture) -> npt.NDArray[np.float64]:
    """Intersection over union of tags and true boxes [D, M]; over the tag's own area where the true box is a crowd. Source: COCO's evaluation."""
    tags_D14, truth_M4 = picture.boxes_D4[:, None].astype(np.float64), picture.true_boxes_M4.astype(np.float64)
    sides_DM2 = np.minimum(tags_D14[..., 2:], truth_M4[:, 2:]) - np.maximum(tags_D14[..., :2], truth_M4[:, :2])
    shared_DM, area_D1, area_M = sides_DM2.clip(0).prod(-1), *((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (tags_D14, truth_M4))
    union_DM = area_D1 + np.where(picture.crowd_M, 0, area_M - shared_DM)
    return shared_DM / np.maximum(union_DM, 1e-9)


def match(pictures: Sequence[TaggedPicture], num_labels: int) -> Matches:
    """All tags against all true boxes."""
    columns: list[tuple[Any, ...]] = [(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, dtype=bool))]
    true_K = np.zeros(num_labels, dtype=np.int64)
    for picture in pictures:
        right_D, _, crowded_D = matched(picture)
        columns.append(tuple(column[~crowded_D] for column in (picture.scores_D, picture.labels_D, right_D)))
        true_K += np.bincount(picture.true_labels_M[~picture.crowd_M], minlength=num_labels)
    scores_N, labels_N, right_N = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.argsort(-scores_N, kind="stable")
    return Matches(scores_N[order], labels_N[order], right_N[order], true_K)


def choose_thresholds(matches: Matches, target_precision: float, default: float) -> list[float]:
    """The score threshold of each label: the lowest at which the tags kept have the target precision.

    Labels with under LEAST_BOXES true boxes take the threshold that does so over all labels. Where no threshold reaches the
    target, the one with the highest F1: a label that is never told is of no use.

    Args:
        default: where there is nothing to choose by.
    """
    pooled = _lowest_threshold(matches, target_precision, default)
    return [
        _lowest_threshold(matches.of(label), target_precision, pooled) if true >= LEAST_BOXES else pooled for label, true in enumerate(matches.true_K.tolist())
    ]


def _lowest_threshold(matches: Matches, target: float, default: float) -> float:
    if not matches.right_N.any():
        return default
    right_N, tags_N = np.cumsum(matches.right_N), np.arange(1, len(matches.right_N) + 1)
    precision_N, f1_N = right_N / tags_N, 2 * right_N / (tags_N + matches.true_K.sum())
    # Only where a tag's score differs from the next one can a threshold part them.
    ends = np.flatnonzero(np.append(np.diff(matches.scores_N) != 0, True))
    good = ends[precision_N[ends] >= target]
    last = good[-1] if len(good) else ends[np.argmax(f1_N[ends])]
    return float(matches.scores_N[last])


def coco_metrics(pictures: Sequence[TaggedPicture], per_class: bool = False) -> dict[str, Any]:
    """COCO's averages, by torchmetrics on faster-coco-eval; None where there is nothing to average.

    Returns:
        map, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100; with `per_class` also `classes` (label ids), `class_ap`
        and `class_ap50` in their order, and `curve`: precision at 101 recalls (0, 0.01, ..., 1) at IoU 0.5, the mean over labels.
    """
    # Every rank has all pictures already: merging over ranks, torchmetrics would count them twice, and wait where one rank alone judges.
    settings = {"class_metrics": per_class, "extended_summary": per_class, "sync_on_compute": False}
    metric = MeanAveragePrecision(backend="faster_coco_eval", **settings)
    metric.warn_on_many_detections = False
    metric.update([_tags(picture) for picture in pictures], [_truth(picture) for picture in pictures])
    found = metric.compute()
    names = {"map": "map", "ap50": "map_50", "ap75": "map_75", "ap_small": "map_small", "ap_medium": "map_medium", "ap_large": "map_large"}
    names |= {f"ar{n}": f"mar_{n}" for n in (1, 10, 100)}
    metrics: dict[str, Any] = {ours: _known(float(found[theirs])) for ours, theirs in names.items()}
    if per_class:
        precision_RK = found["precision"][0, :, :, 0, -1].double()  # IoU 0.5, all sizes, 100 tags a picture
        metrics["classes"] = found["classes"].reshape(-1).tolist()
        metrics["class_ap"] = [_known(value) for value in found["map_per_class"].reshape(-1).tolist()]
        metrics["class_ap50"] = [_known(float(column.mean())) for column in precision_RK.T]
        shown = precision_RK[:, (precision_RK > -1).all(0)]
        metrics["curve"] = shown.mean(1).tolist() if shown.shape[1] else None
    return metrics


def evaluate_tags(detections: Detections, labels: Sequence[Label], thresholds: Sequence[float], train_boxes: Sequence[int], split: str) -> dict[str, Any]:
    """The metrics of a split, ready for JSON; fractions, None where undefined.

    `precision`, `recall` and `tags` are those of tags whose score reaches the threshold of their label.

    Args:
        labels, thresholds, train_boxes: [K]; train_boxes: boxes of each label that were trained on.
    """
    matches = match(detections.pictures, len(labels))
    coco = coco_metrics(detections.pictures, per_class=True)
    of_class = {label: (ap, ap50) for label, ap, ap50 in zip(coco.pop("classes"), coco.pop("class_ap"), coco.pop("class_ap50"), strict=True)}
    precision, recall, tags = matches.precision_recall(np.asarray(thresholds, dtype=np.float32)[matches.labels_N])
    per_class = []
    for number, (label, threshold, trained) in enumerate(zip(labels, thresholds, train_boxes, strict=True)):
        of_label = matches.of(number).precision_recall(threshold)
        ap, ap50 = of_class.get(number, (None, None))
        facts = label.words() | {"boxes": int(matches.true_K[number]), "ap": ap, "ap50": ap50, "threshold": threshold}
        per_class.append(facts | dict(zip(("precision", "recall", "tags"), of_label, strict=True)) | {"train_boxes": trained})
    facts = {"split": split, "n": len(detections.pictures), "boxes": int(matches.true_K.sum()), "loss": detections.mean_loss()}
    return facts | coco | {"precision": precision, "recall": recall, "tags": tags, "per_class": per_class}


def _tags(picture: TaggedPicture) -> dict[str, torch.Tensor]:
    return {"boxes": torch.from_numpy(picture.boxes_D4), "scores": torch.from_numpy(picture.scores_D), "labels": torch.from_numpy(picture.labels_D)}


def _truth(picture: TaggedPicture) -> dict[str, torch.Tensor]:
    crowd = torch.from_numpy(picture.crowd_M).long()
    return {"boxes": torch.from_numpy(picture.true_boxes_M4), "labels": torch.from_numpy(picture.true_labels_M), "iscrowd": crowd}


def _known(value: float) -> float | None:
    """COCO's evaluation says -1 where there is nothing to average."""
    return None if value < 0 else value
