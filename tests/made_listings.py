"""Results of listings that tests write to a store, and what a store then holds. As a program it writes batches from a process of its own.

python made_listings.py URL [--portable] RUN_ID TAGS FIRST COUNT [FIRST COUNT ...]
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from sqlalchemy import create_engine, text

from prodrec.catalog import RunRecord, Store, open_store, rows_table
from prodrec.catalog.sql_store import SqlStore
from prodrec.catalog.tables import BATCH_TABLES, key_of

RUN = RunRecord(
    run_id="run-1",
    started="2026-11-20T01:00:00Z",
    run_date="2026-11-20",
    input="listings.parquet",
    bundle_id="bundle-1",
    policy_id="policy-1",
    policy='{"accept": 0.9}',
    code_version="0.1.0",
)


def sha(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def images_of(listing_id: str, version: str = "") -> list[str]:
    """Two images a listing; of another `version`, two others."""
    return [sha(f"{listing_id}/{version}/{n}") for n in range(2)]


def batch(listing_ids: Iterable[str], run: RunRecord = RUN, tags: int = 3, version: str = "", decision: str = "accept") -> dict[str, pa.Table]:
    """Two images with `tags` tags between them and one reject a listing."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in BATCH_TABLES}
    for listing_id in listing_ids:
        own = {"listing_id": listing_id, "bundle_id": run.bundle_id}
        scored = {"product": "mug", "product_group": "kitchen", "probability": 0.75, "run_id": run.run_id}
        content = {"content_sha256": sha(f"{listing_id}{version}"), "policy_id": run.policy_id}
        declared = {"category": "Küche ☕", "brand": None, "price": 9.5, "input_sha256": sha(listing_id)}
        rows["listings"].append(own | content | declared | {"run_id": run.run_id, "images_tagged": 2, "images_rejected": 1})
        for n, image in enumerate(images_of(listing_id, version)):
            place = {"image_sha256": image, "uri": f"s3://shop/{listing_id}/{version}{n}.jpg", "width": 640, "height": 480}
            extra = {"candidates": '["mug"]', "energy": -3.25, "quality": "{}", "phash": 2**64 - 1 - n}
            rows["predictions"].append(own | place | scored | extra)
        for n in range(tags):
            box = {"label": "cup", "score": 0.5, "x1": 1.0, "y1": 2.0, "x2": 30.5, "y2": 40.0}
            rows["tags"].append(own | {"image_sha256": images_of(listing_id, version)[n % 2], "tag_no": n // 2} | box)
        rows["decisions"].append(own | content | scored | {"decision": decision, "reasons": '["low"]'})
        reject = {"uri": f"s3://shop/{listing_id}/{version}broken.jpg", "code": "truncated", "detail": "cut short", "run_id": run.run_id}
        rows["rejects"].append(own | reject)
    return {name: rows_table(name, of_table) for name, of_table in rows.items()}


def listing_ids(first: int, count: int) -> list[str]:
    return [f"listing-{n:06d}" for n in range(first, first + count)]


def contents(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All rows of a store's tables, by key."""
    if "://" not in store.url:
        return {name: _parquet_rows(store.url, name) for name in BATCH_TABLES}
    engine = create_engine(store.url)
    with engine.connect() as connection:
        tables = {name: connection.execute(table.select()).mappings().all() for name, table in BATCH_TABLES.items()}
    engine.dispose()
    return {name: _sorted(name, [dict(row) for row in rows]) for name, rows in tables.items()}


def view(store: Store, name: str) -> list[dict[str, Any]]:
    """The rows of a view, sorted."""
    engine = create_engine(store.url)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
    engine.dispose()
    for row in rows:
        if isinstance(row.get("uris"), str):
            row["uris"] = json.loads(row["uris"])
    return sorted(rows, key=lambda row: (row["listing_id"], row.get("image_sha256", ""), row.get("tag_no", 0)))


def _parquet_rows(folder: str, name: str) -> list[dict[str, Any]]:
    # Files that begin with a dot are not data, for Arrow as for DuckDB and Spark.
    return _sorted(name, ds.dataset(f"{folder}/{name}", format="parquet").to_table().to_pylist())


def _sorted(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [row[column] for column in key_of(BATCH_TABLES[name])])


def main(url: str, *arguments: str) -> None:
    portable = "--portable" in arguments
    run_id, tags, *spans = [argument for argument in arguments if argument != "--portable"]
    with SqlStore(url, 60, portable=True) if portable else open_store(url, 60) as store:
        run = RUN.model_copy(update={"run_id": run_id})
        batches = [batch(listing_ids(int(first), int(count)), run, int(tags)) for first, count in zip(spans[::2], spans[1::2], strict=True)]
        print("ready", flush=True)
        sys.stdin.readline()
        for tables in batches:
            store.write(tables)
            print("written", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
