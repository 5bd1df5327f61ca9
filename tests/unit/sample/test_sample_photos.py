from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from prodrec.sample import photos
from prodrec.sample.artwork import draw_product
from prodrec.sample.looks import product_look
from prodrec.sample.photos import ORIENTATION_TAG, STORED_TURNED, encoded, perspective, take_photo
from prodrec.sample.scenes import SCENES, Pose, Props, as_image, make_props, scaled


@pytest.fixture(scope="module")
def props() -> Props:
    return make_props(0)


def grey(jpeg: bytes) -> np.ndarray:
    with Image.open(BytesIO(jpeg)) as photo:
        return np.asarray(photo.convert("L"), dtype=float)


def test_a_photo_is_decided_by_its_generator(props: Props) -> None:
    artwork = draw_product(product_look(0, 0))
    first, again, other = (take_photo(artwork, props, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_product_shows_on_every_photo(props: Props) -> None:
    # Same generator, other product of the same silhouette: what differs is the visible product.
    one, other = (draw_product(product_look(0, product)) for product in (8, 9))
    for seed in range(25):
        pair = [grey(take_photo(artwork, props, np.random.default_rng(seed))) for artwork in (one, other)]
        assert (np.abs(pair[0] - pair[1]) > 15).mean() > 0.02, seed


def test_photos_vary_in_brightness_and_sharpness(props: Props) -> None:
    artwork = draw_product(product_look(0, 8))
    images = [grey(take_photo(artwork, props, np.random.default_rng(seed))) for seed in range(40)]
    brightness = np.array([image.mean() for image in images])
    sharpness = np.array([np.abs(np.diff(image, axis=1)).mean() for image in images])
    assert brightness.min() > 30
    assert brightness.std() > 15
    assert sharpness.max() > 3 * sharpness.min()


@settings(deadline=None, max_examples=50)
@given(
    tall=st.floats(100, 480),
    tilt=st.floats(-0.6, 0.6),
    shifts=st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=8),
    side=st.sampled_from([256, 512]),
)
def test_perspective_takes_corners_to_corners(tall: float, tilt: float, shifts: list[float], side: int) -> None:
    corners = Pose((480, 480), tall, 240.0, 400.0, tilt).corners + np.reshape(shifts, (4, 2)) * tall
    a, b, c, d, e, f, g, h = perspective(corners, side)
    x, y = corners.T
    mapped = np.stack([a * x + b * y + c, d * x + e * y + f]) / (g * x + h * y + 1)
    assert pytest.approx(np.array([(0, 0), (side, 0), (side, side), (0, side)]), abs=1e-3) == mapped.T


@given(tilt=st.floats(-3, 3), tall=st.floats(10, 500))
def test_a_pose_keeps_the_square_square(tilt: float, tall: float) -> None:
    corners = Pose((480, 480), tall, 200.0, 300.0, tilt).corners
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    assert sides == pytest.approx(tall)
    assert corners.mean(axis=0) == pytest.approx((200, 300 - tall / 2))


def test_an_upright_pose_stands_on_its_floor() -> None:
    left_top, right_top, right_foot, left_foot = Pose((480, 480), 100, 200.0, 300.0, 0.0).corners
    assert tuple(left_top) == (150, 200)
    assert tuple(right_top) == (250, 200)
    assert tuple(right_foot) == (250, 300)
    assert tuple(left_foot) == (150, 300)


def test_a_turned_photo_comes_upright_by_its_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "EXIF_SHARE", 1.0)
    scene = as_image(np.mgrid[0:255:64j, 0:255:96j].transpose(1, 2, 0).mean(axis=2) * np.linspace(0.2, 1, 96))
    tags = set()
    for seed in range(20):
        stored = Image.open(BytesIO(encoded(scene, np.random.default_rng(seed))))
        tags.add(stored.getexif()[ORIENTATION_TAG])
        upright = ImageOps.exif_transpose(stored)
        assert upright.size == scene.size
        assert np.abs(np.asarray(upright, dtype=float) - np.asarray(scene)).mean() < 4
    assert tags == set(STORED_TURNED)


def test_some_photos_carry_an_orientation_tag_and_most_do_not() -> None:
    scene = Image.new("RGB", (16, 16))
    tagged = [ORIENTATION_TAG in Image.open(BytesIO(encoded(scene, np.random.default_rng(seed)))).getexif() for seed in range(500)]
    assert 5 <= sum(tagged) <= 50


@pytest.mark.parametrize("place", range(len(SCENES)))
def test_scenes_fill_the_frame_wherever_the_product_stands(props: Props, place: int) -> None:
    backdrop, _ = SCENES[place]
    for floor in (100.0, 300.0, 330.0):
        scene = backdrop(props, Pose((250, 300), 240.0, 120.0, floor, 0.0), np.random.default_rng(4))
        assert (scene.mode, scene.size) == ("RGB", (250, 300))
        assert np.asarray(scene).std() > 0.5


def test_scaling_keeps_the_aspect() -> None:
    assert scaled(Image.new("RGBA", (300, 100)), 50.2).size == (151, 50)
    assert scaled(Image.new("RGBA", (1, 900)), 0.1).size == (1, 1)


def test_as_image_cuts_off_at_the_ends() -> None:
    assert np.asarray(as_image(np.array([[-5.0, 12.7, 300.0]]))).tolist() == [[0, 12, 255]]
