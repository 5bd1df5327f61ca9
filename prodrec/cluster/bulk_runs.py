"""Bulk runs that a service begins: each goes on in a detached actor of its own, whatever becomes of who began it.

Who asks later, from any process of the cluster, is told by the store's row of the run, and by whether its actor lives. A run
of the service has an input that ends in MARK: runs of `prodrec tag` into the same store are neither shown nor touched.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from prodrec.cluster.bulk import Workers, new_run, new_run_id, plan_tags, tag  # first: sets what ray reads on import

# isort: split
import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import list_named_actors

from prodrec.catalog import RunRecord, Store, open_store, shown_url
from prodrec.cluster.fetching import TagPlan
from prodrec.config import Frozen
from prodrec.data.files import Folder
from prodrec.data.listings import Listings, open_listings
from prodrec.data.shards import MANIFEST
from prodrec.errors import ProdrecError, SourceError, UserError
from prodrec.models.bundle_info import now_utc
from prodrec.serving.backend import Busy
from prodrec.serving.bulk import SENT, BulkSettings, BulkState, Progress, decisions_csv, in_a_thread, state_of

log = logging.getLogger(__name__)

NAMESPACE = "prodrec-bulk"
MARK = " (POST /v1/bulk)"
# For a word of a run's process, which answers beside its work. Source: assumed.
_LOOK_TIMEOUT_S = 5.0
# A caller waits: a database that is away is told of at once. Source: assumed; a lock of SQLite's is over by then.
_PATIENCE_S = 5.0
# Between two looks at a process that is being killed, seconds. Source: assumed.
_POLL_S = 0.02


class Order(Frozen):
    """What a run's process is told. `place`: where the manifest lies; `shown`: its name for the caller."""

    run: RunRecord
    plan: TagPlan
    settings: BulkSettings
    place: str
    shown: str


class BulkRuns:
    """See `prodrec.serving.backend.BulkRuns`. Needs a process that is connected to Ray.

    Args:
        settings: what may be read, and where results go.
        classifier, tagger: folders of bundles, one at least; every node must see them.
        policy: a YAML file that this process can read; None: the defaults.
    """

    def __init__(self, settings: BulkSettings, classifier: str | None, tagger: str | None, policy: str | None = None) -> None:
        self._settings, self._bundles = settings, (classifier, tagger, policy)
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
            return await asyncio.to_thread(self._start, kept, shown, manifest)

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

    def _start(self, kept: str, shown: str, manifest: bytes | None) -> BulkState:
        with open_store(self._settings.store, _PATIENCE_S) as store:
            with _of_ours():
                order = self._order(store, kept, shown, manifest is not None)
            if (progress := _look(order.run.run_id)) is not None:
                return state_of(order.run, progress)
            actor = _take_place(order.run.run_id, store, self._settings.most_runs)
            try:
                if manifest is not None:
                    with _of_ours():
                        Folder(self._settings.uploads).write(kept, manifest)
                images = _begun(actor, order)
            except BaseException:
                _end(order.run.run_id)
                _forget(order.run, self._settings)
                raise
            actor.work.remote()
        return state_of(order.run, Progress(images=images))

    def _order(self, store: Store, kept: str, shown: str, sent: bool) -> Order:
        classifier, tagger, policy = self._bundles
        place = Folder(self._settings.uploads).make() / kept if sent else kept
        prepared = not sent and Folder(place).exists(MANIFEST)
        fetch = self._settings.fetch.model_dump()
        plan = plan_tags(new_run_id(), classifier, tagger, policy, store.url, fetch, self._settings.gpu, prepared, whole=False)
        before = store.unfinished(kept + MARK, plan.bundle_id, plan.policy_id)
        run = before.model_copy(update={"status": "running", "finished": None, "detail": None}) if before else new_run(kept + MARK, plan)
        plan = plan.model_copy(update={"run_id": run.run_id, "within": self._settings.inputs})
        return Order(run=run, plan=plan, settings=self._settings, place=place, shown=shown)

    def _row(self, run_id: str) -> RunRecord | None:
        with open_store(self._settings.store, _PATIENCE_S) as store:
            return _ours(store.run(run_id))

    def _state(self, run_id: str) -> BulkState | None:
        run = self._row(run_id)
        progress = _look(run_id) if run and run.status == "running" else None
        if run and run.status == "running" and progress is None:  # it may have finished since its row was read
            run = self._row(run_id)
        return state_of(run, progress) if run else None

    def _cancel(self, run_id: str) -> BulkState | None:
        with open_store(self._settings.store, _PATIENCE_S) as store:
            run = _ours(store.run(run_id))
            if run is not None and run.status == "running":
                progress = _end(run_id)
                run = store.run(run_id) or run
                if run.status == "running":
                    run = run.model_copy(update={"status": "cancelled", "finished": now_utc(), "detail": _cancelled(progress)})
                    store.finish(run)
                    _forget(run, self._settings)
        return state_of(run, None) if run else None


