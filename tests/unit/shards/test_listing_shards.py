"""Prepared listings: whole in one split and row group, read at once, batched alike wherever they are decoded."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import prepare_here, write_listings

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.errors import ShardsError, SourceError
from prodrec.images.views import Views
from prodrec.shards import plan
from prodrec.shards.feed import Pass, batches
from prodrec.shards.listing_shards import by_listing, evenly
from prodrec.shards.order import Window, epoch_order
from prodrec.shards.reading import open_shards
from prodrec.shards.stream import decode_pixels, train_transform


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """100 listings in many small row groups."""
    folder = tmp_path_factory.mktemp("listings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP_ROWS", 16)
        return open_shards(prepare_here(write_listings(folder / "source", 25), folder / "shards"))


def test_a_listing_lies_whole_in_one_row_group_of_one_split_ordered_by_view(shards):
    places = {}
    for split, files in shards.manifest.splits.items():
        for file in files:
            parquet = pq.ParquetFile(f"{shards.uri}/{file.name}")
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, columns=["listing_id", "view"]).to_pylist()
                for i, row in enumerate(rows):
                    places.setdefault(row["listing_id"], []).append((split, file.name, group, i, row["view"]))
    assert len(places) == shards.manifest.listings == 100
    for found in places.values():
        assert len({place[:3] for place in found}) == 1
        assert [place[3] for place in found] == list(range(found[0][3], found[0][3] + len(found)))
        assert [place[4] for place in found] == list(range(len(found)))
    assert {split: len({k for k, v in places.items() if v[0][0] == split}) for split in ("val", "test")} == {"val": 20, "test": 20}


def test_a_split_of_listings_counts_and_names_listings(shards):
    seen = by_listing(shards, 8)
    for name in ("train", "val", "test"):
        split, images = seen.split(name), shards.split(name)
        ids = images.column("listing_id").to_pylist()
        assert split.column("listing_id").to_pylist() == list(dict.fromkeys(ids))
        assert sum(split.row_group_sizes) == split.rows == len(set(ids))
        assert split.image(split.rows - 1) == images.image(ids.index(ids[-1]))
    assert seen.class_counts("train").tolist() == [15] * 4
    assert len(seen.split("train").row_group_sizes) > 3


@given(st.lists(st.integers(0, 59), min_size=1, max_size=12), st.integers(1, 5))
def test_a_window_reads_listings_whole_in_any_order(shards, rows, most):
    split, images = by_listing(shards, most).split("train"), shards.split("train")
    ids, jpegs, labels = (images.column(name).to_pylist() for name in ("listing_id", "image", "label_id"))
    table = split.read(Window(2, np.array(rows), np.arange(len(rows))))
    assert table["row"].to_pylist() == rows
    assert table["occurrence"].to_pylist() == list(range(len(rows)))
    names = split.column("listing_id").to_pylist()
    for i, row in enumerate(rows):
        own = [n for n, name in enumerate(ids) if name == names[row]]
        shown = [own[n] for n in evenly(len(own), most)]
        assert table["image_row"][i].as_py() == shown
        assert table["image"][i].as_py() == [jpegs[n] for n in shown]
        assert table["label_id"][i].as_py() == labels[own[0]]


@given(st.integers(1, 300), st.integers(1, 20))
def test_of_many_views_some_are_shown_from_the_first_to_the_last(count, most):
    shown = evenly(count, most).tolist()
    assert shown == sorted(set(shown))
    assert len(shown) == min(count, most)
    assert shown[0] == 0
    assert most == 1 or shown[-1] == count - 1


def test_batches_of_listings_are_alike_wherever_they_are_decoded_and_hold_each_listing_once(shards):
    split = by_listing(shards, 3).split("train")
    order = epoch_order(split.row_group_sizes, 16, lanes=2, window_row_groups=2, seed=1)
    transform = train_transform(PreprocessSpec(size=24), AugmentConfig(), seed=1, epoch=1)
    one = Pass(split, order, transform)
    here = list(batches(one, threads=2))
    away = list(batches(one, threads=1, away=lambda one: (decode_pixels(one.split.read(window), one.transform) for window in one.order.windows)))
    for one, other in zip(here, away, strict=True):
        assert torch.equal(one.images.images, other.images.images)
        assert torch.equal(one.images.lengths, other.images.lengths)
        assert torch.equal(one.targets, other.targets)
        assert int(one.images.lengths.sum()) == len(one.images.images)
        assert one.images.lengths.max() <= 3
    assert sorted(row for batch in here for row in batch.rows.tolist()) == list(range(split.rows))


def test_each_image_has_a_number_of_its_own_to_draw_by(shards):
    split = by_listing(shards, 8).split("val")
    order = epoch_order(split.row_group_sizes, 16, seed=1)
    numbered = batches(Pass(split, order, lambda image, row, nth: torch.full((3, 2, 2), row)), threads=1)
    seen = [int(image[0, 0, 0]) for batch in numbered for image in batch.images.images]
    assert sorted(seen) == list(range(shards.split("val").rows))


def test_views_are_sliced_by_listing():
    views = Views(torch.arange(6).float()[:, None, None, None].expand(6, 3, 2, 2), torch.tensor([1, 3, 2]))
    assert views[1:].images[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert views[:2].lengths.tolist() == [1, 3]
    assert views[1:2].images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert len(views) == 3


def test_shards_without_listings_are_refused_in_one_line(small_shards):
    with pytest.raises(ShardsError, match="names no listings, and this model fuses the views"):
        by_listing(open_shards(small_shards), 8)


def test_shards_of_an_earlier_prepare_open_and_have_no_listings(shards, tmp_path, small_shards):
    import json
    import shutil

    old = tmp_path / "old"
    shutil.copytree(small_shards, old)
    tree = json.loads((old / "manifest.json").read_text())
    for told in ("listings", "label_counts", "index"):
        del tree[told]
    for files in tree["splits"].values():
        for file in files:
            path = old / file["name"]
            pq.write_table(pq.read_table(path).drop_columns(["view"]), path, row_group_size=256)
            file["size_bytes"] = path.stat().st_size
    (old / "manifest.json").write_text(json.dumps(tree))
    for index in old.glob("index-*.parquet"):
        index.unlink()
    assert open_shards(str(old)).class_counts("train").tolist() == open_shards(small_shards).class_counts("train").tolist()
    before, now = open_shards(small_shards).split("train"), open_shards(str(old)).split("train")
    assert now.column("sha256").to_pylist() == before.column("sha256").to_pylist()
    assert now.column("image").to_pylist() == before.column("image").to_pylist()
    assert open_shards(str(old)).manifest.listings is None


def test_a_view_that_is_no_number_is_named(tmp_path):
    from prodrec.sources.source import open_source

    (tmp_path / "manifest.csv").write_text("uri,label,listing_id,view\na.jpg,a,1,0\nb.jpg,a,1,front\n")
    with pytest.raises(SourceError, match=r"manifest.csv: view 'front' is no whole number"):
        open_source(str(tmp_path))
    (tmp_path / "manifest.csv").write_text("uri,label,listing_id,view\na.jpg,a,1,2.0\nb.jpg,a,1,\nc.jpg,a,1,-1\n")
    assert open_source(str(tmp_path)).listing["view"] == pa.chunked_array([[2, None, -1]], pa.int32())
