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

from zk_autograd.field import MODULUS

State: TypeAlias = dict[str, int]

WIDE = ("adam-wide", "adamw-wide")
ADAM = ("adam", "adam-l2", "adamw", "amsgrad", "amsgrad-l2", "amsgradw", *WIDE)
LAMB_ROOM = 200
"""Bits that the digits of LAMB's two differences hold at least."""


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
    """State after the step, and hints, of the statement called ``name``; ValueError where there is no root.

    LAMB's ``T``, which is its block's (:func:`lamb_scalars`), is expected among the public integers.
    """
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

    if name not in (*ADAM, "lamb"):
        raise AssertionError(f"{name} is missing in tests/proofs/model.py: see docs/optimizers.md, 'Adding one'")
    hints: State = {}
    e, d = g, 0
    if name in ("adam-l2", "amsgrad-l2"):
        hints["e"] = e = g + _floor(p["W"] * w + r, P)
    if name in ("adamw", "adamw-wide", "amsgradw", "lamb"):
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
    if name == "lamb":
        hints["u"] = u = -d - dw
        return post | {"w": w + _floor(p["T"] * u + r, P)}, hints
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
    moved = pre["w"] - post["w"]
    dw = (-hints["u"] if name == "lamb" else moved) - hints.get("d", 0)
    signed = [*([] if name in WIDE else [g]), dw, *(hints[n] for n in ("e", "d") if n in hints)]
    if name == "lamb":
        signed.append(-moved)
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


def lamb_scalars(sw: int, su: int, p: Mapping[str, int], P: int) -> State | None:
    """What a block with these sums of squares settles on; None if that does not fit the circuit.

    ``i`` is left out where the product of the sums is 0, and ``k`` where the rate is the cap: nothing depends on them.
    """
    none = sw == 0 or su == 0
    # X = min(R, floor(B * sqrt(sw / su))), or min(R, U) where that says nothing.
    num, den = (p["U"] ** 2, 1) if none else (sw * p["B"] ** 2, su)
    low, high = 0, p["R"] + 1
    while high - low > 1:  # the largest X up to R with X*X*den <= num
        middle = (low + high) // 2
        low, high = (middle, high) if middle * middle * den <= num else (low, middle)
    X, y = low, p["R"] - low
    found = {"y1": y // P, "y0": y % P, "T": _floor(X + p["j"], P)}
    if not none:
        found["i"] = pow(sw * su, -1, MODULUS)
    if y:
        found["k"] = pow(y, -1, MODULUS)
    count = 1
    while P**count < 1 << LAMB_ROOM:
        count += 1
    for letter, rest in (("p", num - X * X * den), ("q", (X + 1) ** 2 * den - 1 - num if y else 0)):
        for n in range(count):
            found[f"{letter}{n}"] = rest // P**n % P
        if rest >= P**count:
            return None
    return found if y < P * P and found["T"] < P else None


def lamb_place(
    before: Mapping[str, int], sums: Mapping[str, int], after: Mapping[str, int], first: int, last: int
) -> bool:
    """Whether a shard's sums of squares stand in its block's running ones; all modulo the field's prime."""
    for n in ("sw", "su"):
        total = f"total {n}"
        grown = (after[n] - before[n] - sums[n]) % MODULUS == 0
        stays = (after[total] - before[total]) % MODULUS == 0
        begins = not first or before[n] % MODULUS == 0
        ends = not last or (after[n] - after[total]) % MODULUS == 0
        if not (grown and stays and begins and ends):
            return False
    return True
