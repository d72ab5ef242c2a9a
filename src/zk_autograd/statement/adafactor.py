"""Adafactor over integers: Shazeer & Stern, arXiv:1804.04235, in PyTorch's form (``torch.optim.Adafactor``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from zk_autograd.errors import FormatError
from zk_autograd.fixed_point import Format, dithered, round_half_up, rounding_offset, scale_for, weight_scale
from zk_autograd.statement.base import Array, Hyper, Named, Ops, Public, Range, Region, Statement, dot, squares, zero
from zk_autograd.statement.matrix import column_squares, joined, outer, part, row_squares, total

LARGEST_SIZE = 1 << 28
"""Most elements of a matrix."""

LARGEST_PUBLIC = 1 << 36
LARGEST_D = 16.0

REACH = 16
"""Formats leave room for directions of this size at weights of a root mean square of 1; larger steps are limited."""

MOST_NOISE = 600
"""No profile looks up more noise."""

D_ONE = 256
"""One unit of the square of ``d``."""

EXACT = Context(prec=60)
"""Powers of the step are computed so; decimal's ``ln`` and ``exp`` are correctly rounded on every machine."""

R_DIGITS, M_DIGITS, SW_DIGITS, X_DIGITS = 3, 4, 5, 3
"""Digits of base ``P``: of a row's or column's moment, of sums of moments and of ``su``, of ``sw``, of ``X``."""


