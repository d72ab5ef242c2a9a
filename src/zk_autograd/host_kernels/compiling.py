"""How the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """By numba, when first called. Nothing is kept on disk: what runs is what the sources say.

    Without the interpreter's lock, so that threads share the work; divisions do not raise (no divisor here is 0).
    """
    return cast(F, numba.njit(nogil=True, error_model="numpy", boundscheck=False)(function))


def reordered(function: F) -> F:
    """As :func:`compiled`; float sums may be taken in any order. For figures only, never for integers."""
    return cast(F, numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc"})(function))
