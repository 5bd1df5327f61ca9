import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import photo, write_image_folder

from prodrec.errors import SourceError
from prodrec.shards.listings import open_listings
from prodrec.sources.image_bytes import read_images
from prodrec.sources.listings import gather


def places(listings) -> list[tuple]:
    """(listing_id, uri, row_group, row) of all images, in order."""
    rows = listings.table.to_pylist()
    return [(row["listing_id"], *place) for row in rows for place in zip(row["uri"], row["row_group"], row["row"], strict=True)]


def read(listings) -> list[bytes]:
    flat = pa.table({name: listings.table[name].combine_chunks().flatten() for name in ("uri", "row_group", "row")})
    return list(read_images(flat, 10**6))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["1", "2", "3", None])), min_size=1, max_size=30), st.integers(1, 9))
def test_every_image_stands_once_in_its_listing_and_listings_are_never_cut(rows, size):
    ids, uris = zip(*rows, strict=True)
    listings = gather("x", pa.table({"listing_id": pa.array(ids, pa.string()), "uri": pa.array(uris, pa.string())}))
    named = [(listing or uri or f"row {number}", uri) for number, (listing, uri) in enumerate(rows, 1)]
    firsts = list(dict.fromkeys(named))
    assert listings.images == len(firsts)
    assert listings.duplicates == len(rows) - len(firsts)
    order = list(dict.fromkeys(listing for listing, _ in firsts))
    assert [(listing, uri) for listing, uri, _, _ in places(listings)] == sorted(firsts, key=lambda item: order.index(item[0]))
    slices = list(listings.slices(size))
    assert [listing for piece in slices for listing in piece["listing_id"].to_pylist()] == order
    assert all(sum(map(len, piece["uri"].to_pylist()[:-1])) < 2 * size for piece in slices)
    assert listings.limited(2).table["listing_id"].to_pylist() == order[:2]


def test_what_the_seller_declared_is_taken_where_it_is_said_first():
    rows = [("a", "1", None, "3.50", "Acme"), ("b", "2", "lamp", "free", None), ("a", "3", "mug", "4", "Other")]
    table = pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], ["listing_id", "uri", "category", "price", "brand"])
    first, second = gather("x", table).table.to_pylist()
    assert (first["category"], first["price"], first["brand"], first["uri"]) == ("mug", 3.5, "Acme", ["1", "3"])
    assert (second["category"], second["price"]) == ("lamp", None)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("1,299.00", 1299.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("7.", 7.0),
        ("-2", -2.0),
        ("1,29", 1.29),
        ("1,2345", None),
        ("3 EUR", None),
        ("1 299,00", 1299.0),
        ("1'299.50", 1299.5),
        ("1\u202f299", 1299.0),
        ("1 29", None),
    ],
)
def test_prices_as_people_write_them(text, price):
    [row] = gather("x", pa.table({"uri": ["1"], "price": [text]})).table.to_pylist()
    assert row["price"] == price


def test_prices_that_are_no_numbers_are_told():
    listings = gather("x", pa.table({"uri": ["1", "2", "3", "4"], "price": ["3 EUR", "3.50", None, "about 7"]}))
    assert listings.notes == ("2 prices are no numbers, such as '3 EUR', and left out",)


@pytest.mark.parametrize(
    ("column", "prices"),
    [
        (["1.299,00", "12,5", "1.299", "7"], [1299.0, 12.5, 1299.0, 7.0]),
        (["1.299", "12.50"], [1.299, 12.5]),
        (["1.299", "7"], [1.299, 7.0]),
        (["1,299.00", "12,50"], [1299.0, 12.5]),
        (["1.234.567,89", None, "free"], [1234567.89, None, None]),
    ],
)
def test_decimal_commas_are_told_by_their_column(column, prices):
    table = pa.table({"uri": [str(number) for number in range(len(column))], "price": pa.array(column, pa.string())})
    assert gather("x", table).table["price"].to_pylist() == prices