class Adafactor(Statement):
    """A shard is a matrix: rows of ``C``, as many as a proof holds. A block is one tensor, whole rows to a shard::

        r' = floor((b2*r + c2*sum of the row's g*g + r0) / P)          M   = sum of r' over the block
        c' = floor((b2*c + c2*sum of the column's g*g + r0) / P)       c*  = sums of c' over the block
        a  = isqrt(P*P*C*(4*M + n) / (16*n*(4*r' + C)))
        b  = isqrt(64*n*4**s*P*P / (4*C*c* + n))
        k  = floor(a*b*g / P)
        u  = floor((k + o) / P)                                        sw, su = sums of w*w and of u*u
        X  = isqrt(B*B*max(sw, n*e2) * min(max(4*M + n, n*e1) / ((4*M + n)*n*4**s), D / (256*su)))
        T  = floor((X + j) / P)
        w' = w - floor((T*u + r0) / P)

    ``n`` is the tensor's number of elements. In words: with a quarter of a unit added to each squared gradient, ``u``
    is ``g`` over the root of ``r'*c*/M``, with ``s`` fractional bits; ``X`` is the step's rate, times the root mean
    square of the weights, over that of ``u`` where it is above ``d``. ``c`` of a shard holds what its own rows have
    added to each column, so shards share no state. ``r0``, ``o`` and ``j`` dither: multiples of different irrational
    numbers. Of the state ``v`` a shard uses ``r`` and behind it ``c``; what comes after is 0 and counts for nothing.

    Args:
        length: ``C``, the length of a row; shorter rows are padded with zeros.
    """

    state = ("w", "v")
    hints = ("k", "u")
    public = ("b2", "c2", "n", "B", "e1", "e2", "D", "r", "o", "j")
    lookups = 6
    shaped = True
    coprime_rate = False
    largest_logrows = 17
    bits = 42

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length, self.optimizer = name, length, "Adafactor"
        self.carries = (*(f"c{j}" for j in range(length)), "M", "sw", "su")
        self.defaults = {"beta2_decay": -0.8, "eps1": 2.0**-23, "eps2": 1e-3, "d": 1.0, "size": float(length)}

    # Sizes.

    def rows(self, P: int) -> int:
        """Rows of a shard: as many as fit three columns of a circuit, see ``tests/proofs/test_adafactor.py``."""
        C = self.length
        roots = 6 * _root_digits(P)  # cells of the two differences of a root
        room = 3 * P * 998 // 1000 - (MOST_NOISE + 450 + C * (52 + roots))
        found = room // (24 * C + 28 + roots) // 3 * 3
        if found < 3:
            raise FormatError(f"{self.name}: a table of {P} is too small for rows of {C}")
        return found

    def shard_of(self, P: int) -> int | None:
        return self.rows(P) * self.length

    def region(self, shape: tuple[int, ...], P: int) -> Region | None:
        C, shard = self.length, self.rows(P) * self.length
        rows, width = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
        turned = width > C
        if turned:
            rows, width = width, rows
        if width > C:
            raise FormatError(
                f"{self.name}: a tensor of shape {shape} has no side of up to {C} elements (the first dimension, "
                "or all others together): take longer rows"
            )
        return Region(rows, width, turned, C, -(-rows * C // shard) * shard)

    def check_hyper(self, hyper: Hyper) -> None:
        for name, low, high in (("eps1", 0.0, 1.0), ("eps2", 0.0, 1.0), ("d", 0.25, LARGEST_D)):
            if not low <= hyper[name] <= high:
                raise FormatError(f"{self.name}: expected {low:g} <= {name} <= {high:g}, got {hyper[name]!r}")
        if not hyper["eps2"]:
            raise FormatError(f"{self.name}: expected eps2 above 0")
        if not -2.0 <= hyper["beta2_decay"] <= 0.0:
            raise FormatError(f"{self.name}: expected -2 <= beta2_decay <= 0, got {hyper['beta2_decay']!r}")
        if not (1 <= hyper["size"] <= LARGEST_SIZE and hyper["size"] == int(hyper["size"])):
            raise FormatError(f"{self.name}: expected a size of 1 to {LARGEST_SIZE} elements, got {hyper['size']!r}")

    def check_block(self, hyper: Hyper, shards: int, P: int) -> None:
        n, R = int(hyper["size"]), self.rows(P)
        if not -(-n // (R * self.length)) <= shards <= -(-n // R):
            raise FormatError(f"{self.name}: {n} elements do not take {shards} shards of {R} rows of {self.length}")

    def choose_format(self, hyper: Hyper, max_lr: float, clip: float, P: int) -> Format:
        self.check_hyper(hyper)
        # A layer without any gradient has the largest rate; so fine that X then leaves its digits no scale may be.
        highest = direction_bits(P) + 2 + (math.floor(-math.log2(hyper["eps1"]) / 2) if hyper["eps1"] else 30)
        scale_g, fixed = scale_for(clip, P // 2 - 1, min(30, highest))
        most = math.log2(LARGEST_PUBLIC) / 2 - 0.01 - math.log2(hyper["eps2"])
        scale_w = weight_scale(self.name, max_lr, lambda lr: min(most, math.log2((P // 2 - 8) / (REACH * lr))))
        return Format(scale_w, scale_g, 0, fixed)

    def public_integers(self, hyper: Hyper, lr: float, step: int, fmt: Format, P: int) -> Public:
        left = EXACT.exp(EXACT.multiply(Decimal(hyper["beta2_decay"]), EXACT.ln(Decimal(step))))
        c2 = min(P, dithered(Fraction(left) * P, step))
        rate = min(round_half_up(Fraction(lr) * P * P), math.isqrt(P**4 // step))
        pub = Public(
            b2=P - c2,
            c2=c2,
            n=int(hyper["size"]),
            B=rate,
            e1=round_half_up(4 * Fraction(hyper["eps1"]) * 4**fmt.scale_g),
            e2=round_half_up(Fraction(hyper["eps2"]) ** 2 * 4**fmt.scale_w),
            D=round_half_up(Fraction(hyper["d"]) ** 2 * D_ONE),
            r=rounding_offset(step, P),
            o=_share(7, step, P),
            j=_share(3, step, P),
        )
        if max(pub.B, pub.e1, pub.e2) >= LARGEST_PUBLIC:
            raise FormatError(f"{self.name}: a rate of {lr!r}, eps1 or eps2 does not fit the format {fmt}")
        return pub

    def rate_unit(self, fmt: Format, P: int) -> float:
        return 1.0 / (P * P)

    def rate_error(self, hyper: Hyper, lr: float, fmt: Format, P: int) -> float:
        # From the second step on it may lower the rate by itself.
        return abs(float(self.public_integers(hyper, lr, 1, fmt, P).B * self.rate_unit(fmt, P) / lr - 1))

    # The step, of a whole block or of one shard. Two rounds of sums: of moments, and then of directions.

    def advance(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        post, hints = self.begin(pre, g, pub, P, ops)
        hints |= self.middle(pre, post, g, self.sums(pre, post, hints, P), pub, P)
        scalars = self.settle(self.sums(pre, post, hints, P), pub, P)
        return self.finish(pre, post, hints | scalars, pub, P), hints | scalars

    def begin(self, pre: Named, g: Array, pub: Public, P: int, ops: Ops) -> tuple[dict[str, Array], dict[str, Array]]:
        C, R = self.length, self.rows(P)
        added = (g * g).reshape(-1, R, C)
        v = (pre["v"] * 0).reshape(-1, R * C)
        before = pre["v"].reshape(-1, R * C)
        v[:, :R] = (before[:, :R] * pub.b2 + added.sum(2) * pub.c2 + pub.r) // P
        v[:, R : R + C] = (before[:, R : R + C] * pub.b2 + added.sum(1) * pub.c2 + pub.r) // P
        return {"v": v.reshape(-1)}, {}

    def sums(self, pre: Named, post: Named, hints: Named, P: int) -> dict[str, Array]:
        C, R = self.length, self.rows(P)
        if hasattr(post["v"], "graph"):
            found = {f"c{j}": part(post["v"], R + j, 1) for j in range(C)} | {"M": total(part(post["v"], 0, R))}
        else:
            v = post["v"].reshape(-1, R * C)
            found = dict(zip((f"c{j}" for j in range(C)), v[:, R : R + C].sum(0).tolist(), strict=True))
            found["M"] = total(v[:, :R].sum(0))
        found["sw"] = squares(pre["w"])
        return found | ({"su": squares(hints["u"])} if "u" in hints else {})

    def middle(
        self, pre: Named, post: Named, g: Array, totals: Mapping[str, int], pub: Public, P: int
    ) -> dict[str, Array]:
        C, R = self.length, self.rows(P)
        rows = post["v"].reshape(-1, R * C)[:, :R]
        a = _like(rows, [self._row_root(x, totals["M"], pub, P) for x in rows.reshape(-1).tolist()])
        b = _like(rows, [self._column_root(totals[f"c{j}"], pub, P) for j in range(C)])
        # a*b*g leaves 64 bits: one digit of a*b at a time.
        both = outer(a, b)
        k = both // P * g + both % P * g // P
        return {"k": k, "u": (k + pub.o) // P}

    def _row_root(self, r: int, M: int, pub: Public, P: int) -> int:
        return _root(*self._row_share(r, M, pub, P), P)

    def _column_root(self, c: int, pub: Public, P: int) -> int:
        return _root(*self._column_share(c, pub, P), P)

    def _row_share(self, r: Array, M: Array, pub: Any, P: int) -> tuple[Array, Array]:
        """Numerator and denominator of ``a`` squared."""
        return (M * 4 + pub.n) * self.length * P * P, (r * 4 + self.length) * (pub.n * 16)

    def _column_share(self, c: Array, pub: Any, P: int) -> tuple[Array, Array]:
        """Numerator and denominator of ``b`` squared."""
        return pub.n * (64 * 4 ** direction_bits(P)) * P * P, c * (4 * self.length) + pub.n

    def finish(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> dict[str, Array]:
        T = hints["T.0"] + P * hints["T.1"]
        return {"w": pre["w"] - (hints["u"] * T + pub.r) // P} | dict(post)

    def ranges(self, pre: Named, post: Named, hints: Named, pub: Public, P: int) -> list[Range]:
        most = P // 2 - 4
        return [Range(hints["u"], -most, most), Range(post["w"] - pre["w"], -most, most)]

    def bounds(self, pre: Named, post: Named, g: Array, hints: Named, pub: Any, P: int) -> dict[str, Array]:
        a, b = (hints[f"{name}.0"] + hints[f"{name}.1"] * P for name in ("a", "b"))
        k, u = hints["k"], hints["u"]
        moved = post["w"] - pre["w"]
        T = hints["T.0"] + hints["T.1"] * P
        return {
            "k is the rounded product": dot((outer(a, b), g), (k, -P)),
            "u is the rounded direction": dot((k, 1), (u, -P), plus=pub.o),
            "w' is the rounded step": dot((u, T), (moved, P), plus=pub.r),
            "|g| < P/2": g + P // 2,
            "|u| < P/2": u + P // 2,
            "|w - w'| < P/2": moved + P // 2,
        }

    # What a shard has once: its rows' and columns' moments and roots, and the layer's rate.

    def scalars(self, P: int) -> tuple[str, ...]:
        return (
            *_names("M", M_DIGITS), *_names("sw", SW_DIGITS), *_names("su", M_DIGITS), "least w", "least M", "clipped",
            *_names("over w", _digits_for(P, 86)), *_names("over M", _digits_for(P, 72)),
            *_names("over d", _digits_for(P, 148)),
            *_names("X", X_DIGITS, 0), *_names("X-", _digits_for(P, 170)), *_names("X+", _digits_for(P, 170)),
            "T.0", "T.1",
        )  # fmt: skip

    def vectors(self, P: int) -> dict[str, int]:
        C, R, count = self.length, self.rows(P), _root_digits(P)
        found = dict.fromkeys(_names("r", R_DIGITS), R) | dict.fromkeys(_names("c", R_DIGITS), C)
        found |= dict.fromkeys(_names("c*", M_DIGITS), C)
        for name, size in (("a", R), ("b", C)):
            found |= dict.fromkeys([f"{name}.0", f"{name}.1"], size)
            found |= dict.fromkeys([*_names(f"{name}-", count), *_names(f"{name}+", count)], size)
        return found

    def detail(self, post: Named, totals: Mapping[str, int], pub: Public, P: int) -> dict[str, list[int]]:
        C, R, count = self.length, self.rows(P), _root_digits(P)
        r, c = post["v"][:R].tolist(), post["v"][R : R + C].tolist()
        columns = [totals[f"c{j}"] for j in range(C)]
        found = _uppers("r", r, R_DIGITS, P) | _uppers("c", c, R_DIGITS, P) | _uppers("c*", columns, M_DIGITS, P)
        shares = [self._row_share(x, totals["M"], pub, P) for x in r], [self._column_share(x, pub, P) for x in columns]
        for name, share in zip("ab", shares, strict=True):
            roots = [_root(num, den, P) for num, den in share]
            found[f"{name}.0"], found[f"{name}.1"] = [x % P for x in roots], [x // P for x in roots]
            both = list(zip(roots, share, strict=True))
            found |= _uppers(f"{name}-", [num - x * x * den for x, (num, den) in both], count, P)
            found |= _uppers(f"{name}+", [(x + 1) ** 2 * den - 1 - num for x, (num, den) in both], count, P)
        return {name: found[name] for name in self.vectors(P)}

    def settle(self, totals: Mapping[str, int], pub: Public, P: int) -> dict[str, int]:
        found = dict.fromkeys(self.scalars(P), 0)
        bits = {"least w": int(totals["sw"] < pub.n * pub.e2), "least M": int(4 * totals["M"] + pub.n < pub.n * pub.e1)}
        compared = self._compared(totals, bits, pub, P)
        bits["clipped"] = int(compared["over d"] < 0)
        num, den = self._squared_rate(totals, bits, pub, P)
        X = math.isqrt(num // den)
        found |= bits | {"T.0": (X + pub.j) // P % P, "T.1": (X + pub.j) // P // P}
        for i in range(X_DIGITS):
            found[f"X.{i}"] = X // P**i % P
        split = {"M": totals["M"], "sw": totals["sw"], "su": totals["su"]}
        split |= {name: abs(x) - (x < 0) for name, x in compared.items()}
        split |= {"X-": num - X * X * den, "X+": (X + 1) ** 2 * den - 1 - num}
        for name, x in split.items():
            count = 1 + sum(other.rpartition(".")[0] == name for other in found)
            found |= {upper: values[0] for upper, values in _uppers(name, [x], count, P).items()}
        if X >= P**X_DIGITS or X + pub.j >= P**3:
            raise FormatError(f"{self.name}: the rate of a layer's step is outside the range of the circuit")
        return found

    def block_bounds(
        self, pre: Named, post: Named, g: Array, hints: Named, totals: Named, pub: Any, P: int
    ) -> dict[str, Array]:
        C, R = self.length, self.rows(P)
        found: dict[str, Array] = {}
        for name, start, size, added in (("r", 0, R, row_squares(g, C)), ("c", R, C, column_squares(g, C))):
            old, new = part(pre["v"], start, size), part(post["v"], start, size)
            found[f"{name}' is the rounded mean"] = dot((old, pub.b2), (added, pub.c2), (new, -P), plus=pub.r)
            found |= _digits(f"{name}'", name, new, hints, P)
        columns = joined([totals[f"c{j}"] for j in range(C)])
        found |= _digits("c*", "c*", columns, hints, P)
        shares = self._row_share(part(post["v"], 0, R), totals["M"], pub, P), self._column_share(columns, pub, P)
        for name, (num, den) in zip("ab", shares, strict=True):
            found |= {f"{name}.{i} is a digit": hints[f"{name}.{i}"] for i in (0, 1)}
            root = hints[f"{name}.0"] + hints[f"{name}.1"] * P
            found |= _root_bounds(name, root, num, den, hints, P)
        return found | self._rate_bounds(hints, totals, pub, P)

    def _rate_bounds(self, hints: Named, totals: Named, pub: Any, P: int) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name in ("M", "sw", "su"):
            found |= _digits(name, name, totals[name], hints, P)
        bits = {name: hints[name] for name in ("least w", "least M", "clipped")}
        names = zip(bits.items(), self._compared(totals, bits, pub, P).items(), strict=True)
        for (bit, f), (name, x) in names:
            found |= zero(f"{bit} is 0 or 1", f - f * f)
            found |= _digits(f"{bit} is right", name, (1 - f * 2) * x - f, hints, P)
        X = (hints["X.2"] * P + hints["X.1"]) * P + hints["X.0"]
        T = hints["T.0"] + hints["T.1"] * P
        found |= _root_bounds("X", X, *self._squared_rate(totals, bits, pub, P), hints, P)
        found["T is the rounded rate"] = X + pub.j - T * P
        return found | {f"{name} is a digit": hints[name] for name in (*_names("X", X_DIGITS, 0), "T.0", "T.1")}

    def _compared(self, totals: Named, bits: Named, pub: Any, P: int) -> dict[str, Array]:
        """What is below 0 exactly where the bits are 1, in their order."""
        mean = totals["M"] * 4 + pub.n
        over_w, over_M = totals["sw"] - pub.n * pub.e2, mean - pub.n * pub.e1
        kept = mean - over_M * bits["least M"]
        spread = mean * pub.n * 4 ** direction_bits(P)
        over_d = spread * pub.D - kept * totals["su"] * D_ONE
        return {"over w": over_w, "over M": over_M, "over d": over_d}

    def _squared_rate(self, totals: Named, bits: Named, pub: Any, P: int) -> tuple[Array, Array]:
        """Numerator and denominator of ``X`` squared."""
        mean, least = totals["M"] * 4 + pub.n, pub.n * pub.e2
        kept = mean + (pub.n * pub.e1 - mean) * bits["least M"]
        spread = mean * pub.n * 4 ** direction_bits(P)
        weights = totals["sw"] + (least - totals["sw"]) * bits["least w"]
        num = kept + (pub.D - kept) * bits["clipped"]
        den = spread + (totals["su"] * D_ONE - spread) * bits["clipped"]
        return weights * pub.B * pub.B * num, den


def direction_bits(P: int) -> int:
    """Fractional bits of a direction: those up to 128 are in the table."""
    return (P + 7).bit_length() - 8


def _root_digits(P: int) -> int:
    """Digits of the two differences of a root: ``2*a*den`` of honest moments, below ``2**(47 + 3*logrows)``."""
    return _digits_for(P, 42 + 3 * P.bit_length())


def _digits_for(P: int, bits: int) -> int:
    return next(n for n in range(1, bits) if P**n >= 1 << bits)


def _names(name: str, count: int, first: int = 1) -> list[str]:
    """Names of digits; the lowest is not named where it is what the others leave."""
    return [f"{name}.{i}" for i in range(first, count)]


def _uppers(name: str, values: list[int], count: int, P: int) -> dict[str, list[int]]:
    """The digits but the lowest of numbers from 0 to below ``P**count``."""
    if not all(0 <= x < P**count for x in values):
        raise FormatError(f"adafactor: {name} is outside the range of the circuit")
    return {upper: [x // P**i % P for x in values] for i, upper in enumerate(_names(name, count), 1)}


def _digits(said: str, name: str, x: Array, hints: Named, P: int) -> dict[str, Array]:
    """Bounds that hold only if ``x`` is an integer from 0 on with so many digits; the lowest has no name."""
    uppers = [hints[key] for key in hints if key.rpartition(".")[0] == name]
    number = uppers[-1]
    for digit in uppers[-2::-1]:
        number = number * P + digit
    return {f"{said}, digit 0": x - number * P} | {f"{said}, digit {i}": x for i, x in enumerate(uppers, 1)}


def _root_bounds(name: str, root: Array, num: Array, den: Array, hints: Named, P: int) -> dict[str, Array]:
    """Bounds that hold only if ``root`` is the root of ``num / den``, rounded down."""
    above = root + 1
    found = _digits(f"{name}*{name}*den <= num", f"{name}-", num - root * root * den, hints, P)
    return found | _digits(f"num < ({name}+1)*({name}+1)*den", f"{name}+", above * above * den - 1 - num, hints, P)


def _root(num: int, den: int, P: int) -> int:
    if den < 1 or num < 0 or (found := math.isqrt(num // den)) >= P * P:
        raise FormatError("adafactor: moments are outside the range of the circuit")
    return found


def _like(array: Array, values: list[int]) -> Array:
    """A vector of the array's kind."""
    if hasattr(array, "new_tensor"):
        return array.new_tensor(values)
    return np.array(values, dtype=array.dtype)


def _share(number: int, step: int, P: int) -> int:
    """Multiples of the square root of ``number``, modulo 1, in units of ``1/P``."""
    unit = 1 << 32
    return step * math.isqrt(number * unit * unit) % unit * P >> 32


FAMILY = tuple(Adafactor(f"adafactor-{length}", length) for length in (16, 64, 256))
