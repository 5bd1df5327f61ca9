"""Listings out of a database, as tables have them."""

import sqlite3
from decimal import Decimal

import pytest

from prodrec.catalog.query import _text, read_query
from prodrec.errors import SourceError
from prodrec.sources.listings import gather
from prodrec.sources.tables import notes_of


@pytest.fixture
def url(tmp_path) -> str:
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE photos (image_url TEXT, ean REAL, brand TEXT, price REAL, data BLOB)")
        rows = [("https://shop.example/1.jpg ", 4006381333931.0, "Cafe\u0301 ", 12.5, b"\xff"), ("https://shop.example/2.jpg", None, None, None, None)]
        shop.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, ?)", rows)
    return f"sqlite:///{tmp_path}/shop.db"


def test_a_query_gives_what_a_table_of_it_would(url):
    table = read_query(url, "SELECT image_url, ean AS listing_id, brand, price FROM photos")
    assert notes_of(table) == ("column 'image_url' read as uri",)
    first, second = gather(url, table).table.to_pylist()
    assert (first["listing_id"], first["brand"], first["price"], first["uri"]) == ("4006381333931", "Café", 12.5, ["https://shop.example/1.jpg"])
    assert second["listing_id"] == "https://shop.example/2.jpg"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT ean FROM photos", "the query gives ean; it must give uri"),
        ("SELECT image_url, data AS listing_id FROM photos", "the query gives bytes that are no text"),
        ("SELECT image_url, image_url AS path FROM photos", "the columns image_url and path could both be the uri"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(url, query, said):
    with pytest.raises(SourceError) as raised:
        read_query(url, query)
    assert said in str(raised.value)


def test_ids_that_lost_digits_in_the_database(url):
    with pytest.raises(SourceError, match=r"listing_id '1\.8014\d+E\+16' is a long number that has lost digits"):
        gather(url, read_query(url, "SELECT image_url, 18014398509481984.0 AS listing_id FROM photos"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        (0.5, "0.5"),
        (float("nan"), None),
        (Decimal("12.00"), "12"),
        (Decimal("12.50"), "12.50"),
        (Decimal("NaN"), None),
        (b"a", "a"),
        (None, None),
    ],
)
def test_values_as_tables_have_them(value, text):
    assert _text(value) == text
