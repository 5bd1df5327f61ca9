"""The nightly job: every listing fetched, scored, decided and written once, however often it is begun.

The process that leads it needs no torch: only the scoring processes load it.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prodrec.cluster.session import prodrec_cause, ray_session

# isort: split
import ray
import ray.data
from pydantic import ValidationError
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from prodrec.catalog import RunRecord, Store
from prodrec.cluster.fetching import TagPlan, fetch_listings
from prodrec.cluster.ledger import Ledger
from prodrec.cluster.tagging import COUNTS, ListingScorer
from prodrec.config import explain_validation
from prodrec.errors import ConfigError
from prodrec.images.formats import ImageLimits
from prodrec.models.bundle_files import bundle_folder, check_bundle, load_info
from prodrec.models.bundle_info import joined_id, now_utc
from prodrec.scoring.fetch import FetchLimits
from prodrec.scoring.policy import load_policy
from prodrec.sources.listings import Listings
from prodrec.version import code_version

# Images that are fetched, scored and written at a time: half a second of work, which a stop may cost, and 300 MB of phone photos.
# Source: assumed.
SLICE_IMAGES = 64
# Of a CPU: so much that one scoring process and its fetching fit on each.
_SCORE_CPUS, _FETCH_CPUS = 0.8, 0.2
# How long the images of a host that fell silent wait for it, seconds. Source: assumed; a web server is started again within minutes.
_PATIENCE_S = 300.0
# CPUs beside each GPU that prepare its images. Source: assumed.
_CPUS_A_GPU = 4


OnProgress = Callable[[int, int, float], None]
"""(images done, images in all, images/s)"""


@dataclass(frozen=True)
class Workers:
    """Scoring processes: from `least` to `most`, as there is work; None: one for each GPU of the cluster, or each CPU."""

    least: int | None = None
    most: int | None = None

    def resolved(self, gpu: bool) -> tuple[int, int]:
        """Needs a connection to the cluster."""
        there = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0))
        if gpu and not there and not os.environ.get("RAY_ADDRESS"):
            raise ConfigError("--gpu: there is no GPU on this machine; leave it out to work on the CPU")
        return self.least or 1, max(self.least or 1, self.most or there or 1)


def plan_tags(
    run_id: str,
    classifier: str | None,
    tagger: str | None,
    policy: str | None,
    store_url: str,
    fetch: dict[str, Any],
    gpu: bool,
    prepared: bool = False,
    time_limit_s: float = ImageLimits().max_seconds,
    whole: bool = True,
) -> TagPlan:
    """Reads what the bundles and the policy say.

    Args:
        classifier, tagger: folders of bundles; one at least.
        policy: a YAML file; None: the defaults.
        fetch: fields of `FetchLimits`.
        prepared: the images were shrunk by `prodrec prepare`: their size says nothing of the photos'.
        whole: read the weights too, so that what is wrong with them is said here in one line.

    Raises:
        BundleError, ConfigError: what is wrong with them.
    """
    if not classifier and not tagger:
        raise ConfigError("there is nothing to tag with; give --classifier BUNDLE, --tagger BUNDLE or both")
    # Workers run elsewhere, where a relative path would mean another place, and later, when a registry may have another current bundle.
    places = {kind: bundle_folder(uri).uri if uri else None for kind, uri in (("classifier", classifier), ("tagger", tagger))}
    read = check_bundle if whole else load_info
    infos = [read(uri, kind) if uri else None for kind, uri in places.items()]
    rules = load_policy(policy)
    if prepared:
        size = rules.photo.too_small.model_copy(update={"action": "off"})
        rules = rules.model_copy(update={"photo": rules.photo.model_copy(update={"too_small": size})})
    return TagPlan(
        run_id=run_id,
        bundle_id=joined_id(*infos),
        policy=rules.model_dump_json(),
        policy_id=rules.policy_id,
        store_url=store_url,
        fetch=_limits(fetch),
        gpu=gpu,
        time_limit_s=time_limit_s,
        classifier=places["classifier"],
        tagger=places["tagger"],
    )


def _limits(fetch: dict[str, Any]) -> FetchLimits:
    try:
        return FetchLimits(**{"patience_s": _PATIENCE_S} | fetch)
    except ValidationError as error:
        raise ConfigError(f"--allow-host: {explain_validation(error, FetchLimits)}; give names such as images.shop.example") from error


def tag(listings: Listings, store: Store, plan: TagPlan, workers: Workers, resume: bool, on_progress: OnProgress = lambda done, total, rate: None) -> RunRecord:
    """Tags listings and writes the run.

    Args:
        store: that `plan.store_url` names.
        plan: `run_id` is taken where no unfinished run is resumed.
        resume: go on with the latest unfinished run of this input, bundle and policy, if there is one.

    Returns:
        The run with its counts; rows_in = rows_tagged + rows_skipped + rows_rejected.

    Raises:
        ProdrecError: a bundle cannot be loaded, the store is away for too long, the cluster fails.
    """
    before = store.unfinished(listings.name, plan.bundle_id, plan.policy_id) if resume else None
    run = before.model_copy(update={"status": "running", "finished": None, "detail": None}) if before else new_run(listings.name, plan)
    if before is None and store.run(run.run_id):
        raise ConfigError(f"there is a run {run.run_id} already; choose another --run-id, or leave it out")
    store.start(run)
    plan = plan.model_copy(update={"run_id": run.run_id, "trusted": listings.uri})
    # Where this ends by an error or a kill, the run's row says `running`, and it can be resumed.
    with ray_session():
        counts = _add_up(results(listings, plan, workers), listings, on_progress)
    finished = run.model_copy(update={"status": "finished", "finished": now_utc(), "detail": "; ".join(listings.notes) or None, **counts})
    store.finish(finished)
    return finished


def new_run(name: str, plan: TagPlan) -> RunRecord:
    """The row of a run that begins now.

    Args:
        name: of its input, see `Listings.name`.
    """
    return RunRecord(
        run_id=plan.run_id,
        started=now_utc(),
        run_date=datetime.now(UTC).date().isoformat(),
        input=name,
        bundle_id=plan.bundle_id,
        policy_id=plan.policy_id,
        policy=plan.policy,
        code_version=code_version(),
    )


def new_run_id() -> str:
    """Sorts by time: 20261121-174236-1a2b3c."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def results(listings: Listings, plan: TagPlan, workers: Workers) -> Iterator[dict[str, Any]]:
    """A row of counts for each slice, as they are done."""
    ledger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger).remote()
    least, most = workers.resolved(plan.gpu)
    cpus = _cpus_a_gpu() if plan.gpu else 1
    context = DataContext.get_current()
    before = context.target_max_block_size, context.raise_original_map_exception
    # One block a slice, see `fetch_listings`; and what a worker raises comes as it is.
    context.target_max_block_size, context.raise_original_map_exception = None, True
    try:
        slices = ray.data.from_arrow(list(listings.slices(SLICE_IMAGES)))
        fetched = slices.map_batches(partial(fetch_listings, plan), batch_size=None, batch_format="pyarrow", num_cpus=_FETCH_CPUS, compute=TaskPoolStrategy())
        scored = fetched.map_batches(
            ListingScorer,
            fn_constructor_args=(plan, ledger, cpus),
            compute=ActorPoolStrategy(min_size=least, max_size=most),
            # Ray wants a number where there are GPUs; a row is a whole listing, so nothing is torn.
            batch_size=SLICE_IMAGES if plan.gpu else None,
            batch_format="pyarrow",
            num_cpus=cpus * _SCORE_CPUS,
            num_gpus=1 if plan.gpu else 0,
        )
        yield from scored.iter_rows()
    except ray.exceptions.RayError as error:
        raise prodrec_cause(error) from error
    finally:
        context.target_max_block_size, context.raise_original_map_exception = before


def _cpus_a_gpu() -> int:
    """CPUs beside each GPU: no more than every node with GPUs has, or nothing could be placed."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    shares = [int((resources.get("CPU", 1) - _FETCH_CPUS) / _SCORE_CPUS / resources["GPU"]) for resources in nodes]
    return max(1, min([_CPUS_A_GPU, *shares]))


def _add_up(results: Iterator[dict[str, Any]], listings: Listings, on_progress: OnProgress) -> dict[str, int]:
    """Counts of all slices; an image that its listing names twice counts as skipped."""
    counts = dict.fromkeys(COUNTS, 0)
    first_s: float | None = None
    first_rows = 0
    for row in results:
        for name in COUNTS:
            counts[name] += row[name]
        now_s = time.perf_counter()
        if first_s is None:
            # The processes have started by now: their start is no part of the rate.
            first_s, first_rows = now_s, counts["rows_in"]
        rate = (counts["rows_in"] - first_rows) / (now_s - first_s) if now_s > first_s else 0.0
        on_progress(counts["rows_in"], listings.images, rate)
    counts["rows_in"] += listings.duplicates
    counts["rows_skipped"] += listings.duplicates
    return counts
