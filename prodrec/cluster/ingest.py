"""Ray Data under the training loop, for data.decode=stream: windows are read and decoded by tasks, in order, ahead of the worker.

Each worker streams the windows of its own lanes; what a window holds was decided by `prodrec.shards.order`, so the rows of
an epoch do not depend on how tasks are scheduled. Workers that decode beside themselves need none of it (`prodrec.shards.feed`): Ray
divides the CPUs that are left among the workers' executors by floor division. Source of the block size: benchmarks/ingest.py,
docs/log.md 2026-11-21.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import ray.data

from prodrec.cluster.session import quiet_data
from prodrec.shards.order import Window
from prodrec.shards.reading import SplitIndex

if TYPE_CHECKING:  # torch takes seconds to import, and the processes that only read have no use for it
    from prodrec.shards.stream import AnyTransform

# CPU share of a reading task. Reading is waiting; a whole CPU could not be had beside workers that hold them.
_READ_CPUS = 0.25
# Images of one decoding task, and the largest block it hands over: large blocks cost 1.7x the CPU. Source: design.md, facts measured.
_DECODE_ROWS, _BLOCK_BYTES = 64, 16 * 2**20


def stream_tables(split: SplitIndex, windows: list[Window], transform: "AnyTransform") -> Iterator[pa.Table]:
    """The rows of the windows in their order, read and decoded by tasks."""
    if not windows:
        return
    from prodrec.shards.stream import decode_pixels

    quiet_data()
    plan = ray.data.from_arrow([_as_table(window) for window in windows])
    dataset = plan.map_batches(partial(_read, split), batch_size=None, batch_format="pyarrow", num_cpus=_READ_CPUS)
    dataset = dataset.map_batches(decode_pixels, fn_kwargs={"transform": transform}, batch_size=_DECODE_ROWS, batch_format="pyarrow", num_cpus=1)
    dataset.context.target_max_block_size = _BLOCK_BYTES
    dataset.context.execution_options.preserve_order = True
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _as_table(window: Window) -> pa.Table:
    columns = {"lane": pa.array([window.lane]), "rows": pa.array([window.rows]), "occurrence": pa.array([window.occurrence])}
    return pa.table(columns)


def _read(split: SplitIndex, plan: pa.Table) -> pa.Table:
    tables = []
    for row in range(plan.num_rows):
        rows, occurrence = (plan[name][row].values.to_numpy(zero_copy_only=False) for name in ("rows", "occurrence"))
        tables.append(split.read(Window(plan["lane"][row].as_py(), rows, occurrence)))
    return pa.concat_tables(tables)
