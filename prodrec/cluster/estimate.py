"""How long a bulk run would take: a dry run on a sample."""

import math
import time
from dataclasses import dataclass, field

from prodrec.cluster.bulk import Workers, results
from prodrec.cluster.fetching import TagPlan
from prodrec.cluster.session import ray_session
from prodrec.cluster.tagging import COUNTS
from prodrec.sources.listings import Listings

# Listings that a dry run scores. Source: assumed: a minute on a laptop.
SAMPLE_LISTINGS = 512


@dataclass(frozen=True)
class Estimate:
    """What a dry run measured on a sample, fetching included.

    Attributes:
        images, sampled: of the input, and of the sample.
        counts: of the sample, see `tagging.COUNTS`.
        images_per_s: of all scoring processes together, after their start.
        workers: scoring processes, each on one `worker` (GPU or core).
        seconds: for all images.
    """

    images: int
    sampled: int
    counts: dict[str, int] = field(repr=False)
    images_per_s: float
    workers: int
    worker: str
    seconds: float


def estimate(listings: Listings, plan: TagPlan, workers: Workers) -> Estimate:
    """Scores a sample that is spread over the input and writes nothing.

    Raises:
        ProdrecError: as `tag`.
    """
    sample = listings.sampled(max(1, len(listings.table) // SAMPLE_LISTINGS))
    plan = plan.model_copy(update={"store_url": None, "trusted": listings.uri})
    ends_s, rows = [], []
    with ray_session():
        _, most = workers.resolved(plan.gpu)
        for row in results(sample, plan, Workers(most, most)):
            rows.append(row)
            ends_s.append(time.perf_counter())
    # What came before each process had delivered its first slice pays for the start.
    warm = min(most, len(rows) - 1)
    images, seconds = sum(row["rows_in"] for row in rows[warm:]), ends_s[-1] - ends_s[max(0, warm - 1)]
    if warm == 0 or not seconds:
        images, seconds = sum(row["rows_in"] for row in rows), sum(row["busy_s"] for row in rows)
    rate = images / max(seconds, 1e-9)
    counts = {name: sum(row[name] for row in rows) for name in COUNTS}
    return Estimate(listings.images, sample.images, counts, rate, most, "GPU" if plan.gpu else "core", math.ceil(listings.images / rate))
