"""Shards of Adafactor for lies: computed whatever they hold, and with values that follow from a lie."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tests.proofs.adafactor_scenes import ST, Scene, state
from zk_autograd.proofs.base import OPS, Circuit
from zk_autograd.statement import Public
from zk_autograd.statement.adafactor import X_DIGITS

BITS = ("least w", "least M", "clipped")
"""No integer makes ``f - f*f`` positive. A field element does: see the test of these."""

OVER = {"least w": "over w", "least M": "over M", "clipped": "over d"}


def computed(
    circuit: Circuit, pub: Public, v: dict[int, int] | None = None, g: dict[int, int] | None = None,
    w: int | None = None,
) -> Scene:  # fmt: skip
    """The only shard but for the places of a block, with everything as the statement computes it, in range or not."""
    rng, P, shard = np.random.default_rng(4), circuit.P, circuit.shard
    pre = state(circuit, rng)
    gradient = rng.integers(-9, 9, shard)
    for place, value in (v or {}).items():
        pre["v"][place] = value
    if w is not None:
        pre["w"][:] = w
    for place, value in (g or {}).items():
        gradient[place] = value
    post, hints = ST.begin(pre, gradient, pub, P, OPS)
    hints |= ST.middle(pre, post, gradient, ST.sums(pre, post, hints, P), pub, P)
    totals = ST.sums(pre, post, hints, P)
    scalars = ST.settle(totals, pub, P)
    done = ST.finish(pre, post, hints | scalars, pub, P)
    at = {f"pre.{n}": x.tolist() for n, x in pre.items()} | {f"post.{n}": done[n].tolist() for n in ST.state}
    at |= {"g": gradient.tolist()} | {n: hints[n].tolist() for n in ST.hints} | {n: [x] for n, x in scalars.items()}
    at |= ST.detail(post, totals, pub, P)
    sums, placed = [totals[n] for n in ST.carries], Public(pub | {"first": 0, "last": 0})
    return Scene(circuit, placed, at, [0] * len(sums), sums, sums)


def idle(circuit: Circuit, pub: Public) -> Scene:
    """A shard of zeros: whatever the layer's rate is, its weights stay."""
    s = computed(circuit, pub, v=dict.fromkeys(range(circuit.shard), 0), g=dict.fromkeys(range(circuit.shard), 0), w=0)
    # Totals of others.
    others = {f"c{j}": 10**6 + j for j in range(ST.length)} | {"M": 16 * 10**6, "sw": 10**11 + 7, "su": 10**7 + 1}
    return resettled(replace(s, totals=[others[n] for n in ST.carries]))


def resettled(s: Scene) -> Scene:
    totals, P = dict(zip(ST.carries, s.totals, strict=True)), s.circuit.P
    post = {n: np.array(s.at[f"post.{n}"], dtype=np.int64) for n in ST.state}
    found = {n: [x] for n, x in ST.settle(totals, s.pub, P).items()} | ST.detail(post, totals, s.pub, P)
    return replace(s, at=s.at | found)


