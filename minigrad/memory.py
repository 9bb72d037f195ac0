"""Freed memory is kept for the next step.

A step of training makes some hundred arrays and frees them all at its end. The allocator of glibc would give that
memory back to the system and, a moment later, ask for it again, page by page: as much time as the computation itself.
Other C libraries are left as they are, and so is glibc if the environment says MINIGRAD_KEEP_MEMORY=0.
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc to hold on to what was freed: up to 2 GiB at the top of the heap, arrays up to 1 GiB on it."""
    if os.environ.get("MINIGRAD_KEEP_MEMORY") == "0" or not hasattr(os, "confstr"):
        return False
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
    except (ValueError, OSError, AttributeError):  # another C library
        return False
    large = mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)  # all that an older glibc accepts
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1) and large)
