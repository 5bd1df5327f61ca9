"""Listings to be tagged, prepared shards among them."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from prodrec.files import Folder, reading
from prodrec.shards.reading import MANIFEST, open_shards
from prodrec.sources.listings import Listings, gather, read_listings
from prodrec.sources.manifests import located


def open_listings(uri: str) -> Listings:
    """Lists what a folder, a manifest or prepared shards hold.

    Raises:
        SourceError: nothing there, nothing recognisable, or no image.
        ShardsError: shards that are not complete.
    """
    folder = Folder(uri)
    with reading(folder.uri):
        prepared = folder.is_folder() and folder.exists(MANIFEST)
    if prepared:
        return replace(gather(folder.uri, _shards(folder)), prepared=True)
    return read_listings(uri)


def _shards(folder: Folder) -> pa.Table:
    """Prepared images in their rows; what they were labelled is not declared by a seller."""
    shards, tables = open_shards(folder.uri), []
    for split, files in shards.manifest.splits.items():
        index = shards.split(split)
        listing_id = pc.coalesce(index.column("listing_id"), index.column("uri"))
        start = 0
        for file in files:
            ids = pa.table({"listing_id": listing_id.slice(start, file.rows)})
            tables.append(located(ids, pa.scalar(folder.within(file.name) if "://" not in folder.uri else folder / file.name), file.row_groups))
            start += file.rows
    return pa.concat_tables(tables)
