"""Counts and averages of taggers, against pycocotools and by hand."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from prodrec.evaluation.detections import LEAST_BOXES, Detections, Matches, TaggedPicture, choose_thresholds, coco_metrics, evaluate_tags, match, matched
from prodrec.labels import Label

LABELS = 3


def pictures(seed, count=12, crowds=True):
    """Random truths, and tags that hit, nearly hit or miss them."""
    rng = np.random.default_rng(seed)
    made = []
    for row in range(count):
        true = boxes_of(rng, int(rng.integers(0, 5)))
        near = true[rng.random(len(true)) < 0.8]
        tags = np.concatenate([near + rng.normal(0, 5, near.shape), boxes_of(rng, int(rng.integers(0, 4)))])
        tags[:, 2:] = np.maximum(tags[:, 2:], tags[:, :2] + 1)
        labels_M, labels_D = rng.integers(0, LABELS, len(true)), rng.integers(0, LABELS, len(tags))
        crowd = (rng.random(len(true)) < 0.15) & crowds
        scores = np.sort(rng.random(len(tags)).astype(np.float32))[::-1].copy()
        made.append(TaggedPicture(row, (300, 200), tags.astype(np.float32), scores, labels_D, true.astype(np.float32), labels_M, crowd))
    return made


def boxes_of(rng, count):
    corner, side = rng.uniform(0, 180, (count, 2)), np.exp(rng.uniform(np.log(8), np.log(140), (count, 2)))
    return np.concatenate([corner, corner + side], 1)


def by_pycocotools(found):
    """A COCOeval that is done; the n-th tag of all has id n + 1."""
    truth, tags = [], []
    for picture in found:
        for box, label, crowd in zip(picture.true_boxes_M4.astype(float), picture.true_labels_M, picture.crowd_M, strict=True):
            size = [box[2] - box[0], box[3] - box[1]]
            facts = {"image_id": picture.row + 1, "category_id": int(label) + 1, "bbox": [box[0], box[1], *size], "area": size[0] * size[1]}
            truth.append(facts | {"id": len(truth) + 1, "iscrowd": int(crowd)})
        for box, label, score in zip(picture.boxes_D4.astype(float), picture.labels_D, picture.scores_D, strict=True):
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            tags.append({"image_id": picture.row + 1, "category_id": int(label) + 1, "bbox": box, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": p.row + 1} for p in found], "annotations": truth, "categories": [{"id": k + 1} for k in range(LABELS)], "info": {}}
        coco.createIndex()
        judged = COCOeval(coco, coco.loadRes(tags), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


@pytest.mark.parametrize("seed", range(6))
def test_averages_equal_those_of_pycocotools(seed):
    found = pictures(seed)
    ours, theirs = coco_metrics(found), by_pycocotools(found).stats
    for name, value in zip(["map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100"], theirs, strict=False):
        assert (ours[name] if ours[name] is not None else -1) == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("seed", range(6))
def test_right_tags_and_tags_on_crowds_are_those_of_pycocotools(seed):
    found = pictures(seed, count=40)
    right, crowded = set(), set()
    for entry in by_pycocotools(found).evalImgs:
        if entry and entry["aRng"] == [0, 1e5**2]:
            matches, ignored = entry["dtMatches"][0], entry["dtIgnore"][0]  # at IoU 0.5
            right |= {tag for tag, match, on_crowd in zip(entry["dtIds"], matches, ignored, strict=True) if match and not on_crowd}
            crowded |= {tag for tag, on_crowd in zip(entry["dtIds"], ignored, strict=True) if on_crowd}
    assert right
    assert crowded
    first = 1
    for picture in found:
        right_D, _, crowded_D = matched(picture)
        numbers = np.arange(first, first := first + len(right_D))
        assert set(numbers[right_D]) == right & set(numbers)
        assert set(numbers[crowded_D]) == crowded & set(numbers)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12))
def test_parts_make_the_whole_and_every_tag_is_right_wrong_or_on_a_crowd(seed, cut):
    found = pictures(seed)
    parts = [Detections(part, {"loss": float(len(part))}) for part in (found[cut:], found[:cut])]
    whole = Detections.concat(parts)
    assert [picture.row for picture in whole.pictures] == list(range(len(found)))
    assert whole.mean_loss() == {"loss": 1.0}
    for picture in found:
        right, hit, crowded = matched(picture)
        assert right.sum() == hit.sum()
        assert not (right & crowded).any()
        assert not (hit & picture.crowd_M).any()
    matches = match(whole.pictures, LABELS)
    assert (np.diff(matches.scores_N) <= 0).all()
    assert matches.right_N.sum() <= matches.true_K.sum()


def test_each_true_box_is_found_once_by_the_surest_tag():
    box = [10.0, 10, 50, 50]
    tags = np.array([box, box, [200, 100, 240, 140]], dtype=np.float32)
    picture = TaggedPicture(
        0, (300, 200), tags, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, int), np.array([box], np.float32), np.zeros(1, int), np.zeros(1, bool)
    )
    assert [part.tolist() for part in matched(picture)] == [[True, False, False], [True], [False] * 3]


def matches_of(right, true):
    scores = np.linspace(0.95, 0.05, len(right)).astype(np.float32)
    return Matches(scores, np.zeros(len(right), int), np.array(right, dtype=bool), np.array([true]))


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.3, 0.99))
def test_the_threshold_is_the_lowest_that_keeps_the_precision(right, target):
    matches = matches_of(right, max(LEAST_BOXES, sum(right)))
    (threshold,) = choose_thresholds(matches, target, 0.5)
    if not any(right):
        assert threshold == 0.5
        return
    reached = [matches.precision_recall(float(score))[0] >= target for score in matches.scores_N]
    precision, _, tags = matches.precision_recall(threshold)
    assert tags
    if any(reached):
        assert precision >= target
        assert threshold == matches.scores_N[np.flatnonzero(reached)[-1]]
    else:
        pairs = [matches.precision_recall(float(score))[:2] for score in matches.scores_N]
        balance = [2 * p * r / (p + r) if p + r else 0 for p, r in pairs]
        assert balance[list(matches.scores_N).index(np.float32(threshold))] == pytest.approx(max(balance))


def test_rare_labels_share_the_threshold_of_all():
    scores = np.linspace(0.9, 0.1, 9).astype(np.float32)
    labels, right = np.array([0, 0, 1, 0, 1, 0, 0, 1, 0]), np.array([1, 1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    both = Matches(scores, labels, right, np.array([LEAST_BOXES, 1]))
    frequent, rare = choose_thresholds(both, 0.8, 0.5)
    assert frequent == scores[6]
    assert rare == scores[5]


def test_metrics_of_a_split_are_ready_for_json_and_count_each_label():
    found = pictures(1)
    labels = [Label(name=name) for name in ("cup", "bowl", "plate", "never seen")]
    metrics = evaluate_tags(Detections(found, {"loss": 2.0 * len(found)}), labels, [0.3, 0.3, 0.3, 0.3], [5, 6, 7, 8], "test")
    assert metrics["n"] == len(found)
    assert metrics["loss"] == {"loss": 2.0}
    assert [row["boxes"] for row in metrics["per_class"]] == np.bincount(np.concatenate([p.true_labels_M[~p.crowd_M] for p in found]), minlength=4).tolist()
    assert metrics["per_class"][3]["ap50"] is None
    assert metrics["per_class"][3]["recall"] is None
    known = [row["ap50"] for row in metrics["per_class"] if row["ap50"] is not None]
    assert metrics["ap50"] == pytest.approx(np.mean(known), abs=1e-6)
    assert len(metrics["curve"]) == 101


def test_nothing_found_and_nothing_there():
    empty = TaggedPicture(
        0, (9, 9), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, bool)
    )
    metrics = evaluate_tags(Detections([empty], {"loss": 0.0}), [Label(name="cup")], [0.5], [0], "test")
    assert (metrics["map"], metrics["precision"], metrics["recall"], metrics["tags"]) == (None, None, None, 0)
