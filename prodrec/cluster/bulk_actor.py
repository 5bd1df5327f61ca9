"""The process that a bulk run of the service goes on in: a detached, named actor, whatever becomes of who began it."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from prodrec.cluster.bulk import Workers, tag  # first: sets what ray reads on import

# isort: split
import pyarrow.compute as pc
import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import list_named_actors

from prodrec.catalog import RunRecord, Store, open_store, shown_url
from prodrec.cluster.fetching import TagPlan
from prodrec.config import Frozen
from prodrec.errors import ProdrecError, SourceError, UserError
from prodrec.files import Folder
from prodrec.models.bundle_files import check_bundle
from prodrec.models.bundle_info import now_utc
from prodrec.serving.bulk import SENT, BulkSettings, Progress
from prodrec.serving.unavailable import Busy
from prodrec.shards.listings import open_listings
from prodrec.sources.listings import Listings

log = logging.getLogger(__name__)

NAMESPACE = "prodrec-bulk"
MARK = " (POST /v1/bulk)"
# For a word of a run's process, which answers beside its work. Source: assumed.
_LOOK_TIMEOUT_S = 5.0
# A caller waits: a database that is away is told of at once. Source: assumed; a lock of SQLite's is over by then.
PATIENCE_S = 5.0
# What a caller is told who comes too early. Source: assumed; a run takes minutes at least.
_OTHERS = ("as many bulk runs as are allowed are going on", 60)
# Between making a run's process and asking it to begin, a manifest of 100 MB at most is written. Source: assumed.
BEGIN_WITHIN_S = 120.0
# Between two looks at a process that is being killed, seconds. Source: assumed.
_POLL_S = 0.02


class Order(Frozen):
    """What a run's process is told. `place`: where the manifest lies; `shown`: its name for the caller."""

    run: RunRecord
    plan: TagPlan
    settings: BulkSettings
    place: str
    shown: str


class Run:
    """One run's process. It answers `look` while it is at work.

    Args:
        wait_s: it ends by itself if it is not begun within so long: whoever made it is gone, and it would hold its place for ever.
    """

    def __init__(self, wait_s: float) -> None:
        self.progress, self.wait_s, self.is_begun = Progress(), wait_s, False
        self._watch()
        self.order: Order | None = None
        self.listings: Listings | None = None

    def begin(self, order: Order) -> int:
        """Reads the manifest, writes the run's row, starts the work, and tells the number of images.

        The work is the process' own to start: whoever asked may be gone by then, and the run would hold its place for ever.

        Raises:
            SourceError: the manifest cannot be read.
            ProdrecError: the store cannot be used.
        """
        self.is_begun = True
        try:
            images = self._read(order)
        except BaseException:
            self.is_begun = False
            self._watch()  # who asked ends this process, if he still lives
            raise
        ray.get_runtime_context().current_actor.work.remote()
        return images

    def _read(self, order: Order) -> int:
        try:
            listings = open_listings(order.place)
        except UserError as error:
            raise SourceError(_told(error, order)) from None
        if SENT.fullmatch(order.run.input.removesuffix(MARK)) and (place := _beside(listings, order.settings.uploads)):
            raise SourceError(f"{order.shown} names {place}, relative to itself; a manifest that is sent names absolute places, or web addresses")
        self.order, self.listings = order, replace(listings, name=order.run.input)
        self.progress = Progress(listings.duplicates, listings.images + listings.duplicates)
        with of_ours(), open_store(order.settings.store, PATIENCE_S) as store:
            store.start(order.run)
        return listings.images + listings.duplicates

    def _watch(self) -> None:
        watch = threading.Timer(self.wait_s, self._end_unless_begun)
        watch.daemon = True
        watch.start()

    def _end_unless_begun(self) -> None:
        if not self.is_begun:
            os._exit(1)

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
                for kind, bundle in (("classifier", order.plan.classifier), ("tagger", order.plan.tagger)):
                    if bundle:  # whole, weights too: what is wrong with them is said in one line, here and not in a scoring process
                        check_bundle(bundle, kind)
                tag(listings, store, order.plan, Workers(least, most), True, self._note)
            except Exception as error:  # whatever it was, the row must say that it is over
                log.exception("bulk run %s failed", order.run.run_id)
                failed = {"status": "failed", "finished": now_utc(), "detail": _told(error, order)}
                store.finish(order.run.model_copy(update=failed))
            finally:
                forget(order.run, order.settings)

    def _note(self, done: int, total: int, rate: float) -> None:
        assert self.listings
        self.progress = Progress(done + self.listings.duplicates, total + self.listings.duplicates, rate)


