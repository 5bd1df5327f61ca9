"""Looking at a source on Ray Data, slice by slice, as `prepare` does; the facts of all images come together here."""

from functools import partial

from prodrec.cluster.session import ray_session  # first: sets what ray reads on import

# isort: split
import numpy as np
import pyarrow as pa
import ray.data

from prodrec.shards.facts import Facts, facts_of
from prodrec.shards.inspecting import SLICE_ROWS, OnProgress, look_at_slice, titles_of
from prodrec.shards.preparing import PrepareOptions
from prodrec.sources.source import Source


def look_on_cluster(source: Source, options: PrepareOptions, on_progress: OnProgress) -> Facts:
    """As `prodrec.shards.inspecting.look_at`, on the cluster of this job."""
    numbered = source.listing.append_column("position", pa.array(np.arange(len(source.listing))))
    pieces = [numbered.slice(start, SLICE_ROWS).combine_chunks() for start in range(0, len(numbered), SLICE_ROWS)]
    tables, done, rejected = [], 0, 0
    with ray_session():
        looked = ray.data.from_arrow(pieces).map_batches(partial(_look, options=options), batch_size=None, batch_format="pyarrow")
        for table in looked.iter_batches(batch_size=None, batch_format="pyarrow"):
            tables.append(table)
            done, rejected = done + len(table), rejected + len(table) - table["code"].null_count
            on_progress(done, rejected, len(numbered))
    return facts_of(pa.concat_tables(tables).sort_by("position").drop_columns(["position"]), titles_of(source))


def _look(listing: pa.Table, options: PrepareOptions) -> pa.Table:
    return look_at_slice(listing.drop_columns(["position"]), options).append_column("position", listing["position"])
