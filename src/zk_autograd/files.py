"""Reading files that somebody else may have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zk_autograd.errors import UsageError


def read_capped(path: Path, cap: int) -> bytes:
    """The content of a regular file of at most ``cap`` bytes: no device, which never ends, and no pipe, which waits.

    Raises:
        UsageError: it is something else, or larger.
        OSError: it cannot be read.
    """
    # Without waiting for a pipe's other end.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UsageError(f"{path}: expected a regular file")
        content = file.read(cap + 1)
    if len(content) > cap:
        raise UsageError(f"{path}: expected at most {cap} bytes")
    return content
