"""Memory that is freed and allocated again, in processes of their own: the setting holds for a whole process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from feat2img.memory import keep_freed_memory
kept = KEPT and keep_freed_memory()
torch.set_num_threads(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def convolution(channels, out):
    return torch.nn.Sequential(torch.nn.Conv2d(channels, out, 3, 2, 1), torch.nn.ReLU())
network = torch.nn.Sequential(convolution(3, 16), convolution(16, 32), convolution(32, 64))
images = torch.rand(16, 3, 224, 224)  # the largest map has 12.25 MiB, that is 3,136 pages
with torch.no_grad():
    for _ in range(6):
        network(images)
    before = faults()
    for _ in range(4):
        network(images)
print(kept, faults() - before)
"""


def run(keep: bool) -> tuple[str, int]:
    program = PROGRAM.replace("KEPT", str(keep))
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    kept, faults = output.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of other systems has no such setting")
def test_freed_memory_is_used_again():
    kept, faults = run(keep=True)
    if kept == "False":
        pytest.skip("this C library has no such setting")
    assert faults < 1000
    assert run(keep=False)[1] > 4 * faults + 1000


def test_a_library_without_the_setting(monkeypatch):
    from feat2img import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False
