from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prodrec.sample.artwork import SIDE_PX, draw_product, star
from prodrec.sample.looks import KINDS, MIN_CONTRAST, PATTERNS, PRODUCTS_PER_GROUP, contrast, product_look


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**40), group=st.integers(0, 500))
def test_products_of_a_group_are_alike_but_no_two_the_same(seed: int, group: int) -> None:
    looks = [product_look(seed, group * PRODUCTS_PER_GROUP + place) for place in range(PRODUCTS_PER_GROUP)]
    assert len({(look.kind, look.brand, look.cap, look.panel_colour) for look in looks}) == 1
    assert all((one.body, one.pattern) != (other.body, other.pattern) for one, other in combinations(looks, 2))
    assert len({look.body for look in looks}) < len(looks), "colour alone must not tell them apart"


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**40), product=st.integers(0, 2000))
def test_patterns_stand_out_from_the_body(seed: int, product: int) -> None:
    look = product_look(seed, product)
    assert contrast(look.body, look.accent) >= MIN_CONTRAST
    assert look == product_look(seed, product)


def test_the_default_groups_are_distinct_kinds() -> None:
    assert len({product_look(0, PRODUCTS_PER_GROUP * group).kind for group in range(6)}) == 6


@pytest.mark.parametrize("name", KINDS)
def test_silhouettes_are_sound(name: str) -> None:
    kind = KINDS[name]
    heights = [y for y, _ in kind.profile]
    assert heights == sorted(heights)
    assert 0 <= heights[0] < heights[-1] <= 1
    # A round print is read up to half a turn from the middle: that has to lie on the artwork.
    assert 0 < kind.half_width * np.pi / 2 <= 0.5
    assert heights[0] < kind.label[0] < kind.label[1] < heights[-1]
    assert kind.label[1] <= kind.cap[0] or kind.label[0] >= kind.cap[1]


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_show_both_colours(name: str) -> None:
    y, x = np.mgrid[0:1:200j, 0:1:200j]
    share = np.asarray(PATTERNS[name](x, y), dtype=float)
    assert share.shape == x.shape
    assert share.min() == 0
    assert share.max() == (0 if name == "plain" else 1)


@pytest.mark.parametrize("place", range(len(KINDS)))
def test_artwork_is_a_product_on_nothing(place: int) -> None:
    look = product_look(0, place * PRODUCTS_PER_GROUP)
    kind = KINDS[look.kind]
    artwork = draw_product(look)
    assert (artwork.mode, artwork.size) == ("RGBA", (SIDE_PX, SIDE_PX))
    alpha_HW = np.asarray(artwork.getchannel("A")) / 255
    assert alpha_HW[:, [0, -1]].max() == 0
    inside = alpha_HW[int(kind.label[0] * SIDE_PX) : int(kind.label[1] * SIDE_PX), SIDE_PX // 2]
    assert inside.min() == 1
    heights, halves = np.array(kind.profile).T
    assert alpha_HW.mean() == pytest.approx(2 * np.trapezoid(halves, heights), rel=0.05)


def test_the_body_shows_its_colour_and_its_accent() -> None:
    look = next(look for look in (product_look(0, i) for i in range(100)) if look.pattern == "hoops" and KINDS[look.kind].surface != "round")
    pixels = np.asarray(draw_product(look)).reshape(-1, 4)
    for colour in (look.body, look.accent):
        near = np.abs(pixels[:, :3].astype(int) - colour).max(axis=1) < 25
        assert near[pixels[:, 3] == 255].mean() > 0.05


def test_round_products_are_darker_at_their_sides() -> None:
    look = next(look for look in (product_look(0, i) for i in range(400)) if look.pattern == "plain" and look.kind == "bottle")
    grey = np.asarray(draw_product(look).convert("L"), dtype=float)[int(0.9 * SIDE_PX)]
    edge = int((0.5 + 0.93 * KINDS["bottle"].half_width) * SIDE_PX)
    assert grey[edge] < 0.85 * grey[SIDE_PX // 2]


def test_products_of_the_catalogue_all_look_different() -> None:
    thumbnails = [np.asarray(draw_product(product_look(0, i)).resize((32, 32), Image.Resampling.BILINEAR), dtype=float) for i in range(24)]
    assert min(np.abs(one - other).mean() for one, other in combinations(thumbnails, 2)) > 1.5


@given(points=st.integers(3, 40), inner=st.floats(0.1, 1), radius=st.floats(1, 500))
def test_stars_point_upwards_and_keep_their_radii(points: int, inner: float, radius: float) -> None:
    corners = np.array(star((10.0, 20.0), radius, (points, inner))) - (10, 20)
    radii = np.hypot(*corners.T)
    assert radii[0::2] == pytest.approx(radius)
    assert radii[1::2] == pytest.approx(radius * inner)
    assert tuple(corners[0]) == pytest.approx((0, -radius), abs=1e-6 * radius)