def test_inputs_are_told_apart_by_query_and_limit_without_their_secrets():
    table = pa.table({"uri": ["1", "2"]})
    names = {gather("postgresql://a:geheim@db/x", table, query).name for query in ("SELECT 1", "SELECT  2", "SELECT 2")}
    assert len(names) == 2
    assert not any("geheim" in name for name in names)
    assert gather("x", table).limited(1).name != gather("x", table).name


def test_folders_manifests_and_shards(tmp_path, small_shards):
    folder = write_image_folder(tmp_path / "photos", {"red": 2, "green": 1})
    found = open_listings(str(folder))
    assert [listing for listing, *_ in places(found)] == ["green/000.jpg", "red/000.jpg", "red/001.jpg"]
    assert read(found) == [photo(1, 0), photo(0, 0), photo(0, 1)]
    assert not found.prepared

    (folder / "manifest.csv").write_text("uri,listing_id,category\nred/000.jpg,7,mug\ngreen/000.jpg,8,\nred/001.jpg,7,mug\n")
    found = open_listings(str(folder))
    assert found.table["listing_id"].to_pylist() == ["7", "8"]
    assert read(found) == [photo(0, 0), photo(0, 1), photo(1, 0)]
    assert open_listings(str(folder / "manifest.csv")).table == found.table

    pq.write_table(pa.table({"bytes": [photo(0, 0), photo(1, 0), None], "listing_id": [3, 4, 5]}), tmp_path / "m.parquet", row_group_size=2)
    found = open_listings(str(tmp_path / "m.parquet"))
    assert found.table["listing_id"].to_pylist() == ["3", "4", "5"]
    good, other, missing = read(found)
    assert (good, other, missing.code) == (photo(0, 0), photo(1, 0), "missing")

    found = open_listings(small_shards)
    assert found.prepared
    assert found.images == 120
    assert sorted(read(found)) == sorted(photo(label, number) for label, count in enumerate((40, 36, 24, 20)) for number in range(count))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("gone.csv", None, "does not exist"),
        ("a.txt", "x", "is no manifest"),
        ("a.csv", "listing_id\n1\n", "has no column uri"),
        ("a.csv", "uri\n", "lists no images"),
        ("a.parquet", "x", "cannot read"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError) as caught:
        open_listings(str(tmp_path / name))
    assert told in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_images_of_a_listing_are_ordered_by_view_and_listings_by_their_first_rows():
    rows = [("b", "1", "2"), ("a", "2", None), ("b", "3", "0"), ("a", "4", "1"), ("a", "5", "1"), (None, "6", None)]
    columns = zip(*rows, strict=True)
    table = pa.table([pa.array(values, pa.string()) for values in columns], ["listing_id", "uri", "view"])
    assert [(listing, uri) for listing, uri, _, _ in places(gather("x", table))] == [("b", "3"), ("b", "1"), ("a", "4"), ("a", "5"), ("a", "2"), ("6", "6")]
    with pytest.raises(SourceError, match="view 'side' is no whole number"):
        gather("x", table.set_column(2, "view", pa.array(["side"] * 6)))


def test_an_empty_query_tells_no_password():
    with pytest.raises(SourceError, match="lists no images") as raised:
        gather("postgresql://shop:geheim@db/shop", pa.table({"uri": pa.array([], pa.string())}), "SELECT 1")
    assert "geheim" not in str(raised.value)


def test_a_place_that_cannot_be_reached_is_one_clear_line():
    with pytest.raises(SourceError, match="cannot read s3://") as raised:
        open_listings("s3://KEY:SECRET@no-such-bucket/x?region=nowhere&endpoint_override=127.0.0.1:9")
    assert "\n" not in str(raised.value)


def test_columns_that_are_not_used_are_told(tmp_path):
    (tmp_path / "m.csv").write_text("SKU;Image;Price\nA1;1.jpg;1,99\n")
    assert "columns not used: SKU" in open_listings(str(tmp_path / "m.csv")).notes
