"""A bundle that scores pictures: the one forward pass of evaluation and serving."""

from functools import cache
from typing import Any

import torch

from prodrec.errors import ConfigError
from prodrec.images.transforms import Normalizer
from prodrec.images.views import Views, packed
from prodrec.models.bundle import Bundle
from prodrec.models.bundle_info import TaggerInfo
from prodrec.models.inference import classified


def precision_on(device: torch.device, precision: str) -> str:
    """What a device computes in where `bf16` or `fp32` is asked for: a CPU without bf16 arithmetic in fp32.

    Emulated on a CPU with AVX2 alone, bf16 scored 7 to 20 times slower than fp32 and trained 7 to 12 times slower (docs/log.md 2026-11-27).
    """
    return "fp32" if device.type == "cpu" and not _cpu_computes_bf16() else precision


@cache
def _cpu_computes_bf16() -> bool:
    """Source: torch's own check for its library of CPU operations (oneDNN): AVX-512 or AMX, or bf16 on ARM."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast on CPU and GPU, or nothing for fp32 and as `precision_on` has it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision_on(device, precision) == "bf16")


class Scorer:
    """A bundle on a device.

    Raises:
        ConfigError: another precision.

    Args:
        precision: `bf16` or `fp32`; None: the one that the run judged itself in, so that what is served is what was reported. As
            an attribute the one that this device computes in.
    """

    def __init__(self, bundle: Bundle, device: torch.device, precision: str | None = None) -> None:
        if precision not in (None, "bf16", "fp32"):
            raise ConfigError(f"precision {precision} is unknown; use bf16 or fp32")
        self.info, self.device = bundle.info, device
        self.precision = precision_on(device, precision or bundle.info.recipe.get("train", {}).get("precision", "fp32"))
        self.model = bundle.model.to(device, memory_format=torch.channels_last).eval()
        self.normalizer = Normalizer(bundle.info.input).to(device)

    def __call__(self, images_BCHW: torch.Tensor | Views) -> Any:
        """As `described`, without embeddings."""
        return self.described(images_BCHW)[0]

    @torch.inference_mode()
    def described(self, images_BCHW: torch.Tensor | Views) -> tuple[Any, torch.Tensor | None]:
        """Scores a batch, in halves where memory runs out.

        Args:
            images_BCHW: uint8 [B, 3, S, S], on any device; the views of B listings for a bundle that fuses them (to which an image
                is a listing of one view).

        Returns:
            float32 logits [B, K] of a classifier, a list of B `Tags` of a tagger; and embeddings, float32 [B, E] of length 1, of a
            classifier that has them. All on the scorer's device.
        """
        try:
            return self._run(images_BCHW)
        except RuntimeError as error:
            if len(images_BCHW) == 1 or not is_out_of_memory(error):
                raise
        # Not within the handler: its traceback holds the tensors that filled the memory.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(images_BCHW) // 2
        first, second = self.described(images_BCHW[:middle]), self.described(images_BCHW[middle:])
        return _joined(first[0], second[0]), None if first[1] is None else _joined(first[1], second[1])

    def _run(self, images_BCHW: torch.Tensor | Views) -> tuple[Any, torch.Tensor | None]:
        images, *lengths_B = packed(images_BCHW)
        with autocast(self.device, self.precision):
            normalized = self.normalizer(images.to(self.device, non_blocking=True))
            inputs_BCHW = normalized.contiguous(memory_format=torch.channels_last)
            if isinstance(self.info, TaggerInfo):
                return self.model(inputs_BCHW), None
            logits_BK, embedding_BE = classified(self.model, inputs_BCHW, self.info.input.flip, *lengths_B)
        return logits_BK.float(), embedding_BE


def _joined(first: Any, second: Any) -> Any:
    return torch.cat([first, second]) if isinstance(first, torch.Tensor) else [*first, *second]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. On a CPU torch has no class of its own for it.

    Source: c10/core/impl/alloc_cpu.cpp, "DefaultCPUAllocator: can't allocate memory".
    """
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
