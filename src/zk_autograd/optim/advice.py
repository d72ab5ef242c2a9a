"""A run's format, or a refusal that names what would fit."""

from __future__ import annotations

from collections.abc import Iterator

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format
from zk_autograd.proofs.base import PROFILES
from zk_autograd.statement import STATEMENTS, Hyper, Statement

_COARSER = 64
"""How many times the clipping bound is tried: beyond that no gradient would be left."""


LARGEST_ERROR = 0.02
"""By how much steps at the largest rate may be off in a format that is chosen, on average."""

_DECOUPLED = {"adam-l2": "adamw", "amsgrad-l2": "amsgradw"}


def choose_format(st: Statement, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
    """The statement's format for such a run, in which its steps are off by at most ``LARGEST_ERROR`` on average.

    Raises:
        FormatError: there is none; says which larger profile, statement or clipping bound takes the same rate.
    """
    try:
        return _fitting(st, hyper, max_lr, clip, P)
    except FormatError as error:
        ways = list(_ways(st, hyper, max_lr, clip, P))
        if not ways:
            raise
        raise FormatError(f"{error}; as it is, it fits with {' or '.join(ways)}") from None


def _fitting(st: Statement, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
    fmt = st.choose_format(hyper, max_lr, clip, P)
    st.check_rate(max_lr, fmt, P)
    off = st.rate_error(hyper, max_lr, fmt, P)
    if off > LARGEST_ERROR:
        raise FormatError(f"{st.name}: in the finest format steps at a rate of {max_lr!r} would be up to {off:.1%} off")
    return fmt


def _ways(st: Statement, hyper: Hyper, max_lr: float, clip: float, P: int) -> Iterator[str]:
    """One change each that lets the run's declaration stand."""
    larger = [profile for profile in sorted(PROFILES.values(), key=lambda profile: profile.P) if profile.P > P]
    for profile in larger:
        if _fits(st, hyper, max_lr, clip, profile.P):
            yield f"profile {profile.name} (logrows={profile.logrows})"
    wide = STATEMENTS.get(f"{st.name}-wide")
    if wide is not None and _fits(wide, hyper, max_lr, clip, P):
        yield "wide=True (--wide)"
    decoupled = STATEMENTS.get(_DECOUPLED.get(st.name, ""))
    if decoupled is not None:
        sizes = {P: ""} | {p.P: f" and profile {p.name} (logrows={p.logrows})" for p in larger}
        fitting = [said for size, said in sizes.items() if _fits(decoupled, hyper, max_lr, clip, size)]
        yield from (f"AdamW (decoupled decay){said}" for said in fitting[:1])
    ratio = hyper.get("max_ratio", 0.0) / 2
    while ratio >= 1.0:
        if _fits(st, {**hyper, "max_ratio": ratio}, max_lr, clip, P):
            yield f"a max_ratio of {ratio:g}"
            return
        ratio /= 2
    factor = 2
    while factor <= _COARSER:
        if _fits(st, hyper, max_lr, clip * factor, P):
            yield f"a clip of {clip * factor:g}"
            return
        factor *= 2


def _fits(st: Statement, hyper: Hyper, max_lr: float, clip: float, P: int) -> bool:
    try:
        _fitting(st, hyper, max_lr, clip, P)
    except FormatError:
        return False
    return True
