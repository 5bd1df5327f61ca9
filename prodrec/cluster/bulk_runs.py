"""Bulk runs that a service begins: each goes on in a detached actor of its own, whatever becomes of who began it.

Who asks later, from any process of the cluster, is told by the store's row of the run, and by whether its actor lives. A run
of the service has an input that ends in MARK: runs of `prodrec tag` into the same store are neither shown nor touched.
"""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from prodrec.cluster.session import ray_session

# isort: split
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util import list_named_actors

from prodrec.catalog import RunRecord, Store, open_store, shown_url
from prodrec.cluster.bulk import Workers, new_run, new_run_id, plan_tags, tag
from prodrec.cluster.fetching import TagPlan
from prodrec.config import Frozen
from prodrec.data.files import Folder
from prodrec.data.image_bytes import lies_below
from prodrec.data.listings import Listings, open_listings
from prodrec.data.manifests import MANIFEST_SUFFIXES
from prodrec.data.shards import MANIFEST
from prodrec.errors import ProdrecError, Reject, RejectCode, SourceError, UserError
from prodrec.models.bundle_info import now_utc
from prodrec.serving.backend import Busy
from prodrec.serving.bulk import BulkSettings, BulkState, Progress, decisions_csv, in_a_thread, state_of

log = logging.getLogger(__name__)

NAMESPACE = "prodrec-bulk"
MARK = " (POST /v1/bulk)"
# For a word of a run's process, which answers beside its work. Source: assumed.
_LOOK_TIMEOUT_S = 5.0
# A caller waits: a database that is away is told of at once. Source: assumed; a lock of SQLite's is over by then.
_PATIENCE_S = 5.0
_PARQUET_MAGIC = b"PAR1"
# Between two looks at a process that is being killed, seconds. Source: assumed.
_POLL_S = 0.02


class Order(Frozen):
    """What a run's process is told.

    Attributes:
        place: where the manifest lies; shown: its name for the caller; name: of the input in the store.
        upload: whether it was sent, and goes with the run.
    """

    run: RunRecord
    plan: TagPlan
    settings: BulkSettings
    place: str
    shown: str
    upload: bool