@contextmanager
def of_ours() -> Iterator[None]:
    """What is wrong with bundles, uploads and store is not the caller's to mend, nor to see."""
    try:
        yield
    except UserError as error:
        raise ProdrecError(shown_url(str(error))) from error


def take_place(run_id: str, store: Store, most: int) -> Any:
    """The actor of a new run. It is counted after it is made: of two that are made at once for one place, none or one stays.

    Raises:
        Busy: there is no place.
    """
    if len(_going_on(store)) >= most:
        raise Busy(*_OTHERS)
    options = {"name": f"bulk-{run_id}", "namespace": NAMESPACE, "lifetime": "detached"}
    try:
        actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=2)(Run).options(**options).remote(BEGIN_WITHIN_S)
    except ValueError as error:  # another process has just begun this very run
        raise Busy from error
    if len(_going_on(store) | {run_id}) > most:
        end(run_id)
        raise Busy(*_OTHERS)
    return actor


def alive() -> set[str]:
    """Runs that have a process."""
    return {actor["name"].removeprefix("bulk-") for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == NAMESPACE}


def _going_on(store: Store) -> set[str]:
    """Of them, those whose process is not just ending."""
    rows = {run_id: store.run(run_id) for run_id in alive()}
    return {run_id for run_id, row in rows.items() if row is None or row.status != "finished"}


def begun(actor: Any, order: Order) -> int:
    """Images of the manifest. It is read in the run's process: a hostile one costs that only."""
    try:
        return int(actor.begin.remote(order).future().result())
    except RayTaskError as error:
        if isinstance(error.cause, SourceError):
            raise SourceError(str(error.cause)) from None
        raise ProdrecError(shown_url(str(error.cause))) from error
    except RayActorError as error:
        raise SourceError(f"{order.shown} ended the process that read it; send a smaller or a sound one") from error


def look(run_id: str) -> Progress | None:
    """How far a run is; None: it has no process."""
    try:
        progress: Progress = ray.get_actor(f"bulk-{run_id}", NAMESPACE).look.remote().future().result(_LOOK_TIMEOUT_S)
    except (ValueError, RayActorError):
        return None
    except TimeoutError:
        return Progress()
    return progress


def end(run_id: str) -> Progress | None:
    """Kills a run's process, and with it all that it began; returns once it is gone."""
    progress = look(run_id)
    with suppress(ValueError):
        ray.kill(ray.get_actor(f"bulk-{run_id}", NAMESPACE))
    while look(run_id) is not None:
        time.sleep(_POLL_S)
    return progress


def forget(run: RunRecord, settings: BulkSettings) -> None:
    """Removes the manifest that was sent; not while another run goes on, which may be of the same one."""
    kept = run.input.removesuffix(MARK)
    if SENT.fullmatch(kept) and not alive() - {run.run_id}:
        Folder(settings.uploads).delete(kept)


def _beside(listings: Listings, uploads: str) -> str | None:
    """The first place that is relative to the manifest, beside which nothing lies where it is kept; None: there is none."""
    folder = f"{Folder(uploads).uri.rstrip('/')}/"
    places, embedded = pc.list_flatten(listings.table["uri"]), pc.list_flatten(listings.table["row_group"])
    found = places.filter(pc.and_(pc.starts_with(places, folder), pc.is_null(embedded)))
    return found[0].as_py().removeprefix(folder) if len(found) else None


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
