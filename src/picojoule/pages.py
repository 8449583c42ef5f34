"""Page reuse: keep the allocator from giving large pages back to the system after every tensor."""

import ctypes
import sys

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
_reused = False


def reuse_pages() -> bool:
    """Ask glibc to serve large tensors from memory it already holds; True if it agreed.

    By default every tensor above 32 MiB is mapped and unmapped anew, and its page faults cost more than the
    arithmetic. Process-wide and for good; memory is returned to the system only beyond 2 GiB.
    """
    global _reused
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    _reused = bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    return _reused


def pages_are_reused() -> bool:
    """Whether `reuse_pages` was called and took effect."""
    return _reused
