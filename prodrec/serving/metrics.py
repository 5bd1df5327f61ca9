"""What a server counts, for Prometheus. One table of names; of whom they are told (this process, or all of a cluster) is behind `Meter`."""

from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

# Seconds. Source: assumed; from a small model on a GPU to the time limit of a request.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metric(NamedTuple):
    """One metric: a histogram where it has buckets, else a counter."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


REQUESTS = Metric("prodrec_requests", "Requests answered", ("route", "status"))
REQUEST_SECONDS = Metric("prodrec_request_seconds", "From the request's head to the answer's", ("route",), _SECONDS)
STAGE_SECONDS = Metric("prodrec_stage_seconds", "Of one image, by stage", ("stage",), _SECONDS)
BATCH_SIZE = Metric("prodrec_batch_size", "Images scored in one forward pass", ("kind",), (1, 2, 4, 8, 16, 32, 64))
DECISIONS = Metric("prodrec_decisions", "Images decided", ("decision",))
REJECTS = Metric("prodrec_rejects", "Images that could not be used", ("code",))
METRICS = (REQUESTS, REQUEST_SECONDS, STAGE_SECONDS, BATCH_SIZE, DECISIONS, REJECTS)


class Meter(Protocol):
    """Keeps the numbers of METRICS."""

    def note(self, metric: Metric, value: float = 1, **labels: str) -> None:
        """Adds to a counter, or one observation to a histogram."""

    async def text(self) -> str:
        """All of them, in Prometheus' text format."""


class LocalMeter:
    """Of this process alone."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._kept: dict[str, Counter | Histogram] = {metric.name: self._make(metric) for metric in METRICS}
        # Looking one up by its labels costs several times as much as counting.
        self._labelled: dict[tuple[str, ...], Counter | Histogram] = {}

    def note(self, metric: Metric, value: float = 1, **labels: str) -> None:
        key = (metric.name, *labels.values())
        kept = self._labelled.get(key)
        if kept is None:
            kept = self._labelled[key] = self._kept[metric.name].labels(**labels)
        if isinstance(kept, Histogram):
            kept.observe(value)
        else:
            kept.inc(value)

    async def text(self) -> str:
        return generate_latest(self._registry).decode()

    def _make(self, metric: Metric) -> Counter | Histogram:
        if metric.buckets:
            return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self._registry)
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)