class Run:
    """One run's process. It answers `look` while it is at work."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.order: Order | None = None
        self.listings: Listings | None = None

    def begin(self, order: Order) -> int:
        """Reads the manifest, writes the run's row, and tells the number of images.

        Raises:
            SourceError: the manifest cannot be read.
            ProdrecError: the store cannot be used.
        """
        try:
            listings = open_listings(order.place)
        except UserError as error:
            raise SourceError(_told(error, order)) from None
        self.order, self.listings = order, replace(listings, name=order.run.input)
        self.progress = Progress(listings.duplicates, listings.images + listings.duplicates)
        with _of_ours(), open_store(order.settings.store, _PATIENCE_S) as store:
            store.start(order.run)
        return listings.images + listings.duplicates

    def look(self) -> Progress:
        return self.progress

    def work(self) -> None:
        """Tags all, writes what came of it, and ends the process, come what may: a process that stays would mean that it goes on."""
        assert self.order and self.listings
        try:
            self._work(self.order, self.listings)
        except Exception:  # the store is away: who asks finds no process, and says that the run was lost
            log.exception("bulk run %s was lost", self.order.run.run_id)
        finally:
            ray.actor.exit_actor()

    def _work(self, order: Order, listings: Listings) -> None:
        least, most = order.settings.workers or (None, None)
        with open_store(order.settings.store) as store:
            try:
                tag(listings, store, order.plan, Workers(least, most), True, self._note)
            except Exception as error:  # whatever it was, the row must say that it is over
                log.exception("bulk run %s failed", order.run.run_id)
                failed = {"status": "failed", "finished": now_utc(), "detail": _told(error, order)}
                store.finish(order.run.model_copy(update=failed))
            finally:
                _forget(order.run, order.settings)

    def _note(self, done: int, total: int, rate: float) -> None:
        assert self.listings
        self.progress = Progress(done + self.listings.duplicates, total + self.listings.duplicates, rate)


@contextmanager
def _of_ours() -> Iterator[None]:
    """What is wrong with bundles, uploads and store is not the caller's to mend, nor to see."""
    try:
        yield
    except UserError as error:
        raise ProdrecError(shown_url(str(error))) from error


def _take_place(run_id: str, store: Store, most: int) -> Any:
    """The actor of a new run. It is counted after it is made: of two that are made at once for one place, none or one stays.

    Raises:
        Busy: there is no place.
    """
    if len(_going_on(store)) >= most:
        raise Busy
    options = {"name": f"bulk-{run_id}", "namespace": NAMESPACE, "lifetime": "detached"}
    try:
        actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=2)(Run).options(**options).remote()
    except ValueError as error:  # another process has just begun this very run
        raise Busy from error
    if len(_going_on(store) | {run_id}) > most:
        _end(run_id)
        raise Busy
    return actor


def _alive() -> set[str]:
    """Runs that have a process."""
    return {actor["name"].removeprefix("bulk-") for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE}


def _going_on(store: Store) -> set[str]:
    """Of them, those whose process is not just ending."""
    rows = {run_id: store.run(run_id) for run_id in _alive()}
    return {run_id for run_id, row in rows.items() if row is None or row.status != "finished"}


def _begun(actor: Any, order: Order) -> int:
    """Images of the manifest. It is read in the run's process: a hostile one costs that only."""
    try:
        return int(actor.begin.remote(order).future().result())
    except RayTaskError as error:
        if isinstance(error.cause, SourceError):
            raise SourceError(str(error.cause)) from None
        raise ProdrecError(shown_url(str(error.cause))) from error
    except RayActorError as error:
        raise SourceError(f"{order.shown} ended the process that read it; send a smaller or a sound one") from error


def _look(run_id: str) -> Progress | None:
    """How far a run is; None: it has no process."""
    try:
        progress: Progress = ray.get_actor(f"bulk-{run_id}", NAMESPACE).look.remote().future().result(_LOOK_TIMEOUT_S)
    except (ValueError, RayActorError):
        return None
    except TimeoutError:
        return Progress()
    return progress


def _end(run_id: str) -> Progress | None:
    """Kills a run's process, and with it all that it began; returns once it is gone."""
    progress = _look(run_id)
    with suppress(ValueError):
        ray.kill(ray.get_actor(f"bulk-{run_id}", NAMESPACE))
    while _look(run_id) is not None:
        time.sleep(_POLL_S)
    return progress


def _forget(run: RunRecord, settings: BulkSettings) -> None:
    """Removes the manifest that was sent; not while another run goes on, which may be of the same one."""
    kept = run.input.removesuffix(MARK)
    if SENT.fullmatch(kept) and not _alive() - {run.run_id}:
        Folder(settings.uploads).delete(kept)


def _ours(run: RunRecord | None) -> RunRecord | None:
    return run if run and run.input.endswith(MARK) else None


def _cancelled(progress: Progress | None) -> str:
    so_far = f" after {progress.done:,} of {progress.images:,} images" if progress and progress.images is not None else ""
    return f"cancelled{so_far}; send the same manifest again to go on: what is written stays"


def _told(error: Exception, order: Order) -> str:
    """One line for the caller: without secrets, and without paths of the server's."""
    if not isinstance(error, ProdrecError):
        return f"a fault of the server ({type(error).__name__}): its log has it under {order.run.run_id}; send the same manifest again: what is written stays"
    names = {order.place: order.shown, order.plan.store_url: "the store", order.plan.classifier: "the classifier", order.plan.tagger: "the tagger"}
    text = " ".join(str(error).split())
    for place, name in names.items():
        for written in (place, shown_url(place)) if place else ():
            text = text.replace(written, name)
    return shown_url(text)
