import hashlib

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.errors import ConfigError
from prodrec.shards.split import Earlier, Fractions, assign_splits, parse_fractions

THREE = Fractions(0.8, 0.1, 0.1)

rows = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abcd"), st.sampled_from([None, "train", "val", "test"])), min_size=1, max_size=80)


def frame(found):
    return pd.DataFrame(
        {
            "sha256": [hashlib.sha256(str(image).encode()).hexdigest() for image, _, _ in found],
            "label": [label for _, label, _ in found],
            "given": pd.Series([split for _, _, split in found], dtype=object),
        }
    )


def divide(data, fractions=THREE):
    return assign_splits(data["sha256"], data["label"], data["given"], fractions)


def many(sizes, given=None):
    return frame([(f"{label}-{i}", label, given) for label, size in sizes.items() for i in range(size)])


@given(rows)
def test_the_same_bytes_never_stand_in_two_splits(found):
    data = frame(found)
    split = divide(data)
    assert (split.dropna().groupby(data["sha256"]).nunique() == 1).all()


@given(rows)
def test_a_publishers_split_is_kept_or_dropped_but_only_train_may_become_val(found):
    data = frame(found)
    split = divide(data)
    for was, now in zip(data["given"], split, strict=True):
        assert was is None or now is None or now == was or (was, now) == ("train", "val")
    if (data["given"] == "val").any():
        assert not ((data["given"] == "train") & (split == "val")).any()


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_the_source_does_not_matter(found, random):
    data = frame(found)
    shuffled = data.sample(frac=1, random_state=random.randrange(2**31))
    pd.testing.assert_series_equal(divide(shuffled).reindex(data.index), divide(data))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_every_class_keeps_training_images_and_small_ones_are_tested(sizes):
    data = many({f"label {i}": n for i, n in enumerate(sizes)})
    counts = pd.crosstab(data["label"], divide(data)).reindex(columns=["train", "val", "test"], fill_value=0)
    total = counts.sum(axis=1)
    assert (counts["train"] >= 1).all()
    assert (counts.loc[total >= 3, "test"] >= 1).all()
    assert (counts.loc[total >= 4, "val"] >= 1).all()


def test_shares_come_out_over_a_long_tail():
    tail = many({f"label {i}": 2 for i in range(4000)})
    share = (divide(tail, Fractions(0.8, 0.0, 0.2)) == "test").mean()
    assert share == pytest.approx(0.2, abs=0.015)
    large = many({"a": 1000, "b": 500})
    by_class = divide(large).groupby(large["label"]).value_counts()
    assert by_class["a", "test"] == pytest.approx(100, abs=1)
    assert by_class["b", "val"] == pytest.approx(50, abs=1)


def test_adding_a_class_leaves_the_others_alone():
    before, after = many({"a": 20, "b": 7}), many({"a": 20, "b": 7, "c": 9})
    assert (divide(after)[: len(before)] == divide(before)).all()


def test_a_publisher_without_val_has_it_taken_from_train_only():
    data = pd.concat([many({"a": 80, "b": 20}, "train"), frame([(f"t{i}", "a", "test") for i in range(30)])], ignore_index=True)
    split = divide(data)
    assert (split[100:] == "test").all()
    assert (split[:100] == "val").sum() == pytest.approx(100 / 9, abs=2)


def test_a_leak_from_train_into_test_is_dropped_on_the_training_side():
    data = frame([(1, "a", "train"), (1, "a", "test"), (2, "a", "train"), (1, "b", None)])
    assert divide(data, Fractions(0.9, 0.0, 0.1)).tolist() == [None, "test", "train", "test"]


def test_fractions():
    assert parse_fractions("0.8,0.1,0.1") == Fractions(0.8, 0.1, 0.1)
    assert parse_fractions("0.8,0.2") == Fractions(0.8, 0.0, 0.2)
    for wrong in ("0.8", "0.8,0.3", "0,0.5,0.5", "a,b", "1.2,-0.2", ""):
        with pytest.raises(ConfigError, match="sum to 1"):
            parse_fractions(wrong)


def grown(found, more, fractions=THREE):
    """The split of `found`, and that of both when the first one is kept."""
    before = divide(frame(found), fractions)
    earlier = Earlier(dict(zip(frame(found)["sha256"][before.notna()], before.dropna(), strict=True)), {})
    data = frame([*more, *found])
    return data, earlier, assign_splits(data["sha256"], data["label"], data["given"], fractions, earlier=earlier)


@given(rows, rows)
def test_images_that_stood_in_earlier_shards_keep_their_split_whatever_is_said_now(found, more):
    data, earlier, split = grown(found, more)
    was = data["sha256"].map(earlier.of_image)
    assert (split[was.notna()] == was.dropna()).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(0, 40))
