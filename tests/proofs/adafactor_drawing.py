"""Random blocks of Adafactor at the ends of every range, for ``tests/fuzz_circuits.py``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.proofs import adafactor_model as model
from tests.proofs.adafactor_model import Given, Table
from tests.proofs.drawing import Random, pick
from zk_autograd.errors import FormatError
from zk_autograd.statement import Public, Statement
from zk_autograd.statement.adafactor import LARGEST_PUBLIC, LARGEST_SIZE

RANGES = {"n": (1, LARGEST_SIZE), "D": (16, 1 << 16)} | dict.fromkeys(("B", "e1", "e2"), (0, LARGEST_PUBLIC - 1))
"""Of public integers, ends included: what a run can have (``docs/soundness.md``). The others are from 0 to ``P``."""


def clamped(name: str, value: int, P: int) -> int:
    low, high = RANGES.get(name, (0, P if name in ("b2", "c2") else P - 1))
    return max(low, min(high, value))


def draw_public(rng: Random, st: Statement, table: Table, shards: int) -> tuple[str, Public]:
    """Public integers without a place, of a run's schedule or each at the ends of its range, and which of the two."""
    if rng.random() < 0.5:
        scheduled = _of_a_run(rng, st, table, shards)
        if scheduled is not None:
            return scheduled
    P, small = table.P, [0, 1, table.P // 2, table.P - 1, int(rng.integers(table.P))]
    c2 = pick(rng, [0, 1, P // 2, P - 1, P, P, int(rng.integers(P))])
    large = [0, 1, P, P * P, LARGEST_PUBLIC - 1, *(int(2 ** rng.uniform(0, 36)) for _ in range(3))]
    every = shards * table.R * table.C
    values = {
        "b2": P - c2 if rng.random() < 0.8 else pick(rng, [0, P, *small]), "c2": c2,
        "n": pick(rng, [1, table.C, every, every, every - 1, LARGEST_SIZE, int(2 ** rng.uniform(0, 28))]),
        "B": pick(rng, large), "e1": pick(rng, large), "e2": pick(rng, large),
        "D": pick(rng, [16, 256, 1 << 16, int(2 ** rng.uniform(4, 16))]),
        "r": pick(rng, small), "o": pick(rng, small), "j": pick(rng, small),
    }  # fmt: skip
    return "each by itself", Public({name: clamped(name, int(values[name]), P) for name in st.public})


def _of_a_run(rng: Random, st: Statement, table: Table, shards: int) -> tuple[str, Public] | None:
    choices: dict[str, list[float]] = {
        "beta2_decay": [-0.8, -0.8, -0.5, 0.0, -2.0], "eps1": [2.0**-23, 0.0, 1.0], "eps2": [1e-3, 1e-3, 1.0, 1e-6],
        "d": [1.0, 1.0, 0.25, 12.0, 16.0],
        "size": [int(rng.integers((shards - 1) * table.R * table.C + 1, shards * table.R * table.C + 1))],
    }  # fmt: skip
    hyper = {name: float(pick(rng, choices[name])) for name in st.defaults}
    max_lr = float(10.0 ** rng.uniform(-5, -1))
    step = pick(rng, [1, 1, 2, 3, 10, 1000, 10**6, 1 << 40])
    try:
        fmt = st.choose_format(hyper, max_lr, pick(rng, [0.01, 1.0, 3.0, 100.0]), table.P)
        pub = st.public_integers(hyper, max_lr * pick(rng, [1.0, 1.0, 0.5, 0.01, 0.0]), step, fmt, table.P)
    except FormatError:
        return None
    return "first step of a run" if step == 1 else "a step of a run", pub


Draw = Callable[[Random, Table], list[int]]


def _log(rng: Random, count: int, bits: float, signed: bool = True) -> list[int]:
    """Evenly spread in size."""
    signs = rng.choice([-1, 1] if signed else [1], count)
    return [int(s) * int(2 ** rng.uniform(0, bits)) for s in signs]


def _one(rng: Random, count: int, value: int) -> list[int]:
    found = [0] * count
    found[int(rng.integers(count))] = value
    return found


def _rows(rng: Random, t: Table) -> list[int]:
    """Rows and columns of every size, some far below the others."""
    rows, columns = (2.0 ** -rng.uniform(0, 0.8 * np.log2(t.P), n) for n in (t.R, t.C))
    part = np.outer(rows, columns if rng.random() < 0.5 else np.ones(t.C)) * rng.uniform(-t.P / 2, t.P / 2, (t.R, t.C))
    return [int(x) for x in part.reshape(-1)]


def _outside(rng: Random, t: Table) -> list[int]:
    g = _log(rng, t.R * t.C, np.log2(t.P) - 1)
    g[int(rng.integers(len(g)))] = pick(rng, [t.P // 2, -(t.P // 2) - 1, t.P])
    return g


GRADIENTS: dict[str, Draw] = {
    "none": lambda rng, t: [0] * (t.R * t.C),
    "one element alone": lambda rng, t: _one(rng, t.R * t.C, pick(rng, [1, -1, 5, t.P // 2 - 1, -(t.P // 2)])),
    "one row alone": lambda rng, t: [*_log(rng, t.C, np.log2(t.P) - 1), *[0] * ((t.R - 1) * t.C)],
    "one column alone": lambda rng, t: [x for y in _log(rng, t.R, np.log2(t.P) - 1) for x in [*[0] * (t.C - 1), y]],
    "all at the clip bound": lambda rng, t: [pick(rng, [1, -1]) * (t.P // 2 - 1)] * (t.R * t.C),
    "all at the low end": lambda rng, t: [-(t.P // 2)] * (t.R * t.C),
    "units": lambda rng, t: rng.integers(-1, 2, t.R * t.C).tolist(),
    "of every size": lambda rng, t: _log(rng, t.R * t.C, np.log2(t.P) - 1),
    "even": lambda rng, t: rng.integers(-(t.P // 2), t.P // 2, t.R * t.C).tolist(),
    "rows of every size": _rows,
    "outside the table": _outside,
}

WEIGHTS: dict[str, Draw] = {
    "none": lambda rng, t: [0] * (t.R * t.C),
    "one alone": lambda rng, t: _one(rng, t.R * t.C, pick(rng, [1, -1, 1 << 30])),
    "all alike": lambda rng, t: [pick(rng, [1, 99, -(1 << 13), 1 << 41])] * (t.R * t.C),
    "even": lambda rng, t: rng.integers(-(1 << 16), 1 << 16, t.R * t.C).tolist(),
    "of every size": lambda rng, t: _log(rng, t.R * t.C, pick(rng, [8, 24, 41])),
}


def _moments(rng: Random, t: Table, pub: Public, g: list[int]) -> tuple[str, list[int], list[int]]:
    """Of rows and of columns, of before the step."""
    squares = np.array([x * x for x in g], dtype=object).reshape(t.R, t.C)
    added = [int(x) for x in squares.sum(1)], [int(x) for x in squares.sum(0)]
    kind = pick(rng, ["none", "like the gradients", "like the gradients", "even", "of every size", "some far below",
                      "at a digit's end", "at a remainder's end", "beyond gradients", "negative"])  # fmt: skip
    found = []
    for new, other in zip(added, (t.C, t.R), strict=True):
        count, most = len(new), other * t.P * t.P // 4
        by = float(2 ** rng.uniform(-3, 5))
        draws = {
            "none": [0] * count,
            "like the gradients": [int(x * by * rng.uniform(0.5, 2)) for x in new],
            "even": [int(rng.integers(most)) for _ in new],
            "of every size": _log(rng, count, np.log2(most), False),
            "some far below": [int(x * by) >> pick(rng, [0, 0, 6, 14]) for x in new],
            "at a digit's end": [_aimed(rng, t, pub, x, count) for x in new],
            "at a remainder's end": [_remaining(rng, t, pub, x, most) for x in new],
            "beyond gradients": _log(rng, count, 3 * np.log2(t.P) + 0.1, False),
            "negative": [pick(rng, [1, 1, -1]) * x for x in _log(rng, count, np.log2(t.P), False)],
        }
        found.append(draws[kind])
    return kind, found[0], found[1]


def _aimed(rng: Random, t: Table, pub: Public, added: int, count: int) -> int:
    """Such that the moment after the step is at the end of one of its digits, or of the shard's sum of moments."""
    P = t.P
    after = pick(rng, [0, P - 1, P, P * P - 1, P * P, P**3 - 1, P**3, P * P // count])
    wanted = after * P + pick(rng, [0, P - 1]) - pub["c2"] * added - pub["r"]
    return max(0, -(-wanted // pub["b2"])) if pub["b2"] else int(rng.integers(P))


def _remaining(rng: Random, t: Table, pub: Public, added: int, most: int) -> int:
    """Such that the mean is next to where it is rounded to another integer."""
    common = math.gcd(pub["b2"], t.P)
    wanted = pick(rng, [0, t.P - 1]) - pub["c2"] * added - pub["r"]
    units = t.P // common
    first = wanted // common * pow(pub["b2"] // common, -1, units) % units if units > 1 else 0
    return first + units * int(rng.integers(max(1, most // units)))


def draw_block(rng: Random, st: Statement, table: Table) -> tuple[list[str], Public, list[Given]]:
    """Of what kind it is, public integers without places, and its one to four shards with their sums.

    Most blocks fit the table: a lie about one that does not is refused in any case.
    """
    tries = pick(rng, [1, 30, 30, 30, 30])
    for _ in range(tries):
        kinds, pub, parts = _block(rng, st, table)
        count = len(parts)
        if all(model.made(table, placed(pub, i, count), given).fits for i, given in enumerate(parts)):
            break
    return kinds, pub, parts


def _block(rng: Random, st: Statement, table: Table) -> tuple[list[str], Public, list[Given]]:
    shards = pick(rng, [1, 1, 2, 2, 3, 4])
    how, pub = draw_public(rng, st, table, shards)
    kinds, parts = [f"public integers: {how}"], []
    gradients, weights = pick(rng, list(GRADIENTS)), pick(rng, list(WEIGHTS))
    for _ in range(shards):
        if rng.random() < 0.2:
            gradients, weights = pick(rng, list(GRADIENTS)), pick(rng, list(WEIGHTS))
        g, w = GRADIENTS[gradients](rng, table), WEIGHTS[weights](rng, table)
        kind, r, c = _moments(rng, table, pub, g)
        kinds += [f"gradients: {gradients}", f"weights: {weights}", f"moments: {kind}"]
        parts.append(Given(w, r, c, g))
    if rng.random() < 0.5:
        kinds.append("public integers: moved to an edge")
        pub = at_an_edge(rng, table, pub, parts)
    return kinds, pub, model.block(table, pub, parts)


def at_an_edge(rng: Random, t: Table, pub: Public, parts: list[Given]) -> Public:
    """With some of the public integers such that two numbers are compared that are next to each other, or the largest
    step is at the table's end."""
    totals = model.block(t, pub, parts)[0].totals
    n = pub["n"] if rng.random() < 0.5 else 1
    mean = 4 * totals["M"] + n
    found: dict[str, int] = {"n": n}

    def move(name: str, value: int) -> None:
        if rng.random() < 0.5:
            found[name] = clamped(name, value + pick(rng, [-1, 0, 0, 1]), t.P)

    move("e2", totals["sw"] // n)
    move("e1", mean // n)
    kept = max(mean, n * (found.get("e1", pub["e1"])))
    move("D", 256 * kept * totals["su"] // max(1, mean * n * 4**t.s))
    changed = Public(pub | found)
    if rng.random() < 0.5 and changed["B"]:
        somewhere, given = Public(changed | {"first": 0, "last": 0}), model.block(t, changed, parts)
        after = [model.made(t, somewhere, x).values["post.w"] for x in given]
        steps = [abs(w - y) for x, ys in zip(given, after, strict=True) for w, y in zip(x.w, ys, strict=True)]
        share = (t.P // 2, max(1, *steps))
        changed["B"] = clamped("B", changed["B"] * share[0] // share[1] + pick(rng, [0, 0, 1]), t.P)
    return changed


def placed(pub: Public, shard: int, shards: int) -> Public:
    return Public(pub | {"first": int(shard == 0), "last": int(shard == shards - 1)})