class BulkRuns:
    """See `prodrec.serving.backend.BulkRuns`. Needs a process that is connected to Ray.

    Args:
        settings: what may be read, and where results go.
        classifier, tagger: folders of bundles, one at least; every node must see them.
        policy: a YAML file that this process can read; None: the defaults.
    """

    def __init__(self, settings: BulkSettings, classifier: str | None, tagger: str | None, policy: str | None = None) -> None:
        self._settings, self._bundles = settings, (classifier, tagger, policy)
        self._one_at_a_time = threading.Lock()

    async def start(self, manifest: bytes | None, name: str, input_uri: str | None) -> BulkState:
        """Begins a run, or goes on with the one of the same input that did not finish; one that goes on is left to.

        Args:
            manifest: CSV, TSV or Parquet; `name` of the file tells which. None: it lies at `input_uri`.

        Raises:
            Reject: `not_allowed`, or `too_large`.
            SourceError: the manifest cannot be read.
            Busy: as many runs as are allowed are going on.
            ProdrecError: what is wrong with the server's own files or its store; not for the caller.
        """
        return await asyncio.to_thread(self._start, manifest, name, input_uri)

    async def state(self, run_id: str) -> BulkState | None:
        """How far it is, and what came of it; None: the service began no such run."""
        return await asyncio.to_thread(self._state, run_id)

    async def cancel(self, run_id: str) -> BulkState | None:
        """Ends it, if it goes on; what is written stays."""
        return await asyncio.to_thread(self._cancel, run_id)

    async def results(self, run_id: str) -> AsyncIterator[bytes] | None:
        """Its decisions so far, as CSV."""
        run = await asyncio.to_thread(self._row, run_id)
        if run is None:
            return None
        return in_a_thread(decisions_csv(self._settings.store, run, Folder(self._settings.uploads).uri))

    def _start(self, manifest: bytes | None, name: str, input_uri: str | None) -> BulkState:
        settings = self._settings
        kept = _checked_upload(manifest, name, settings.max_manifest_bytes) if manifest is not None else _checked_input(input_uri or "", settings)
        with self._one_at_a_time, open_store(settings.store, _PATIENCE_S) as store:
            with _of_ours():
                place = Folder(settings.uploads).make() / kept if manifest is not None else kept
                order = self._order(store, kept, place, name if manifest is not None else "the input", manifest is not None)
            if (progress := _look(order.run.run_id)) is not None:
                return state_of(order.run, progress)
            actor = _take_place(order.run.run_id, store, settings.most_runs)
            try:
                if manifest is not None:
                    with _of_ours():
                        Folder(settings.uploads).write(kept, manifest)
                images = _begun(actor, order)
            except BaseException:
                _end(order.run.run_id)
                _forget(order)
                raise
            actor.work.remote()
        return state_of(order.run, Progress(images=images))

    def _order(self, store: Store, kept: str, place: str, shown: str, upload: bool) -> Order:
        classifier, tagger, policy = self._bundles
        prepared = not upload and Folder(place).exists(MANIFEST)
        fetch = self._settings.fetch.model_dump()
        plan = plan_tags(new_run_id(), classifier, tagger, policy, store.url, fetch, self._settings.gpu, prepared, whole=False)
        before = store.unfinished(kept + MARK, plan.bundle_id, plan.policy_id)
        run = before.model_copy(update={"status": "running", "finished": None, "detail": None}) if before else new_run(kept + MARK, plan)
        plan = plan.model_copy(update={"run_id": run.run_id, "within": self._settings.inputs})
        return Order(run=run, plan=plan, settings=self._settings, place=place, shown=shown, upload=upload)

    def _row(self, run_id: str) -> RunRecord | None:
        with open_store(self._settings.store, _PATIENCE_S) as store:
            return _ours(store.run(run_id))

    def _state(self, run_id: str) -> BulkState | None:
        run = self._row(run_id)
        if run is None or run.status != "running":
            return run and state_of(run, None)
        if (progress := _look(run_id)) is not None:
            return state_of(run, progress)
        # It may have finished since it was asked for.
        run = self._row(run_id)
        return run and state_of(run, None)

    def _cancel(self, run_id: str) -> BulkState | None:
        with open_store(self._settings.store, _PATIENCE_S) as store:
            run = _ours(store.run(run_id))
            if run is not None and run.status == "running":
                progress = _end(run_id)
                run = store.run(run_id) or run
                if run.status == "running":
                    run = run.model_copy(update={"status": "cancelled", "finished": now_utc(), "detail": _cancelled(progress)})
                    store.finish(run)
        return run and state_of(run, None)


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
        """
        try:
            listings = open_listings(order.place)
        except UserError as error:
            raise SourceError(_told(error, order)) from None
        self.order, self.listings = order, replace(listings, name=order.run.input)
        self.progress = Progress(listings.duplicates, listings.images + listings.duplicates)
        with open_store(order.plan.store_url or "", _PATIENCE_S) as store:
            store.start(order.run)
        return listings.images + listings.duplicates

    def look(self) -> Progress:
        return self.progress

    def work(self) -> None:
        """Tags all, writes what came of it, and ends the process."""
        order, listings = self.order, self.listings
        assert order and listings
        least, most = order.settings.workers or (None, None)
        with ray_session(), open_store(order.settings.store) as store:
            try:
                tag(listings, store, order.plan, Workers(least, most), True, self._note)
            except Exception as error:  # whatever it was, the row must say that it is over
                log.exception("bulk run %s failed", order.run.run_id)
                failed = {"status": "failed", "finished": now_utc(), "detail": _told(error, order)}
                store.finish(order.run.model_copy(update=failed))
            finally:
                _forget(order)
        ray.actor.exit_actor()

    def _note(self, done: int, total: int, rate: float) -> None:
        assert self.listings
        self.progress = Progress(done + self.listings.duplicates, total + self.listings.duplicates, rate)


def _checked_upload(manifest: bytes, name: str, max_bytes: int) -> str:
    """The name that a manifest is kept by: by its content, so that the same one sent again goes on with its run."""
    if len(manifest) > max_bytes:
        raise Reject(RejectCode.TOO_LARGE, f"a manifest of {len(manifest):,} bytes; at most {max_bytes:,} are read")
    suffixes = [suffix for suffix in MANIFEST_SUFFIXES if name.lower().endswith(suffix)] or [".parquet"] * manifest.startswith(_PARQUET_MAGIC)
    if not suffixes:
        raise SourceError(f"{name or 'the file'} is no manifest: its name must end in {', '.join(MANIFEST_SUFFIXES)}")
    return hashlib.sha256(manifest).hexdigest() + suffixes[0]


def _checked_input(uri: str, settings: BulkSettings) -> str:
    if not settings.inputs:
        raise Reject(RejectCode.NOT_ALLOWED, "manifests are not read from places here; send the manifest itself")
    if not lies_below(uri, settings.inputs):
        raise Reject(RejectCode.NOT_ALLOWED, "this place is not on the list of places that manifests are read from")
    return uri


@contextmanager
def _of_ours() -> Iterator[None]:
    """What is wrong with bundles, uploads and store is not the caller's to mend, nor to see."""
    try:
        yield
    except UserError as error:
        raise ProdrecError(shown_url(str(error))) from error


def _take_place(run_id: str, store: Store, most: int) -> Any:
    """The actor of a new run, made before it is known whether there is a place: of two that are made at once, none or one stays.

    Raises:
        Busy: there is none.
    """
    if len(_going_on(store)) >= most:
        raise Busy
    options = {"name": f"bulk-{run_id}", "namespace": NAMESPACE, "lifetime": "detached"}
    try:
        actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=2)(Run).options(**options).remote()
    except ValueError as error:  # another process has just begun it
        raise Busy from error
    if len(_going_on(store) | {run_id}) > most:
        _end(run_id)
        raise Busy
    return actor


def _going_on(store: Store) -> set[str]:
    """Runs that have a process, without those whose process is just ending."""
    alive = {actor["name"].removeprefix("bulk-") for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE}
    rows = {run_id: store.run(run_id) for run_id in alive}
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
        actor = ray.get_actor(f"bulk-{run_id}", NAMESPACE)
        progress: Progress = actor.look.remote().future().result(_LOOK_TIMEOUT_S)
    except (ValueError, RayActorError):
        return None
    except (TimeoutError, GetTimeoutError):
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


def _forget(order: Order) -> None:
    """Removes what was sent; another run may have been begun with the same, so the last one removes it."""
    others = [actor for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE and actor["name"] != f"bulk-{order.run.run_id}"]
    if order.upload and not others:
        folder, _, name = order.place.rpartition("/")
        Folder(folder).delete(name)


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
