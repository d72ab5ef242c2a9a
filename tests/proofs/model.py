"""What one step is, a second time: plain Python from the formulas of :mod:`zk_autograd.statement`'s docstrings.

Nothing here calls a statement. One parameter at a time, with exact fractions and no limit on an integer's size, so that
a mistake of the shared definition (which makes the reference, the optimizer and the circuit) has something to differ
from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TypeAlias

State: TypeAlias = dict[str, int]

WIDE = ("adam-wide", "adamw-wide")
ADAM = ("adam", "adam-l2", "adamw", "amsgrad", "amsgrad-l2", "amsgradw", *WIDE)


def _floor(numerator: int, denominator: int) -> int:
    return math.floor(Fraction(numerator, denominator))


def _root(x: int) -> int:
    """The largest ``s`` with ``s*s <= x``, by halving."""
    low, high = 0, 1 << (x.bit_length() // 2 + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle * middle <= x else (low, middle)
    return low


def step(name: str, pre: Mapping[str, int], g: int, p: Mapping[str, int], P: int) -> tuple[State, State]:
    """State after the step, and hints, of the statement called ``name``; ValueError where there is no root."""
    w, r = pre["w"], p["r"]
    if name in ("sgd", "sgd-l2"):
        decay = p["W"] * w if name == "sgd-l2" else 0
        return {"w": w - _floor(p["A"] * g + decay + r, P)}, {}
    if name in ("momentum", "momentum-l2"):
        m = _floor(p["u"] * pre["m"] + p["c"] * g + (p["V"] * w if name == "momentum-l2" else 0) + r, P)
        return {"w": w - _floor(p["A"] * m + r, P), "m": m}, {}
    if name in ("nesterov", "nesterov-l2"):
        in_m, in_w = (p["V"] * w, p["W"] * w) if name == "nesterov-l2" else (0, 0)
        m = _floor(p["u"] * pre["m"] + P * g + in_m + r, P)
        return {"w": w - _floor(p["A"] * g + in_w + p["B"] * m + r, P), "m": m}, {}

    if name not in ADAM:
        raise KeyError(f"{name}: its formulas are missing here")
    hints: State = {}
    e, d = g, 0
    if name in ("adam-l2", "amsgrad-l2"):
        hints["e"] = e = g + _floor(p["W"] * w + r, P)
    if name in ("adamw", "adamw-wide", "amsgradw"):
        hints["d"] = d = _floor(p["W"] * w + r, P)
    m = _floor(p["b1"] * pre["m"] + p["c1"] * e + r, P)
    v = _floor(p["b2"] * pre["v"] + p["c2"] * e * e + r, P)
    if v < 0:
        raise ValueError("a negative second moment has no root")
    hints["s"] = s = _root(v)
    post = {"m": m, "v": v}
    h = s
    if name in ("amsgrad", "amsgrad-l2", "amsgradw"):
        post["h"] = h = max(p["k"] * pre["h"], s)
    D = (15 if name in WIDE else 2) * h + p["E"]
    dw = _floor(p["A"] * m, D)
    post["w"] = w - d - dw
    if name in WIDE:
        over, rest = v - s * s, p["A"] * m - dw * D
        wide = {"qh": over, "ph": 2 * s - over, "ch": rest, "dh": D - 1 - rest}
        hints |= {digit: _floor(x, P) for digit, x in wide.items()}
    return post, hints


def provable(
    name: str,
    pre: Mapping[str, int],
    post: Mapping[str, int],
    g: int,
    hints: Mapping[str, int],
    p: Mapping[str, int],
    P: int,
) -> bool:
    """Whether an honest step fits a table of ``P`` entries: a proof of it exists."""
    dw = pre["w"] - post["w"] - hints.get("d", 0)
    signed = [*([] if name in WIDE else [g]), dw, *(hints[n] for n in ("e", "d") if n in hints)]
    if not all(-P <= 2 * x < P for x in signed):
        return False
    if "s" not in hints:
        return True  # what is left are remainders by P
    s, h = hints["s"], post.get("h", hints["s"])
    over, D = post["v"] - s * s, (15 if name in WIDE else 2) * h + p["E"]
    rest = p["A"] * post["m"] - dw * D
    if name in WIDE:
        return all(0 <= x < P * P for x in (over, 2 * s - over, rest, D - 1 - rest))
    small = [s, over, 2 * s - over, rest, D - 1 - rest, h - s, *([h - p["k"] * pre["h"]] if "h" in post else [])]
    return all(0 <= x < P for x in small)
