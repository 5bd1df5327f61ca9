"""Bulk runs that a service begins: each goes on in a detached actor of its own, whatever becomes of who began it.

Who asks later, from any process of the cluster, is told by the store's row of the run, and by whether its actor lives. A run
of the service has an input that ends in MARK: runs of `prodrec tag` into the same store are neither shown nor touched.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from prodrec.catalog import RunRecord, Store, open_store
from prodrec.catalog.export import decisions_csv
from prodrec.cluster.bulk import new_run, new_run_id, plan_tags
from prodrec.cluster.bulk_actor import MARK, PATIENCE_S, Order, begun, end, forget, look, of_ours, take_place
from prodrec.files import Folder
from prodrec.models.bundle_info import now_utc
from prodrec.serving.bulk import BulkSettings, BulkState, Progress, in_a_thread, state_of
from prodrec.shards.reading import MANIFEST


class Bundles(NamedTuple):
    """Folders of the bundles that a run tags with, one at least; every node must see them."""

    classifier: str | None
    tagger: str | None


class BulkRuns:
    """See `prodrec.serving.backend.BulkRuns`. Needs a process that is connected to Ray.

    Args:
        settings: what may be read, and where results go.
        bundles: tells those that are served now.
        policy: a YAML file that this process can read; None: the defaults.
    """

    def __init__(self, settings: BulkSettings, bundles: Callable[[], Awaitable[Bundles]], policy: str | None = None) -> None:
        self._settings, self._bundles, self._policy = settings, bundles, policy
        self._starting = asyncio.Lock()

    async def start(self, manifest: bytes | None, name: str, input_uri: str | None) -> BulkState:
        """Begins a run, or goes on with the one of the same input that did not finish; one that is going on is left to it.

        Args:
            manifest: CSV, TSV or Parquet; `name` of the file tells which. None: it lies at `input_uri`.

        Raises:
            Reject: `not_allowed`, or `too_large`.
            SourceError: the manifest cannot be read.
            Busy: as many runs as are allowed are going on.
            ProdrecError: what is wrong with the server's own files or its store; not for the caller.
        """
        if manifest is not None:
            kept, shown = self._settings.check_manifest(manifest, name), name or "the file"
        else:
            kept, shown = self._settings.check_input(input_uri or ""), "the input"
        async with self._starting:
            return await asyncio.to_thread(self._start, kept, shown, manifest, await self._bundles())

    async def state(self, run_id: str) -> BulkState | None:
        """How far it is, and what came of it; None: the service began no such run."""
        return await asyncio.to_thread(self._state, run_id)

    async def cancel(self, run_id: str) -> BulkState | None:
        """Ends it, if it goes on; what is written stays."""
        return await asyncio.to_thread(self._cancel, run_id)

    async def results(self, run_id: str) -> AsyncIterator[bytes] | None:
        """Its decisions so far, as CSV."""
        run = await asyncio.to_thread(self._row, run_id)
        return in_a_thread(decisions_csv(self._settings.store, run, self._settings.uploads)) if run else None

    def _start(self, kept: str, shown: str, manifest: bytes | None, bundles: Bundles) -> BulkState:
        with open_store(self._settings.store, PATIENCE_S) as store:
            with of_ours():
                order = self._order(store, kept, shown, manifest is not None, bundles)
            if (progress := look(order.run.run_id)) is not None:
                return state_of(order.run, progress)
            actor = take_place(order.run.run_id, store, self._settings.most_runs)
            try:
                if manifest is not None:
                    with of_ours():
                        Folder(self._settings.uploads).write(kept, manifest)
                images = begun(actor, order)
            except BaseException:
                end(order.run.run_id)
                forget(order.run, self._settings)
                raise
        return state_of(order.run, Progress(images=images))

    def _order(self, store: Store, kept: str, shown: str, sent: bool, bundles: Bundles) -> Order:
        place = Folder(self._settings.uploads).make() / kept if sent else kept
        prepared = not sent and Folder(place).exists(MANIFEST)
        fetch = self._settings.fetch.model_dump(exclude_unset=True)  # a run has its own defaults
        plan = plan_tags(new_run_id(), *bundles, self._policy, store.url, fetch, self._settings.gpu, prepared, whole=False)
        before = store.unfinished(kept + MARK, plan.bundle_id, plan.policy_id)
        run = before.model_copy(update={"status": "running", "finished": None, "detail": None}) if before else new_run(kept + MARK, plan)
        plan = plan.model_copy(update={"run_id": run.run_id, "within": self._settings.inputs})
        return Order(run=run, plan=plan, settings=self._settings, place=place, shown=shown)

    def _row(self, run_id: str) -> RunRecord | None:
        with open_store(self._settings.store, PATIENCE_S) as store:
            return _ours(store.run(run_id))

    def _state(self, run_id: str) -> BulkState | None:
        run = self._row(run_id)
        progress = look(run_id) if run and run.status == "running" else None
        if run and run.status == "running" and progress is None:  # it may have finished since its row was read
            run = self._row(run_id)
        return state_of(run, progress) if run else None

    def _cancel(self, run_id: str) -> BulkState | None:
        with open_store(self._settings.store, PATIENCE_S) as store:
            run = _ours(store.run(run_id))
            if run is not None and run.status == "running":
                progress = end(run_id)
                run = store.run(run_id) or run
                if run.status == "running":
                    run = run.model_copy(update={"status": "cancelled", "finished": now_utc(), "detail": _cancelled(progress)})
                    store.finish(run)
                    forget(run, self._settings)
        return state_of(run, None) if run else None


def _ours(run: RunRecord | None) -> RunRecord | None:
    return run if run and run.input.endswith(MARK) else None


def _cancelled(progress: Progress | None) -> str:
    so_far = f" after {progress.done:,} of {progress.images:,} images" if progress and progress.images is not None else ""
    return f"cancelled{so_far}; send the same manifest again to go on: what is written stays"
