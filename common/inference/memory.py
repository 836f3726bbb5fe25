"""How the C library hands out memory while a network runs on the CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Within, memory that the main thread frees stays with the process for the next tensor; later it is given back.

    glibc otherwise asks the kernel for every large block again and the kernel clears each page of it: with maps over a
    whole block of targets that took more than half of the time. Other threads gain nothing: their share of the heap
    holds no block as large. The settings are the process's, and remain. Does nothing where the C library is another.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    assert library is not None
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        library.mallopt(parameter, 2**31 - 1)
    try:
        yield
    finally:
        library.malloc_trim(0)
