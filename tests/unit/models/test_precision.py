"""What a device computes in."""

import pytest
import torch

from prodrec.models import scorer
from prodrec.models.scorer import autocast, precision_on

CPU = torch.device("cpu")


@pytest.mark.parametrize(("has_bf16", "asked", "computed"), [(True, "bf16", "bf16"), (False, "bf16", "fp32"), (True, "fp32", "fp32"), (False, "fp32", "fp32")])
def test_a_cpu_without_bf16_arithmetic_computes_in_fp32(has_bf16, asked, computed, monkeypatch):
    monkeypatch.setattr(scorer, "_cpu_computes_bf16", lambda: has_bf16)
    assert precision_on(CPU, asked) == computed
    with autocast(CPU, asked):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if computed == "bf16" else torch.float32)


def test_a_gpu_computes_in_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(scorer, "_cpu_computes_bf16", lambda: False)
    assert precision_on(torch.device("cuda"), "bf16") == "bf16"


def test_this_cpu_is_known():
    assert scorer._cpu_computes_bf16() in (True, False)
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        assert not scorer._cpu_computes_bf16()
