"""Whether a device computes in bfloat16."""

from pathlib import Path

import pytest
import torch

from feat2img.features import precision
from feat2img.features.precision import computes_bfloat16

CPU = torch.device("cpu")


def test_a_cpu_computes_what_it_has_instructions_for(native_bfloat16):
    assert computes_bfloat16(CPU) == native_bfloat16


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no Linux")
def test_pytorch_and_linux_agree(monkeypatch):
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this PyTorch lists no instruction sets")
    common = {"avx", "avx2", "avx512_bf16"}  # which both call the same
    own, computes = precision.cpu_instruction_sets(), computes_bfloat16(CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision.cpu_instruction_sets() & common == own & common
    assert computes_bfloat16(CPU) == computes


def test_other_devices(monkeypatch):
    assert not computes_bfloat16(torch.device("meta"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_bfloat16(torch.device("cuda"))
