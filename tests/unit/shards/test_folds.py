import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import build_shards

from prodrec.shards.folds import HELD_OUT, fold_numbers, joined, without_fold
from prodrec.shards.order import Window
from prodrec.shards.reading import open_shards


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return joined(open_shards(build_shards(tmp_path_factory.mktemp("folds") / "s", {"red": 40, "green": 9, "blue": 1})))


def rows_of(split, numbers):
    return split.read(Window(0, np.array(numbers), np.zeros(len(numbers), np.int64)))


def test_train_and_val_are_one_split_and_test_is_left_alone(whole):
    shards = open_shards(whole.uri)
    assert whole.split("train").rows == shards.split("train").rows + shards.split("val").rows
    assert whole.split("val").rows == 0 and whole.split("test").rows == shards.split("test").rows
    assert whole.class_counts("train").tolist() == (shards.class_counts("train") + shards.class_counts("val")).tolist()


@given(folds=st.integers(2, 7))
def test_each_row_is_held_out_once_and_the_rest_is_learned_from(whole, folds):
    held, images = [], whole.split("train").column("sha256").to_pylist()
    for fold in range(1, folds + 1):
        part = without_fold(whole, folds, fold)
        held += part.held_out.tolist()
        assert part.split("train").rows + part.split(HELD_OUT).rows == len(images)
        assert sum(part.split("train").row_group_sizes) == part.split("train").rows == int(part.class_counts("train").sum())
        assert part.split("test").rows == part.split("val").rows == 0, "no fold looks at test"
        assert part.split(HELD_OUT).column("sha256").to_pylist() == [images[row] for row in part.held_out]
        if part.split(HELD_OUT).rows:
            last = part.split(HELD_OUT).rows - 1
            table = rows_of(part.split(HELD_OUT), [last, 0])
            assert table["row"].to_pylist() == [last, 0]
            expected = rows_of(whole.split("train"), [part.held_out[-1], part.held_out[0]])
            assert table["image"].to_pylist() == expected["image"].to_pylist() and table["label_id"].equals(expected["label_id"])
    assert sorted(held) == list(range(len(images)))


def test_folds_are_stretches_of_each_label_by_name_and_of_about_equal_size(whole):
    numbers, split = fold_numbers(whole, 4), whole.split("train")
    labels, uris = split.column("label_id").to_numpy(), split.column("uri").to_pylist()
    for label, name in enumerate(whole.manifest.labels):
        rows = sorted(np.flatnonzero(labels == label), key=lambda row: int(uris[row].rpartition("/")[2]))
        assert np.count_nonzero(np.diff(numbers[rows])) <= 3, name
        sizes = np.bincount(numbers[rows], minlength=5)[1:]
        assert sizes.max() - sizes.min() <= 1
    assert set(numbers) == {1, 2, 3, 4}


def test_what_must_stay_together_stays_in_one_fold(tmp_path):
    from made import prepare_here, write_listings

    whole = joined(open_shards(prepare_here(write_listings(tmp_path / "source", 6), tmp_path / "s")))
    numbers = fold_numbers(whole, 3)
    folds_of: dict[str, set[int]] = {}
    for listing, number in zip(whole.split("train").column("listing_id").to_pylist(), numbers, strict=True):
        folds_of.setdefault(listing, set()).add(int(number))
    assert len(folds_of) > 10 and all(len(found) == 1 for found in folds_of.values())
