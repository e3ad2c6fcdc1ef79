"""How this process handles memory that tensors on the CPU have given back."""

import ctypes
import sys

_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1  # parameters of mallopt(3), from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep memory that it has freed for what it allocates next; returns whether the system can.

    By default the C library of Linux gives every large block back at once, and the system hands each new one out page
    by page, zeroed. A network on the CPU frees and allocates a large block in every layer, and may spend more time on
    that than on arithmetic (`python -m benchmarks.allocation`). The price: the process stays as large as it once was.
    Elsewhere than on glibc (other systems, jemalloc, tcmalloc) nothing changes.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