def test_what_is_added_fills_the_shares_of_its_class(sizes, added):
    found = [(f"{k}-{i}", f"label {k}", None) for k, n in enumerate(sizes) for i in range(n)]
    more = [(f"{k}+{i}", f"label {k}", None) for k in range(len(sizes)) for i in range(added)]
    data, _, split = grown(found, more)
    whole = divide(data)
    for label, rows in data.groupby("label"):
        shown, alone = split[rows.index].value_counts(), whole[rows.index].value_counts()
        assert shown.get("train", 0) >= 1
        if added >= 4:
            assert all(shown.get(name, 0) >= alone.get(name, 0) for name in ("val", "test")), label
            assert all(shown.get(name, 0) <= max(alone.get(name, 0), 1 + len(rows) * 0.1 + 1) for name in ("val", "test"))


listed = st.lists(
    st.tuples(st.integers(0, 25), st.sampled_from("ab"), st.sampled_from([None, "train", "val", "test"]), st.none() | st.integers(0, 8)),
    min_size=1,
    max_size=60,
)


def divide_listed(found, given=True):
    data = frame([(image, label, split if given else None) for image, label, split, _ in found])
    data["listing_id"] = pd.Series([None if listing is None else str(listing) for *_, listing in found], dtype=object)
    return data, assign_splits(data["sha256"], data["label"], data["given"], THREE, data["listing_id"])


@given(listed, st.booleans())
def test_neither_a_listing_nor_the_same_bytes_ever_stand_in_two_splits(found, given):
    data, split = divide_listed(found, given)
    for name in ("listing_id", "sha256"):
        assert (split.dropna().groupby(data[name]).nunique() == 1).all()


@given(listed)
def test_what_a_listing_loses_stands_further_from_training(found):
    data, split = divide_listed(found)
    level = {"train": 1, "val": 2, "test": 3}
    for row in data[split.isna()].itertuples():
        others = split[(data["sha256"] == row.sha256) | ((data["listing_id"] == row.listing_id) if row.listing_id else False)].dropna()
        assert len(others)
        assert row.given is None or max(level[name] for name in others) >= level[row.given]


@given(listed, st.randoms(use_true_random=False))
def test_with_listings_the_order_of_the_source_does_not_matter_either(found, random):
    shuffled = random.sample(range(len(found)), len(found))
    split = divide_listed(found)[1]
    assert divide_listed([found[i] for i in shuffled])[1].tolist() == [split[i] for i in shuffled]


def kept(data, split):
    """What earlier shards would tell."""
    there = data[split.notna()].assign(split=split.dropna())
    return Earlier(dict(zip(there["sha256"], there["split"], strict=True)), dict(zip(there["listing_id"], there["split"], strict=True)))


@given(listed, listed, st.booleans())
def test_neither_listings_nor_what_was_trained_on_change_sides_when_images_are_added(found, more, given):
    before, split = divide_listed(found, given)
    earlier = kept(before, split)
    data, _ = divide_listed([*found, *more], given)
    now = assign_splits(data["sha256"], data["label"], data["given"], THREE, data["listing_id"], earlier)
    was = data["sha256"].map(earlier.of_image)
    assert (now.isna() | was.isna() | (now == was)).all()
    for name in ("listing_id", "sha256"):
        assert (now.dropna().groupby(data[name]).nunique() == 1).all()


def test_a_new_photo_of_a_listing_goes_where_its_listing_is():
    found = [(f"{listing}-{view}", "a", None, listing) for listing in range(40) for view in range(2)]
    data, split = divide_listed(found)
    grown = found + [(f"{listing}-new", "a", None, listing) for listing in range(40)]
    more, alone = divide_listed(grown)
    now = assign_splits(more["sha256"], more["label"], more["given"], THREE, more["listing_id"], kept(data, split))
    assert now.notna().all()
    assert (now.groupby(more["listing_id"]).nunique() == 1).all() and (now[: len(found)] == split).all()
    # Also where only new photos of the old listings come.
    new = more[len(found) :]
    alone_now = assign_splits(new["sha256"], new["label"], new["given"], THREE, new["listing_id"], kept(data, split))
    assert (alone_now == now[len(found) :]).all()
    assert (alone[: len(found)] != split).any(), "otherwise nothing was to be kept"
    # Also where the publisher left val open: what it calls train is train or val.
    published = more["given"].where(more["listing_id"].astype(int) < 2, "train").fillna("test")
    before = assign_splits(data["sha256"], data["label"], published[: len(found)], THREE, data["listing_id"])
    after = assign_splits(more["sha256"], more["label"], published, THREE, more["listing_id"], kept(data, before))
    assert after.notna().all() and (after[: len(found)] == before).all() and (before == "val").any()


def test_listings_are_divided_as_images_are_and_listed_again_they_stay_together():
    found = [(f"{listing}-{view}", "a", None, listing) for listing in range(100) for view in range(3)]
    data, split = divide_listed(found)
    assert split.groupby(data["listing_id"]).first().value_counts().to_dict() == pytest.approx({"train": 80, "val": 10, "test": 10}, abs=1)
    again = [(f"{listing % 5}-{view}", "a", None, listing) for listing in range(20) for view in range(3)]
    _, split = divide_listed(again)
    assert split.notna().all()
    assert {"train", "test"} <= set(split)
