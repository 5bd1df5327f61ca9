"""The state of each listing of a store that has no database to ask: the rows of its latest run, in memory."""

from bisect import bisect_left
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prodrec.catalog.records import Known


class LatestListings:
    """The state of each listing by its latest run. About 180 bytes a listing: sorted by id, so that no index is needed.

    Args:
        listings: listing_id and the fields of `Known` but `decision`; several rows a listing, one a run.
        decisions: listing_id, run_id, decision.
        ranks: of each run, by its start; higher is later. Runs that are not in it come first.
    """

    def __init__(self, listings: pa.Table, decisions: pa.Table, ranks: Mapping[str, int]) -> None:
        latest = _latest_of_each(listings, ranks)
        joined = latest.join(decisions, ["listing_id", "run_id"], join_type="left outer").sort_by("listing_id")
        for name in ("bundle_id", "policy_id", "run_id", "decision"):
            joined = joined.set_column(joined.column_names.index(name), name, joined[name].dictionary_encode())
        self._rows = joined.combine_chunks()
        self._columns = {name: _one_chunk(self._rows[name]) for name in ("listing_id", *Known._fields)}

    @property
    def size_bytes(self) -> int:
        return int(self._rows.nbytes)

    def find(self, listing_id: str) -> Known | None:
        ids = self._columns["listing_id"]
        at = bisect_left(range(len(ids)), listing_id, key=lambda row: ids[row].as_py())
        if at == len(ids) or ids[at].as_py() != listing_id:
            return None
        *fields, decision = (self._columns[name][at].as_py() for name in Known._fields)
        return Known._make([*fields, decision or ""])


def _latest_of_each(listings: pa.Table, ranks: Mapping[str, int]) -> pa.Table:
    runs = listings["run_id"].unique()
    rank_of_run = pa.array([ranks.get(run_id, -1) for run_id in runs.to_pylist()], pa.int32())
    rank = rank_of_run.take(_one_chunk(pc.index_in(listings["run_id"], runs)))
    ordered = listings.append_column("rank", rank).sort_by([("listing_id", "ascending"), ("rank", "descending"), ("run_id", "descending")])
    ids = ordered["listing_id"]
    first = np.ones(len(ids), bool)
    first[1:] = pc.not_equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1))).to_numpy()
    return ordered.filter(pa.array(first[: len(ids)])).drop_columns(["rank"])


def _one_chunk(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    return values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
