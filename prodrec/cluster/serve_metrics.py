"""Metrics of all replicas, kept by Ray: each process reports to its node, and any ingress can tell them all."""

import asyncio
from collections.abc import Iterable, Iterator

import httpx
import ray
from ray.util.metrics import Counter, Histogram

from prodrec.serving.metrics import METRICS, Metric

# Ray puts this before the names of all metrics.
_PREFIX = "ray_"
# For a node to answer, seconds. Source: assumed.
_TIMEOUT_S = 5.0


class RayMeter:
    """Keeps the numbers of `prodrec.serving.metrics.METRICS` with Ray."""

    def __init__(self) -> None:
        self._kept: dict[str, Counter | Histogram] = {metric.name: _make(metric) for metric in METRICS}

    def note(self, metric: Metric, value: float = 1, **labels: str) -> None:
        kept = self._kept[metric.name]
        if isinstance(kept, Histogram):
            kept.observe(value, tags=labels)
        else:
            kept.inc(value, tags=labels)

    async def text(self) -> str:
        """Those of all nodes, gathered from each node's own page; a node that does not answer is left out."""
        pages = [f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in ray.nodes() if node["Alive"]]
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answers = await asyncio.gather(*(client.get(page) for page in pages), return_exceptions=True)
        return merged(answer.text for answer in answers if isinstance(answer, httpx.Response))


def merged(pages: Iterable[str]) -> str:
    """The lines of prodrec's metrics, under the names that `METRICS` gives, each metric's together."""
    families: dict[str, list[str]] = {}
    for page in pages:
        for family, line in _lines(page):
            kept = families.setdefault(family, [])
            if not (line.startswith("#") and line in kept):
                kept.append(line)
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _lines(page: str) -> Iterator[tuple[str, str]]:
    family = ""
    for line in page.splitlines():
        if line.startswith("#"):
            family = line.split(" ")[2]
        if family.startswith(f"{_PREFIX}prodrec_"):
            yield family, line.replace(_PREFIX, "", 1)


def _make(metric: Metric) -> Counter | Histogram:
    if metric.buckets:
        return Histogram(metric.name, metric.help, boundaries=list(metric.buckets), tag_keys=metric.labels)
    return Counter(metric.name, metric.help, tag_keys=metric.labels)
