"""Writing the sample catalogue: drawn product photos as a source in Products-10K layout.

    OUT/train.csv, OUT/test.csv     name,class,group (class and group are integers)
    OUT/train/NAME, OUT/test/NAME   JPEG photos; a few of train are broken on purpose
    OUT/labels.csv, OUT/packshots/  what the products are called, and how they look; see `names`

train.csv and test.csv are written last: their presence means complete. Equal arguments give equal bytes (with equal versions of
Pillow and numpy), and a photo depends on (seed, product, its number) alone.

Not covered: what products look like (`looks`, `artwork`) and how they are photographed (`scenes`, `photos`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prodrec.errors import ConfigError, OutputError
from prodrec.files import Folder, writing
from prodrec.sample.artwork import draw_product
from prodrec.sample.looks import PRODUCTS_PER_GROUP, Stream, product_look
from prodrec.sample.names import Named, group_title_of, title_of, write_names
from prodrec.sample.photos import take_photo
from prodrec.sample.scenes import make_props

MIN_PHOTOS = 3  # of a product: two for training, one for the test. Source: assumed
TEST_SHARE = 0.25  # Source: assumed, near Products-10K's 0.28 (55,376 of 197,307)
TAIL_SHARE = 1 / 12  # share of products that have `MIN_PHOTOS` only. Source: assumed
# Photos of the product of rank r are in proportion to r ** -EXPONENT. Source: assumed
EXPONENT = 0.8
KEPT_OF_TRUNCATED = 0.4  # share of the bytes left of the truncated photo. Source: assumed


@dataclass(frozen=True)
class SampleSummary:
    """What `write_sample` wrote: numbers of products, groups, good photos by split, and broken rows of train.csv."""

    products: int
    groups: int
    train: int
    test: int
    broken: int


class Row(NamedTuple):
    """A line of train.csv or test.csv."""

    name: str
    product: int

    def __str__(self) -> str:
        return f"{self.name},{self.product},{self.product // PRODUCTS_PER_GROUP}"


def write_sample(out: str | Path, products: int = 24, images: int = 1200, seed: int = 0) -> SampleSummary:
    """Draws the sample catalogue.

    Args:
        out: a folder that is absent or empty, or a URI such as s3://bucket/sample.
        products: at least 2; each four of them are a group.
        images: good photos of both splits together, at least 3 a product; 4 broken rows come on top.
        seed: 0 or above.

    Raises:
        ConfigError: `products`, `images` or `seed` out of range.
        OutputError: `out` cannot be written, or is not empty.
        SourceError: `out` is a URI of an unknown scheme.
    """
    _check(products, images, seed)
    folder = empty_folder(out)
    counts = photo_counts(products, images, seed)
    train, test = Folder(folder / "train").make(), Folder(folder / "test").make()
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    for split, row, photo in _photos(counts, seed):
        (train if split == "train" else test).write(row.name, photo)
        rows[split].append(row)
    broken = _write_broken(train, rows["train"][0])
    write_names(folder, _names(products, seed))
    _write_csv(folder, "train", rows["train"] + broken)
    _write_csv(folder, "test", rows["test"])
    return SampleSummary(products, -(-products // PRODUCTS_PER_GROUP), len(rows["train"]), len(rows["test"]), len(broken))


def photo_counts(products: int, images: int, seed: int) -> list[tuple[int, int]]:
    """Photos of each product for training and test: a power law over products in random order, with a tail of the fewest.

    Returns:
        (train, test) by product; all add up to `images`; train >= 2, test >= 1.
    """
    ranks = np.arange(1, products + 1)
    heavy = ranks <= products - max(1, round(products * TAIL_SHARE))
    weights = heavy * ranks**-EXPONENT
    # Rounding the running total instead of each number keeps the sum exact.
    steps = np.rint(np.cumsum(weights) / weights.sum() * (images - MIN_PHOTOS * products)).astype(int)
    totals = MIN_PHOTOS + np.diff(steps, prepend=0)
    order = np.random.default_rng([Stream.CATALOGUE, seed]).permutation(products)
    tests = np.maximum(1, np.rint(totals * TEST_SHARE).astype(int))
    return [(int(totals[rank] - tests[rank]), int(tests[rank])) for rank in order]


def _photos(counts: list[tuple[int, int]], seed: int) -> Iterator[tuple[str, Row, bytes]]:
    """Every good photo with its split, one product after the other."""
    props = make_props(seed)
    for product, (train, test) in enumerate(counts):
        artwork = draw_product(product_look(seed, product))
        for number in range(train + test):
            rng = np.random.default_rng([Stream.PHOTO, seed, product, number])
            yield "train" if number < train else "test", Row(f"{product:03d}_{number:04d}.jpg", product), take_photo(artwork, props, rng)


def _names(products: int, seed: int) -> Iterator[Named]:
    for product in range(products):
        look = product_look(seed, product)
        yield Named(str(product), title_of(look), group_title_of(look), draw_product(look))


def _write_broken(train: Folder, good: Row) -> list[Row]:
    """Files as every real catalogue has some: prepare has to reject them, each with its own reason.

    Returns:
        Their rows; the last one names a file that is not there.
    """
    photo = train.read(good.name)
    train.write("broken_text.jpg", b"<html><body>404 Not Found</body></html>\n")
    train.write("broken_truncated.jpg", photo[: int(len(photo) * KEPT_OF_TRUNCATED)])
    train.write("broken_empty.jpg", b"")
    return [Row(f"broken_{what}.jpg", good.product) for what in ("text", "truncated", "empty", "missing")]


def _write_csv(folder: Folder, split: str, rows: list[Row]) -> None:
    folder.write(f"{split}.csv", "".join(f"{line}\n" for line in ("name,class,group", *rows)).encode())


def _check(products: int, images: int, seed: int) -> None:
    if products < 2:
        raise ConfigError(f"products is {products}; give 2 or more: with one there is nothing to tell apart")
    if images < MIN_PHOTOS * products:
        raise ConfigError(f"images is {images}; {products} products need {MIN_PHOTOS * products} or more: two to train on and one to test each")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; give 0 or more")


def empty_folder(out: str | Path) -> Folder:
    """Raises: OutputError: it cannot be written, or is not empty."""
    folder = Folder(out).make()
    with writing(folder.uri):
        found = folder.names()
    if found:
        raise OutputError(f"{folder.uri} is not empty (it holds {found[0].base_name}); choose another folder or empty it")
    return folder
