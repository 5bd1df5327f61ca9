"""Listings of several photos of which none alone tells the product: a source for models that fuse views.

    OUT/manifest.csv                uri,label,split,listing_id,view; written last: its presence means complete
    OUT/images/LISTING_VIEW.jpg     photos of one side each
    OUT/labels.csv, OUT/packshots/  what the products are called, and both sides of them; see `names`

Products are boxes with a printed front and a printed back. `SHARED` products have each front, `SHARED` have each back, and no
two have both. A photo shows one side, and depends on that side, the seed and its own number alone: whoever sees one photo can
name the product in 1 of `SHARED` cases at best, and whoever sees a front and a back always. Each listing has both.

Not covered: what products look like (`looks`, `artwork`) and how they are photographed (`photos`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.sample.artwork import SIDE_PX, draw_product
from prodrec.sample.catalogue import TEST_SHARE, empty_folder
from prodrec.sample.looks import PRODUCTS_PER_GROUP, Look, Rng, Stream, product_look
from prodrec.sample.names import Named, appearance, write_names
from prodrec.sample.photos import take_photo
from prodrec.sample.scenes import make_props

SHARED = 3  # products of one front, and of one back. Source: assumed
FEWEST_VIEWS, MOST_VIEWS = 2, 5
MIN_LISTINGS = 4  # of a product: three for training and val, one for the test. Source: assumed
_KIND = "box"  # has the largest printed area


@dataclass(frozen=True)
class ViewSummary:
    """What `write_views` wrote: products, listings by split, photos of both.

    Attributes:
        best_single_view: the accuracy that nobody who sees one photo of a listing can exceed, as all products have as many listings.
    """

    products: int
    train: int
    test: int
    images: int
    best_single_view: float = 1 / SHARED


class Sides(NamedTuple):
    """The numbers of a product's front and back, each counted from 0."""

    front: int
    back: int


def sides(products: int) -> list[Sides]:
    """Of each product."""
    fronts = products // SHARED
    return [Sides(product // SHARED, (product // SHARED + product % SHARED) % fronts) for product in range(products)]


def write_views(out: str | Path, products: int = 24, images: int = 1200, seed: int = 0) -> ViewSummary:
    """Draws listings with views.

    Args:
        out: a folder that is absent or empty, or a URI.
        products: 9 or more, a multiple of 3.
        images: photos of both splits together, about: products have equal numbers of listings, with 3.5 photos in the mean.
        seed: 0 or above.

    Raises:
        ConfigError: `products`, `images` or `seed` out of range.
        OutputError: `out` cannot be written, or is not empty.
    """
    listings = round(images / products * 2 / (FEWEST_VIEWS + MOST_VIEWS))
    _check(products, listings, seed)
    folder = empty_folder(out)
    photos = Folder(folder / "images").make()
    tests, lines = max(1, round(listings * TEST_SHARE)), ["uri,label,split,listing_id,view"]
    for product, number, view, photo in _photos(products, listings, seed):
        listing_id = f"{product:03d}-{number:04d}"
        photos.write(f"{listing_id}_{view}.jpg", photo)
        lines.append(f"images/{listing_id}_{view}.jpg,{product:03d},{'test' if number < tests else 'train'},{listing_id},{view}")
    write_names(folder, _names(products, seed))
    folder.write("manifest.csv", "".join(f"{line}\n" for line in lines).encode())
    return ViewSummary(products, (listings - tests) * products, tests * products, len(lines) - 1)


def shown_sides(rng: Rng) -> list[bool]:
    """Whether each view of a listing shows the back: 2 to 5 views in any order, both sides among them."""
    count = int(rng.integers(FEWEST_VIEWS, MOST_VIEWS + 1))
    backs = int(rng.integers(1, count))
    return [bool(back) for back in rng.permutation([True] * backs + [False] * (count - backs))]


def _photos(products: int, listings: int, seed: int) -> Iterator[tuple[int, int, int, bytes]]:
    """(product, its listing, view, JPEG), product by product."""
    props = make_props(seed)
    for product, (front, back) in enumerate(sides(products)):
        prints = _draw(seed, front), _draw(seed, products // SHARED + back)
        for number in range(listings):
            rng = np.random.default_rng([Stream.VIEW, seed, product, number])
            for view, is_back in enumerate(shown_sides(rng)):
                yield product, number, view, take_photo(prints[is_back], props, rng)


def _names(products: int, seed: int) -> Iterator[Named]:
    for product, (front, back) in enumerate(sides(products)):
        looks = _look(seed, front), _look(seed, products // SHARED + back)
        pair = Image.new("RGBA", (2 * SIDE_PX, SIDE_PX))
        for at, look in enumerate(looks):
            pair.paste(draw_product(look), (at * SIDE_PX, 0))
        yield Named(f"{product:03d}", f"{looks[0].brand} box, {appearance(looks[0])} front, {appearance(looks[1])} back", "", pair)


def _draw(seed: int, side: int) -> Image.Image:
    """The print of a side: each has colours of a group of its own."""
    return draw_product(_look(seed, side))


def _look(seed: int, side: int) -> Look:
    return replace(product_look(seed, side * PRODUCTS_PER_GROUP), kind=_KIND)


def _check(products: int, listings: int, seed: int) -> None:
    if products < SHARED * SHARED or products % SHARED:
        raise ConfigError(f"products is {products}; for --views give {SHARED * SHARED} or more, a multiple of {SHARED}: so many share each side")
    if listings < MIN_LISTINGS:
        least = MIN_LISTINGS * products * (FEWEST_VIEWS + MOST_VIEWS) // 2
        raise ConfigError(f"images is too few for {products} products with {MIN_LISTINGS} listings of 2 to 5 photos each; give {least} or more")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; give 0 or more")
