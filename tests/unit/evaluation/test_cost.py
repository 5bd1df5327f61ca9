"""What a bundle costs: operations counted by hand, and names that stand beside their points."""

import re

import pytest
import torch

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.evaluation import cost
from prodrec.evaluation.cost import size_of, time_all
from prodrec.files import Folder
from prodrec.labels import Label
from prodrec.models.bundle import Bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.custom_cnn import FILTERS
from prodrec.models.registry import create_classifier
from prodrec.models.scorer import Scorer
from prodrec.reports.cost_chart import CostPoint, cost_chart
from prodrec.reports.page import amount, chance, count, points

LABELS = [Label(name=name, group=None) for name in "abc"]


def bundle(arch, side, **args):
    config = ModelConfig(arch=arch, weights="none", args=args)
    info = ClassifierInfo(
        model=config, input=PreprocessSpec(size=side), labels=LABELS, metrics={}, recipe={}, data_manifest_sha256="", temperature=1.0, train_counts=[1] * 3
    )
    return Bundle(info, create_classifier(config, len(LABELS), side).eval())


def test_operations_are_those_counted_by_hand(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(1500))
    side, channels, by_hand = 32, 3, 0
    for filters in FILTERS:
        by_hand += 2 * 9 * channels * filters * side * side
        side, channels = side // 2, filters
    by_hand += 2 * 16 * channels * len(LABELS)
    found = size_of(bundle("custom_cnn", 32), Folder(tmp_path), 1)
    assert found["gflops"] * 1e9 == by_hand
    assert found["bundle_mb"] == 0.0015
    assert found["parameters"] == sum(p.numel() for p in bundle("custom_cnn", 32).model.parameters())


def test_the_mirrored_picture_is_counted_too(tmp_path):
    plain = bundle("custom_cnn", 32)
    twice = Bundle(plain.info.model_copy(update={"input": PreprocessSpec(size=32, flip=True)}), plain.model)
    assert size_of(twice, Folder(tmp_path), 1)["gflops"] == 2 * size_of(plain, Folder(tmp_path), 1)["gflops"]
    assert size_of(plain, Folder(tmp_path), 2.5)["gflops"] == 2.5 * size_of(plain, Folder(tmp_path), 1)["gflops"], "so are the views of a listing"


def test_attention_is_counted_too(tmp_path):
    small = {"embed_dim": 48, "num_heads": 3, "depth": 1, "patch_size": 2}
    few, many = (size_of(bundle("vit_tiny16", side, **small), Folder(tmp_path), 1)["gflops"] for side in (32, 64))
    assert many > 4.5 * few, "four times the tokens: attention grows by sixteen"


def test_the_smaller_model_is_timed_as_quicker(monkeypatch):
    monkeypatch.setattr(cost, "_SECONDS", 0.0)  # as few calls as are ever made
    scorers = [Scorer(bundle(arch, side), torch.device("cpu")) for arch, side in (("custom_cnn", 16), ("resnet10t", 48))]
    small, large = time_all(scorers, [1, 1])
    assert 0 < small.image_ms < large.image_ms
    many, one = time_all([scorers[0]] * 2, [50, 1])
    assert many.image_ms > 5 * one.image_ms and many.latency_ms > 5 * one.latency_ms, "a listing of fifty views costs more than one of one"
    assert 0 < small.latency_ms < large.latency_ms


@pytest.mark.parametrize("found", [[(0.5, 0.7)], [(0.001, 0.0), (1000, 1.0), (0.02, 0.75), (0.021, 0.75), (0.022, 0.74), (3, 0.76), (3, 0.76)]])
def test_every_run_is_named_on_a_chart_that_reaches_nothing_outside(found):
    points = [CostPoint(f"run{i}", ms, right, max(0, right - 0.1), min(1, right + 0.1), i == 0) for i, (ms, right) in enumerate(found)]
    chart = cost_chart(points, "GFLOPs", "top-1 accuracy")
    assert all(re.search(rf">\s*run{i}\s*<", chart) for i in range(len(points)))
    assert not re.search(r"https?://(?!www\.w3\.org)", chart)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (amount(0.012345), "0.0123"),
        (amount(45.67), "45.7"),
        (amount(12345.6), "12,346"),
        (count(812), "812"),
        (count(11_240_000), "11.2 M"),
        (chance(0.0004), "< 0.001"),
        (chance(0.0345), "0.035"),
        (points(-0.0001), "0.0"),
        (points(-0.0123), "−1.2"),
        (points(0.05), "+5.0"),
    ],
)
def test_figures_are_written_for_people(written, expected):
    assert written.replace("\u202f", " ") == expected
