"""Memory allocation of the C library while a network runs on the CPU."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep memory that the main thread frees for the next tensor; return it to the system when the context ends.

    Otherwise glibc asks the kernel for every large block again, and the kernel clears each page of it. With maps over a
    whole block of targets, that took more than half of the time. Other threads gain nothing: their arenas hold no
    blocks as large. The settings apply to the whole process and remain. With another C library this does nothing.
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
