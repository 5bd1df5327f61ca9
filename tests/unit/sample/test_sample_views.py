"""Sample listings: no photo alone tells the product, all of them together do."""

import csv
from collections import defaultdict
from itertools import islice

import pytest

from prodrec.errors import ConfigError
from prodrec.sample import view_set, write_views
from prodrec.sample.view_set import SHARED, sides
from prodrec.sources.source import open_source


@pytest.mark.parametrize("products", [9, 12, 24, 99])
def test_each_side_is_shared_and_no_two_products_have_both(products):
    pairs = sides(products)
    assert len(set(pairs)) == products
    for side in range(2):
        shared = defaultdict(int)
        for pair in pairs:
            shared[pair[side]] += 1
        assert set(shared.values()) == {SHARED}
        assert set(shared) == set(range(products // SHARED))


def test_listings_are_a_source_of_2_to_5_views_and_repeat_by_seed(tmp_path):
    made = write_views(tmp_path / "a", products=9, images=130, seed=1)
    assert (made.products, made.train + made.test, made.test, made.best_single_view) == (9, 36, 9, 1 / 3)
    source = open_source(str(tmp_path / "a"))
    assert source.format == "manifest"
    assert len(source.listing) == made.images == len(list((tmp_path / "a" / "images").iterdir()))
    views, rows = defaultdict(list), list(csv.DictReader((tmp_path / "a" / "manifest.csv").open()))
    for row in rows:
        views[row["listing_id"], row["label"], row["split"]].append(int(row["view"]))
    assert len(views) == 36
    assert all(found == list(range(len(found))) and 2 <= len(found) <= 5 for found in views.values())
    for product, number, view, photo in islice(view_set._photos(9, 4, 1), 5):
        assert (tmp_path / "a" / "images" / f"{product:03d}-{number:04d}_{view}.jpg").read_bytes() == photo


@pytest.mark.parametrize(("arguments", "message"), [((10, 1200), "products is 10"), ((6, 1200), "products is 6"), ((9, 100), "give 126 or more")])
def test_too_few_or_odd_products_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        write_views(tmp_path / "a", *arguments)
    assert not (tmp_path / "a").exists()
