"""Listings to be tagged: a folder of images, or a CSV/TSV/Parquet manifest. No image is opened.

A manifest has a row an image: `uri` (or `bytes`, Parquet only), and optionally `listing_id`, `view` and what the seller declared
(`category`, `brand`, `price`). Rows with one listing_id are the images of one listing, ordered by view; without it each is a listing.
The table of listings is held in memory (some 200 bytes an image); the images never are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from prodrec.errors import SourceError, shown_url
from prodrec.files import Folder, reading
from prodrec.sources.columns import absolute_uris, clean, identifiers, text, whole_numbers
from prodrec.sources.layouts.tree import image_paths
from prodrec.sources.manifests import manifest_names, read_manifest
from prodrec.sources.tables import TABLE_SUFFIXES, notes_of, with_notes

DECLARED = ("category", "brand", "price")
_COLUMNS = ("listing_id", "view", *DECLARED)
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DECIMAL_COMMA = r"^[+-]?\d+,\d{1,2}$"
# What only a column with decimal commas holds, and what only one with decimal points does.
_COMMA_COLUMN = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+),\d{1,2}$"
_POINT_COLUMN = r"^[+-]?\d[\d,]*\.(\d{1,2}|\d{4,})$|^[+-]?\d{1,3}(,\d{3})+\."
_POINTED_THOUSANDS = r"^[+-]?\d{1,3}(\.\d{3})+(,\d{1,2})?$"
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"


@dataclass(frozen=True)
class Listings:
    """What is to be tagged.

    Attributes:
        uri: where it was read from.
        name: that tells it from other inputs: the URI, and the query and limit where there are any; without secrets.
        table: a row a listing, in the order of their first images: listing_id, category, brand (text), price (float64), and of
            its images, in order, the lists uri, row_group, row (see `prodrec.sources.schema.LISTING_SCHEMA`).
        prepared: whether the images are those of shards, shrunk already.
        images: number of images, and `duplicates` of rows that name an image of their listing once more.
        notes: what was guessed about the input, for people.
    """

    uri: str
    name: str
    table: pa.Table
    images: int
    duplicates: int
    prepared: bool = False
    notes: tuple[str, ...] = ()

    def limited(self, listings: int | None) -> "Listings":
        """The first so many listings; duplicates are not counted then."""
        if listings is None or listings >= len(self.table):
            return self
        table = self.table.slice(0, listings)
        return replace(self._of(table), name=f"{self.name} (the first {listings})")

    def sampled(self, step: int) -> "Listings":
        """Every so many-th listing."""
        table = self.table.take(pa.array(np.arange(0, len(self.table), step)))
        return self._of(table)

    def _of(self, table: pa.Table) -> "Listings":
        return replace(self, table=table, images=pc.sum(pc.list_value_length(table["uri"])).as_py(), duplicates=0)

    def slices(self, images: int) -> Iterator[pa.Table]:
        """Whole listings of about so many images together."""
        ends = np.cumsum(pc.list_value_length(self.table["uri"]).to_numpy())
        piece = ends // images
        edges = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(self.table)]
        for low, high in pairwise(edges):
            yield self.table.slice(low, high - low).combine_chunks()


def read_listings(uri: str) -> Listings:
    """Lists what a folder or a manifest holds.

    Raises:
        SourceError: nothing there, nothing recognisable, or no image.
    """
    folder = Folder(uri)
    with reading(folder.uri):
        kind = folder.filesystem.get_file_info(folder.path).type
        if kind == fs.FileType.NotFound:
            raise SourceError(f"{folder.uri} does not exist; give a folder of images, a manifest, prepared shards or a database URL with --query")
        table = _file(folder) if kind == fs.FileType.File else _folder(folder)
    return gather(folder.uri, table)


def gather(uri: str, images: pa.Table, query: str = "") -> Listings:
    """Joins the rows of each listing.

    Args:
        uri: of the input; query: that it was read with.
        images: a row an image, columns as told above; those that are not there are null.

    Raises:
        SourceError: no row, or a view that is no whole number.
    """
    if not len(images):
        raise SourceError(f"{shown_url(uri)} lists no images; there is nothing to tag")
    notes = notes_of(images)
    images = _completed(images, shown_url(uri))
    kept = _by_view(_firsts(images))
    columns = [(name, "first") for name in DECLARED] + [(name, "list") for name in ("uri", "row_group", "row")]
    grouped = kept.group_by("listing_id", use_threads=False).aggregate(columns)
    table = grouped.rename_columns(["listing_id", *(name for name, _ in columns)])
    return Listings(uri, " ".join([shown_url(uri), *query.split()]), table, len(kept), len(images) - len(kept), notes=notes)


def _firsts(images: pa.Table) -> pa.Table:
    """Without the rows that say again what one before them says."""
    numbered = images.append_column("position", pa.array(np.arange(len(images))))
    firsts = numbered.group_by(["listing_id", "uri", "row_group", "row"], use_threads=False).aggregate([("position", "min")])["position_min"]
    return images if len(firsts) == len(images) else images.take(pa.array(np.sort(firsts.to_numpy())))


def _by_view(images: pa.Table) -> pa.Table:
    """The images of each listing by view, those without one behind; listings in the order of their first rows."""
    if images["view"].null_count == len(images):
        return images
    listing, _ = pd.factorize(images["listing_id"].to_pandas())
    return images.take(pa.array(np.lexsort((images["view"].to_pandas().fillna(np.inf).to_numpy(np.float64), listing))))


def _completed(images: pa.Table, where: str) -> pa.Table:
    """All columns with their types; an image without a listing_id is a listing by its place."""
    columns = {name: text(images, name, where) for name in ("uri", *_COLUMNS)}
    columns |= {name: clean(columns[name]) for name in ("category", "brand")}
    places = {name: images[name] if name in images.column_names else pa.chunked_array([pa.nulls(len(images), pa.int32())]) for name in ("row_group", "row")}
    numbers = pc.binary_join_element_wise("row ", pc.cast(pa.array(np.arange(1, len(images) + 1)), pa.string()), "")
    inside = pc.binary_join_element_wise(columns["uri"], pc.cast(places["row_group"], pa.string()), pc.cast(places["row"], pa.string()), "#")
    listing_id = pc.coalesce(identifiers(columns["listing_id"], "listing_id", where), inside, columns["uri"], numbers)
    view = whole_numbers(columns["view"], "view", where)
    return pa.table({**columns, **places, "listing_id": listing_id, "view": view, "price": _prices(columns["price"])})


def _prices(written: pa.ChunkedArray) -> pa.ChunkedArray:
    """Prices as people write them: `1,299.00`, `12,50`, and `1.299,00`; where one is written so, the point of `1.299` stands for nothing."""
    if pc.any(pc.match_substring_regex(written, _COMMA_COLUMN)).as_py() and not pc.any(pc.match_substring_regex(written, _POINT_COLUMN)).as_py():
        written = pc.if_else(pc.match_substring_regex(written, _POINTED_THOUSANDS), pc.replace_substring(written, ".", ""), written)
    grouped = pc.match_substring_regex(written, _THOUSANDS)
    price = pc.if_else(grouped, pc.replace_substring(written, ",", ""), written)
    price = pc.if_else(pc.match_substring_regex(price, _DECIMAL_COMMA), pc.replace_substring(price, ",", "."), price)
    return pc.cast(pc.if_else(pc.match_substring_regex(price, _NUMBER), price, None), pa.float64())


def _file(file: Folder) -> pa.Table:
    if not file.path.lower().endswith(TABLE_SUFFIXES):
        raise SourceError(f"{file.uri} is no manifest: looked for a file ending in {', '.join(TABLE_SUFFIXES)}; or give a folder of images")
    head, mark, query = file.uri.partition("?") if "://" in file.uri else (file.uri, "", "")
    parent, _, name = head.rpartition("/")
    return read_manifest(Folder((parent or "/") + mark + query), name, _COLUMNS)


def _folder(folder: Folder) -> pa.Table:
    if names := manifest_names(folder, [info for info in folder.names() if not info.base_name.startswith((".", "_"))]):
        tables = [read_manifest(folder, name, _COLUMNS) for name in names]
        return with_notes(pa.concat_tables(tables), (note for table in tables for note in notes_of(table)))
    paths, _ = image_paths(folder)
    return pa.table({"uri": absolute_uris(folder, paths), "listing_id": paths})
