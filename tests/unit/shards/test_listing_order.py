"""Images of a listing stay together, in the order of their views, and nothing is lost."""

from itertools import chain

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prodrec.shards import listing_order
from prodrec.shards.listing_order import LONGEST, cuts, gathered, sequence_ends
from prodrec.sources.columns import listing

ROWS = st.lists(st.tuples(st.sampled_from([None, "x", "y", "z"]), st.sampled_from("ab"), st.none() | st.integers(0, 3)), max_size=40)


def source(rows):
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    ids, labels, views = (pa.array(list(values), kind) for values, kind in zip(columns, (pa.string(), pa.string(), pa.int32()), strict=True))
    uris = pa.array([str(i) for i in range(len(rows))])
    return listing(len(rows), {"uri": uris, "listing_id": ids, "label": labels, "view": views})


@given(ROWS, st.booleans())
def test_each_sequence_is_one_run_ordered_by_view_then_by_source(rows, shuffle):
    table, ends = gathered(source(rows), shuffle)
    assert sorted(table["uri"].to_pylist(), key=int) == [str(i) for i in range(len(rows))]
    told = list(zip(*(table[name].to_pylist() for name in ("listing_id", "label", "view", "uri")), strict=True))
    runs = [told[low:high] for low, high in zip([0, *ends][: len(ends)], ends, strict=True)]
    assert list(chain.from_iterable(runs)) == told
    names = [(run[0][0] or f"alone {run[0][3]}", run[0][1]) for run in runs]
    assert len(set(names)) == len(names)
    for run in runs:
        assert len({row[:2] for row in run}) == 1
        places = [(view is None, view or 0, int(uri)) for _, _, view, uri in run]
        assert places == sorted(places)
    assert np.array_equal(sequence_ends(table["listing_id"], table["label"]), ends)


@given(ROWS)
def test_without_listings_rows_are_mixed_as_ever(rows):
    table, _ = gathered(source([(None, label, view) for _, label, view in rows]), shuffle=True)
    assert table["uri"].to_pylist() == [str(i) for i in np.random.default_rng(0).permutation(len(rows))]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 12))
def test_spans_follow_each_other_and_are_cut_at_ends_only(sizes, most):
    ends = np.cumsum(sizes, dtype=np.int64)
    spans = list(cuts(ends, most))
    assert [low for low, _ in spans] == [0, *(high for _, high in spans)][: len(spans)]
    assert {high for _, high in spans} <= set(ends.tolist())
    assert sum(high - low for low, high in spans) == sum(sizes)
    for low, high in spans:
        inside = [int(end) for end in ends if low < end <= high]
        assert high - low <= most or len(inside) == 1
        assert high == ends[-1] or min(int(end) for end in ends if end > high) - low > most


def test_spans_of_single_images_are_all_of_one_size():
    assert list(cuts(np.arange(1, 11), 4)) == [(0, 4), (4, 8), (8, 10)]


def test_a_long_listing_is_cut(monkeypatch):
    monkeypatch.setattr(listing_order, "LONGEST", 4)
    _, ends = gathered(source([("x", "a", i) for i in range(10)] + [("y", "a", None)]), shuffle=False)
    assert ends.tolist() == [4, 8, 10, 11]
    assert LONGEST == 256
