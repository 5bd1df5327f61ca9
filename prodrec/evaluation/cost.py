"""What a classifier costs at inference: parameters, operations, bytes, and the time it takes on this machine."""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prodrec.files import Folder
from prodrec.models.bundle import Bundle
from prodrec.models.scorer import Scorer

# Images of a batch whose throughput is measured. Source: assumed; what bulk runs and a busy server score at once.
BATCH_SIZE = 32
# Rounds over all classifiers, so that a slow minute of the machine falls on all of them alike. Source: assumed.
_ROUNDS = 3
# Calls of one classifier in a round: at least this many, and for as long. Source: assumed.
_CALLS, _SECONDS = 5, 0.2


class Timing(NamedTuple):
    """Medians on this machine. For a model that fuses views "an image" is a listing with its views.

    Attributes:
        latency_ms: one image alone, from pixels in memory to logits.
        image_ms: an image of a batch of 32.
    """

    latency_ms: float
    image_ms: float


def time_all(scorers: Sequence[Scorer], views: Sequence[float]) -> list[Timing]:
    """Times classifiers one after the other, in rounds; nothing else should run meanwhile.

    Args:
        views: pictures that each sees of an image, on average: `prodrec.shards.listing_shards.views_shown`.
    """
    calls_s: list[tuple[list[float], list[float]]] = [([], []) for _ in scorers]
    batches = [[_pixels(scorer, count) for count in (1, BATCH_SIZE)] for scorer in scorers]
    for _ in range(_ROUNDS):
        for scorer, images, found in zip(scorers, batches, calls_s, strict=True):
            for pixels, seconds in zip(images, found, strict=True):
                seconds += _seconds(scorer, pixels)
    return [
        Timing(1000 * median(alone) * pictures, 1000 * median(together) * pictures / BATCH_SIZE)
        for (alone, together), pictures in zip(calls_s, views, strict=True)
    ]


def size_of(bundle: Bundle, folder: Folder, views: float) -> dict[str, Any]:
    """Parameters, GFLOPs of one image and megabytes on disk. `views` as `time_all`."""
    return {
        "parameters": sum(p.numel() for p in bundle.model.parameters()),
        "gflops": gflops_of(bundle, views),
        "bundle_mb": sum(file.size for file in folder.walk()) / 1e6,
    }


def gflops_of(bundle: Bundle, views: float) -> float:
    """GFLOPs of one image (a multiplication and an addition count as two). `views` as `time_all`.

    Source of the count: torch.utils.flop_counter; element-wise operations and those inside recurrent layers are not in it.
    """
    model, side = bundle.model, bundle.info.input.size
    device = next(model.parameters()).device
    # Fused attention is told as one operation that not every backend has a formula for.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side, device=device))
    return views * (1 + bundle.info.input.flip) * counter.get_total_flops() / 1e9  # the mirrored picture is a second pass


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Where the times were measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "batch_size": BATCH_SIZE, "torch": torch.__version__}


def _pixels(scorer: Scorer, count: int) -> torch.Tensor:
    side = scorer.info.input.size
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=scorer.device)


def _seconds(score: Callable[[torch.Tensor], Any], images_BCHW: torch.Tensor) -> list[float]:
    score(images_BCHW)  # the first call chooses algorithms and fills caches
    seconds: list[float] = []
    until = time.perf_counter() + _SECONDS
    while len(seconds) < _CALLS or time.perf_counter() < until:
        started = time.perf_counter()
        score(images_BCHW)
        if images_BCHW.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
