"""Metrics of all processes behind an application: each keeps its own, and any ingress tells them all.

Ray's own metrics are left out: they cost a tenth of a request here, estimate the sums of histograms from their buckets, and are
told seconds late (docs/log.md, 2026-11-21).
"""

import asyncio
import re
from collections.abc import Iterable, Sequence

from ray import serve
from ray.serve.handle import DeploymentHandle

from prodrec.serving.metrics import LocalMeter, Metric

# For all processes to answer, seconds; those that do not are left out. Source: assumed.
_TIMEOUT_S = 5.0
_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")


class ClusterMeter:
    """Of an ingress: counts for itself, and tells of all.

    Args:
        handles: of the deployments whose processes have a method `metrics`.
    """

    def __init__(self, handles: Sequence[DeploymentHandle]) -> None:
        self._own, self._handles = LocalMeter(), handles

    def note(self, metric: Metric, value: float = 1, **labels: str) -> None:
        self._own.note(metric, value, **labels)

    async def own(self) -> tuple[str, str]:
        """The name of this process, and its own metrics."""
        return process_name(), await self._own.text()

    async def text(self) -> str:
        """Of every process, with its name as the label `process`."""
        context = serve.get_replica_context()
        mine = serve.get_deployment_handle(context.deployment, context.app_name)
        asked = [handle.broadcast("metrics").results_async(timeout_s=_TIMEOUT_S, return_exceptions=True) for handle in (mine, *self._handles)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return merged(page for answer in answers if isinstance(answer, list) for page in answer if isinstance(page, tuple))


def process_name() -> str:
    """As Ray Serve names it: Classifier-x7d2k9qa."""
    context = serve.get_replica_context()
    return f"{context.deployment}-{context.replica_id.unique_id}"


def merged(pages: Iterable[tuple[str, str]]) -> str:
    """Pages of several processes as one: the lines of each metric together, each told of whom it is."""
    families: dict[str, list[str]] = {}
    for process, page in pages:
        for block in re.split(r"^(?=# HELP )", page, flags=re.MULTILINE):
            head = [line for line in block.splitlines() if line.startswith("#")]
            samples = [line for line in block.splitlines() if _SAMPLE.fullmatch(line)]
            if head:
                families.setdefault("\n".join(head), []).extend(_labelled(line, process) for line in samples)
    return "".join("\n".join([head, *samples]) + "\n" for head, samples in families.items())


def _labelled(line: str, process: str) -> str:
    parts = _SAMPLE.fullmatch(line)
    assert parts
    labels = ",".join(part for part in (f'process="{process}"', parts["labels"]) if part)
    return f"{parts['name']}{{{labels}}} {parts['value']}"
