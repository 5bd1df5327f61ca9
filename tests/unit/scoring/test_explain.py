import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import photo, run
from PIL import Image
from torch import nn

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError, Reject
from prodrec.images.transforms import input_frame, resize
from prodrec.labels import Label
from prodrec.models.bundle import Bundle, load_bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.registry import Classifier, create_classifier
from prodrec.models.scorer import Scorer
from prodrec.scoring.explain import explain
from prodrec.scoring.feature_maps import attention, grad_cam
from prodrec.scoring.heat_map import overlay
from prodrec.scoring.occlusion import OccluderConfig, occlusion

SIDE = 48


def info(labels: int = 2, **fields) -> ClassifierInfo:
    named = [Label(name=str(number)) for number in range(labels)]
    plain = {"temperature": 1.0, "train_counts": [1] * labels, "metrics": {}, "recipe": {}, "data_manifest_sha256": ""} | fields
    return ClassifierInfo(model=ModelConfig(arch="custom_cnn", weights="none"), input=PreprocessSpec(size=SIDE, normalize="zero_one"), labels=named, **plain)


class Corner(nn.Module):
    """Tells class 1 by the mean brightness of the 12 x 12 pixels at (12, 24)."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        light_B = images_BCHW[:, :, 12:24, 24:36].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(light_B), 8 * light_B - 4], 1) + self.anchor


def lit() -> torch.Tensor:
    image = torch.full((3, SIDE, SIDE), 20, dtype=torch.uint8)
    image[:, 12:24, 24:36] = 250
    return image


@given(st.integers(4, 20), st.integers(1, 12))
@settings(max_examples=15)
def test_occlusion_is_hot_where_the_model_looks_and_nowhere_else(size, stride):
    scorer = Scorer(Bundle(info(), Corner()), torch.device("cpu"), "fp32")
    heat = occlusion(scorer, lit(), 1, OccluderConfig(size=size, stride=min(stride, size), fill="black"))
    assert heat.shape == (SIDE, SIDE)
    reach = size - 1  # an occluder that hides a pixel reaches so far
    near = np.zeros((SIDE, SIDE), bool)
    near[max(0, 12 - reach) : 24 + reach, max(0, 24 - reach) : 36 + reach] = True
    assert (heat[12:24, 24:36] > 0).all()
    assert (heat[~near] == 0).all()
    assert heat[12:24, 24:36].mean() > 2 * heat[near].mean() - heat[12:24, 24:36].mean()


def test_each_pixel_has_the_mean_drop_of_the_places_that_hide_it():
    scorer = Scorer(Bundle(info(), Corner()), torch.device("cpu"), "fp32")
    image, size, stride = lit(), 16, 7
    seen = []
    heat = occlusion(scorer, image, 1, OccluderConfig(size=size, stride=stride, fill="grey"), lambda done, total: seen.append((done, total)))
    starts = [*range(0, SIDE - size, stride), SIDE - size]
    whole = scorer(image[None]).softmax(1)[0, 1]
    for y, x in [(0, 0), (13, 30), (47, 47), (20, 25)]:
        drops = []
        for top in starts:
            for left in starts:
                if top <= y < top + size and left <= x < left + size:
                    hidden = image.clone()
                    hidden[:, top : top + size, left : left + size] = 128
                    drops.append(float(whole - scorer(hidden[None]).softmax(1)[0, 1]))
        assert heat[y, x] == pytest.approx(np.mean(drops), abs=1e-5)
    assert seen[-1] == (len(starts) ** 2, len(starts) ** 2)


@pytest.mark.parametrize("method", ["occlusion", "gradcam"])
def test_the_answer_on_a_disc_rests_on_the_disc(small_bundle, method):
    bundle = load_bundle(small_bundle)
    inside_is_hotter = []
    for number in range(8):
        rng = np.random.default_rng([number % 4, number])  # as made.photo draws
        rng.normal(128, 25, (48, 48, 3))
        centre, radius = rng.uniform(48 * 0.35, 48 * 0.65, 2), 48 * rng.uniform(0.2, 0.35)
        y, x = np.mgrid[:48, :48]
        disc = Image.fromarray((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2).resize((32, 32))
        found = explain(Scorer(bundle, torch.device("cpu")), photo(number % 4, number), method=method, occluder=OccluderConfig(size=6, stride=2))
        inside = np.asarray(disc)
        inside_is_hotter.append(found.heat[inside].mean() > found.heat[~inside].mean())
    assert np.mean(inside_is_hotter) >= 0.85


@pytest.mark.parametrize("arch", ["custom_cnn", "model_cnn", "attention_cnn", "resnet18", "mobilenetv3_small_050", "vit_tiny16", "convnext_atto"])
def test_grad_cam_finds_a_map_in_every_kind_of_network(arch):
    torch.manual_seed(0)
    size = 64
    model = create_classifier(ModelConfig(arch=arch, weights="none"), 3, size)
    with torch.no_grad():
        model.head.logits.weight.normal_()
    spec = PreprocessSpec(size=size)
    scorer = Scorer(Bundle(info(3).model_copy(update={"input": spec}), model.eval()), torch.device("cpu"), "fp32")
    heats = [grad_cam(scorer, torch.randint(256, (3, size, size), dtype=torch.uint8), label) for label in range(3)]
    assert all(heat.shape == (size, size) and heat.min() >= 0 and heat.max() <= 1 for heat in heats)
    assert any(heat.std() > 0.01 for heat in heats)
    assert all(parameter.grad is None for parameter in model.parameters())


def attending(size: int = 64) -> Scorer:
    torch.manual_seed(0)
    config = ModelConfig(arch="attention_cnn", weights="none")
    facts = info(3).model_copy(update={"model": config, "input": PreprocessSpec(size=size)})
    return Scorer(Bundle(facts, create_classifier(config, 3, size).eval()), torch.device("cpu"), "fp32")


def test_attention_is_the_networks_own_map_from_least_to_most():
    scorer = attending()
    image = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    heat = attention(scorer, image)
    assert (heat.shape, heat.min(), heat.max()) == ((64, 64), 0, 1)
    with torch.inference_mode():
        gates = scorer.model.backbone.attention_map(scorer.normalizer(image[None]))[0].numpy()
    cells = heat.reshape(4, 16, 4, 16).mean((1, 3))  # interpolation pulls the means together, and keeps most of their order
    assert np.corrcoef(cells.ravel(), gates.ravel())[0, 1] > 0.9


def test_attention_holds_for_every_label_and_equal_gates_show_nothing():
    scorer = attending()
    maps = [explain(scorer, photo(0, 3), label, "attention") for label in ("0", "1")]
    assert [found.label for found in maps] == ["0", "1"]
    assert np.array_equal(maps[0].heat, maps[1].heat)
    gate = scorer.model.backbone.stages[-1][-1].spatial.gate
    torch.nn.init.zeros_(gate[0].weight)
    assert (explain(scorer, photo(0, 3), method="attention").heat == 0).all()


@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from(["squash", "crop", "pad"]))
@settings(max_examples=25)
def test_the_frame_is_where_the_model_input_lies(width, height, mode):
    spec = PreprocessSpec(size=40, resize=mode, crop_fraction=0.8)
    left, top, right, bottom = input_frame(width, height, spec)
    # A bright square at a known place is found there in the model input.
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, height // 2 - 4 : height // 2 + 4, width // 2 - 3 : width // 2 + 5] = 255
    weights = resize(image, spec).float().mean(0)
    weights = (weights - weights[0, 0]).clamp(min=0) if mode != "pad" else (weights > 140) * weights
    y, x = np.mgrid[:40, :40] + 0.5
    centre = [float((values * weights.numpy()).sum() / weights.sum()) for values in (x, y)]
    assert left + centre[0] / 40 * (right - left) == pytest.approx(width // 2 + 1, abs=2)
    assert top + centre[1] / 40 * (bottom - top) == pytest.approx(height // 2, abs=2)


def test_the_overlay_is_the_upright_picture_with_heat_on_it(small_bundle):
    picture, out = Image.open(io.BytesIO(photo(1, 3))).resize((300, 200)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(out, "JPEG", exif=exif)
    found = explain(Scorer(load_bundle(small_bundle), torch.device("cpu")), out.getvalue())
    assert found.size == (200, 300)
    drawn = Image.open(io.BytesIO(overlay(out.getvalue(), found)))
    assert (drawn.format, drawn.size, drawn.getexif().get(0x0112)) == ("PNG", (200, 300), None)
    assert np.abs(np.asarray(drawn, float) - np.asarray(picture.rotate(-90, expand=True), float)).max() > 30


def test_the_command_writes_it_and_refuses_what_cannot_be(small_bundle, tmp_path, capsys):
    image = tmp_path / "a.jpg"
    image.write_bytes(photo(0, 800))
    assert run("explain", image, "--classifier", small_bundle, "--out", tmp_path / "heat.png", "--label", "green", "--method", "gradcam") == 0
    assert "green" in capsys.readouterr().out
    assert (tmp_path / "heat.png").stat().st_size > 0
    (tmp_path / "bad.jpg").write_bytes(b"no")
    for arguments, told in (
        ((image, "--label", "lamp"), "no label 'lamp'"),
        ((image, "--size", "99"), "--size 99"),
        ((image, "--method", "magic"), "--method magic"),
        ((image, "--method", "attention"), "custom_cnn has no spatial attention to show (attention_cnn has); use --method occlusion or gradcam"),
        ((tmp_path / "bad.jpg",), "not_an_image"),
        ((tmp_path / "gone.jpg",), "cannot read"),
    ):
        assert run("explain", *arguments, "--classifier", small_bundle, "--out", tmp_path / "x.png") == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
    assert run("explain", image, "--classifier", small_bundle, "--out", tmp_path / "heat.jpg") == 2
    assert "--out" in capsys.readouterr().err


def test_what_cannot_be_explained(small_bundle):
    bundle = load_bundle(small_bundle)
    with pytest.raises(Reject):
        explain(Scorer(bundle, torch.device("cpu")), b"no image")
    with pytest.raises(ConfigError, match="no feature map"):
        grad_cam(Scorer(Bundle(info(), Classifier(Corner(), nn.Identity())), torch.device("cpu"), "fp32"), lit(), 1)
