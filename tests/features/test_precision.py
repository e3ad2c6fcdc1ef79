"""Whether a device computes in bfloat16."""

import pytest
import torch

from feat2img.features import precision
from feat2img.features.precision import computes_bfloat16

CPU = torch.device("cpu")


def test_a_cpu_computes_what_it_has_instructions_for(native_bfloat16):
    assert computes_bfloat16(CPU) == native_bfloat16


def test_instruction_sets_are_those_of_linux(monkeypatch):
    known = {"avx", "avx2", "fma3"} & precision.cpu_instruction_sets()
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert known - {"fma3"} <= precision.cpu_instruction_sets()


def test_both_sources_agree_on_bfloat16(monkeypatch):
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this PyTorch lists no instruction sets")
    own = computes_bfloat16(CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert computes_bfloat16(CPU) == own


def test_other_devices(monkeypatch):
    assert not computes_bfloat16(torch.device("meta"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_bfloat16(torch.device("cuda"))
