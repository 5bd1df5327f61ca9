import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.images.transforms import Normalizer, augment, resize

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))
policies = st.sampled_from(["none", "light", "trivial", "heavy"])


def picture(height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


@given(sizes, st.sampled_from(["squash", "crop", "pad"]), st.sampled_from([16, 33]))
def test_any_picture_becomes_a_square_of_bytes(size, how, side):
    made = resize(picture(*size), PreprocessSpec(size=side, resize=how))
    assert made.shape == (3, side, side)
    assert made.dtype == torch.uint8


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("how", ["squash", "crop", "pad"])
def test_pictures_are_scaled_as_pillow_does_it_in_the_way_that_is_asked_for(how, interpolation):
    """Pillow's is the scaling with which timm's weights were made. Whole sides, so that both scale by the same factor."""
    image = picture(80, 80)
    made = resize(image, PreprocessSpec(size=28, resize=how, interpolation=interpolation))
    scaled = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((28, 28) if how != "crop" else (32, 32), Image.Resampling[interpolation.upper()])
    expected = np.asarray(scaled)[2:30, 2:30] if how == "crop" else np.asarray(scaled)
    assert np.abs(made.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1
    cropped = augment(image, PreprocessSpec(size=28, interpolation=interpolation), AugmentConfig(policy="light"), np.random.default_rng(0))
    other = augment(image, PreprocessSpec(size=28), AugmentConfig(policy="light"), np.random.default_rng(0))
    assert torch.equal(cropped, other) == (interpolation == "bilinear")


@given(sizes, policies, st.integers(0, 1000))
def test_augmentation_is_a_function_of_its_seed_alone(size, policy, seed):
    image, spec = picture(*size), PreprocessSpec(size=32)
    config = AugmentConfig(policy=policy)
    torch.manual_seed(1)
    first = augment(image, spec, config, np.random.default_rng(seed))
    torch.manual_seed(2)
    again = augment(image, spec, config, np.random.default_rng(seed))
    assert torch.equal(first, again)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8


@pytest.mark.parametrize("policy", ["light", "trivial", "heavy"])
def test_augmentation_varies_yet_stays_near_the_picture(policy):
    image, spec = picture(64, 64).float().mul(0.3).add(90).to(torch.uint8), PreprocessSpec(size=64)
    made = [augment(image, spec, AugmentConfig(policy=policy), np.random.default_rng(i)) for i in range(40)]
    assert len({m.numpy().tobytes() for m in made}) > 30
    assert abs(np.mean([m.float().mean() for m in made]) - image.float().mean()) < 25


def test_padding_keeps_the_aspect_and_squashing_the_content():
    wide = torch.zeros(3, 20, 80, dtype=torch.uint8)
    padded = resize(wide, PreprocessSpec(size=40, resize="pad"))
    assert (padded[:, 15:25] == 0).all()
    assert (padded[:, :14] == 128).all()
    assert (resize(wide, PreprocessSpec(size=40)) == 0).all()


def test_centre_crop_drops_the_rim():
    framed = torch.full((3, 100, 100), 255, dtype=torch.uint8)
    framed[:, 8:-8, 8:-8] = 0
    assert (resize(framed, PreprocessSpec(size=50, resize="crop", crop_fraction=0.8)) == 0).all()


def test_normalisation_presets():
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    ends = {name: Normalizer(PreprocessSpec(normalize=name))(black_and_white) for name in ("zero_one", "minus_one_one", "imagenet")}
    assert ends["zero_one"].flatten().tolist() == pytest.approx([0, 1] * 3)
    assert ends["minus_one_one"].flatten().tolist() == pytest.approx([-1, 1] * 3)
    assert ends["imagenet"][0, :, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert ends["imagenet"][0, :, 0, 1].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
