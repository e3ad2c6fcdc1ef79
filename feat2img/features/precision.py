"""Whether a device computes in bfloat16; one that does not is many times slower in it than in float32."""

import torch

EMULATED = "this CPU only emulates bfloat16, many times slower than float32"


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether the device is a CPU without instructions for bfloat16."""
    return device.type == "cpu" and not computes_bfloat16(device)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16. Devices that cannot be asked count as having none."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any("bf16" in name for name in cpu_instruction_sets())


def cpu_instruction_sets() -> set[str]:
    """Names such as "avx2" or "avx512_bf16", of PyTorch where it lists them, else of Linux; else none."""
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, present in torch.cpu.get_capabilities().items() if present is True}
    try:
        with open("/proc/cpuinfo") as file:
            lists = [line.partition(":")[2] for line in file if line.lower().startswith(("flags", "features"))]
    except OSError:
        return set()
    return set(lists[0].split()) if lists else set()
