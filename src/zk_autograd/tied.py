"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys


def end_with_parent(parent: int, signal: int) -> None:
    """Has the kernel send ``signal`` to this process when its parent dies (Linux); ends it if it is dead already."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal))  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before it could be watched
        sys.exit(1)