def with_bit(s: Scene, name: str, value: int) -> Scene | None:
    """Another bit, and all that follows from it, the highest digit of its difference whatever is left; None if more."""
    P, pub = s.circuit.P, s.pub
    totals = dict(zip(ST.carries, s.totals, strict=True))
    bits = {f: s.at[f][0] for f in BITS} | {name: value}
    changes = [(name, 0, value)]
    for f, (over, x) in zip(BITS, ST._compared(totals, bits, pub, P).items(), strict=True):
        if f != name and f == "clipped":
            bits[f] = int(x < 0)
            changes.append((f, 0, bits[f]))
        rest = (1 - 2 * bits[f]) * x - bits[f]
        digits = [n for n in s.at if n.rpartition(".")[0] == over]
        if f != name and not 0 <= rest < P ** (len(digits) + 1):
            return None
        changes += [(n, 0, rest // P**i if i == len(digits) else rest // P**i % P) for i, n in enumerate(digits, 1)]
    num, den = ST._squared_rate(totals, bits, pub, P)
    if num < 0 or den < 1:
        return None
    X = math.isqrt(num // den)
    T = (X + pub.j) // P
    changes += [(f"X.{i}", 0, X // P**i) for i in range(X_DIGITS - 1, X_DIGITS)]
    changes += [(f"X.{i}", 0, X // P**i % P) for i in range(X_DIGITS - 1)]
    changes += [("T.0", 0, T % P), ("T.1", 0, T // P)]
    return differences(s.lie(*changes), "X", 0, X, num, den)


def moved(s: Scene, name: str, by: int, *others: tuple[str, int]) -> Scene:
    """The first element of a vector at which what is below stays in the table, changed by so much."""
    for place in range(len(s.at[name])):
        if all(by_other < -1 or s.at[other][place] + by_other >= 0 for other, by_other in others):
            break
    changes = [(name, place, s.at[name][place] + by)]
    return s.lie(*changes, *((other, place, s.at[other][place] + b) for other, b in others))


def whole_X(s: Scene) -> int:
    return sum(s.at[f"X.{i}"][0] * s.circuit.P**i for i in range(X_DIGITS))


def whole_T(s: Scene) -> int:
    return s.at["T.0"][0] + s.at["T.1"][0] * s.circuit.P


def rooted(s: Scene, row: int) -> Scene:
    """With the differences of a row's root as they are for its moment, the root itself as before."""
    P, pub = s.circuit.P, s.pub
    num, den = ST._row_share(s.at["post.v"][row], s.totals[ST.carries.index("M")], pub, P)
    a = s.at["a.0"][row] + P * s.at["a.1"][row]
    return differences(s, "a", row, a, num, den)


def differences(s: Scene, name: str, place: int, root: int, num: int, den: int) -> Scene:
    """The digits of a root's two differences, the highest whatever is left."""
    P, changes = s.circuit.P, []
    for letter, rest in ((f"{name}-", num - root * root * den), (f"{name}+", (root + 1) ** 2 * den - 1 - num)):
        digits = [n for n in s.at if n.rpartition(".")[0] == letter]
        for i, digit in enumerate(digits, 1):
            changes.append((digit, place, rest // P**i if i == len(digits) else rest // P**i % P))
    return s.lie(*changes)


def beyond(s: Scene, totals: dict[str, int], name: str, count: int) -> Scene:
    """Settled for totals of which one has a digit too many; its own digits are cut where the circuit's end."""
    P = s.circuit.P
    fitting = ST.settle(totals | {name: P**count - 1}, s.pub, P)
    bits = {f: fitting[f] for f in BITS}
    changes = [(f, 0, bits[f]) for f in BITS]
    changes += [(f"{name}.{i}", 0, totals[name] // P**i if i == count - 1 else totals[name] // P**i % P)
                for i in range(1, count)]  # fmt: skip
    for f, (over, x) in zip(BITS, ST._compared(totals, bits, s.pub, P).items(), strict=True):
        rest = (1 - 2 * bits[f]) * x - bits[f]
        changes += [(n, 0, rest // P**i) if n == last(s, over) else (n, 0, rest // P**i % P)
                    for i, n in enumerate((m for m in s.at if m.rpartition(".")[0] == over), 1)]  # fmt: skip
    num, den = ST._squared_rate(totals, bits, s.pub, P)
    X = math.isqrt(num // den)
    T = (X + s.pub.j) // P
    changes += [("X.0", 0, X % P), ("X.1", 0, X // P % P), ("X.2", 0, X // P**2), ("T.0", 0, T % P), ("T.1", 0, T // P)]
    return differences(replace(s, totals=[totals[n] for n in ST.carries]).lie(*changes), "X", 0, X, num, den)


def last(s: Scene, group: str) -> str:
    return [n for n in s.at if n.rpartition(".")[0] == group][-1]
