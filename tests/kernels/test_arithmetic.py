"""The kernels' quotients and roots are exact wherever their comments say so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

torch = pytest.importorskip("torch")
numba = pytest.importorskip("numba", reason="numba is not installed: pip install 'zk-autograd[train]'")
triton = pytest.importorskip("triton", reason="triton is not installed: pip install 'zk-autograd[gpu]'")

import triton.language as tl  # noqa: E402

from zk_autograd.host_kernels import adam  # noqa: E402
from zk_autograd.host_kernels import arithmetic as host  # noqa: E402
from zk_autograd.triton_kernels import LARGEST_TABLE  # noqa: E402
from zk_autograd.triton_kernels import arithmetic as gpu  # noqa: E402

TABLES = [2**12 - 8, 2**15 - 8, 2**16 - 8]
BLOCK = 1024
NARROW = some.integers(-(2**15), 2**15 - 1)
SLIPS = some.floats(-0.99, 0.99)


@numba.njit
def first_wrong_root(start: int, stop: int) -> int:
    """The first number whose root is not the floored one; -1 if none."""
    for x in range(start, stop):
        s = np.int64(host.root(np.int32(x)))
        if s * s > x or (s + 1) * (s + 1) <= x:
            return x
    return -1


@numba.njit
def first_wrong_square(stop: int) -> int:
    """The first ``k`` for which a root next to ``k*k`` is wrong; -1 if none."""
    for k in range(1, stop):
        for x, s in ((k * k - 1, k - 1), (k * k, k), (k * k + 1, k)):
            if np.int64(host.root(np.int32(x))) != s:
                return k
    return -1


def test_host_roots_are_exact_on_both_sides_of_every_square() -> None:
    assert first_wrong_square(2**15) == -1


@pytest.mark.slow
def test_host_roots_are_exact_for_every_number_below_two_to_the_thirty() -> None:
    assert first_wrong_root(0, 2**30) == -1


def test_a_root_without_its_corrections_would_be_wrong() -> None:
    """Float32 holds no number above 2**24 exactly."""
    k = np.arange(2, 2**15, dtype=np.int64)
    assert np.any(np.sqrt((k * k - 1).astype(np.float32)).astype(np.int64) != k - 1)


@pytest.mark.parametrize("P", TABLES)
@given(q=some.integers(-(2**50) // 2**12, 2**50 // 2**12), around=some.integers(-2, 2))
@example(q=0, around=-1)
@example(q=-1, around=0)
@settings(deadline=None, max_examples=300)
def test_host_quotients_by_the_table_are_floored_next_to_every_multiple(P: int, q: int, around: int) -> None:
    x = max(min(q * P, 2**50 - 4), -(2**50) + 4) + around
    assert host.floor_divide(float(x) + 0.5, 1.0 / P) == x // P


@given(q=some.integers(-(2**17) + 1, 2**17 - 1), D=some.integers(1, 2**17), around=some.integers(-2, 2), off=SLIPS)
@example(q=-1, D=2**16 - 8, around=0, off=-0.99)
@example(q=2**15 - 1, D=2**16 - 8, around=-1, off=0.99)
@settings(deadline=None, max_examples=500)
def test_host_quotients_are_floored_next_to_every_multiple(q: int, D: int, around: int, off: float) -> None:
    """Whatever the guess, as long as it is off by less than 1."""
    x = q * D + around
    guess = np.float32(x / D + off)
    if abs(x // D) < host.REACH and abs(float(guess) - x / D) < 1:
        assert host.near_quotient(guess, np.int32(wrap(x)), np.int32(D)) == x // D


@given(q=some.integers(-(2**17) + 1, 2**17 - 1), D=some.integers(1, 2**17), rest=some.floats(0, 1), off=SLIPS)
@example(q=-1, D=2**16 - 8, rest=0.0, off=0.99)
@example(q=2**15 - 1, D=2**16 - 8, rest=1.0, off=0.99)
@settings(deadline=None, max_examples=500)
def test_host_quotients_from_below_are_floored(q: int, D: int, rest: float, off: float) -> None:
    x = q * D + min(int(rest * D), D - 1)
    guess = np.float32(x / D - abs(off))
    if 0 < x / D - float(guess) < 1 and abs(q) < host.REACH:
        assert host.quotient_above(guess, np.int32(wrap(x)), np.int32(D)) == q


@pytest.mark.parametrize("P", TABLES)
@given(b1=some.integers(0, 2**16), m=NARROW, e=NARROW, r=some.integers(0, 2**16), exact=some.booleans())
@example(b1=2**16, m=-(2**15), e=-(2**15), r=0, exact=True)
@example(b1=0, m=2**15 - 1, e=2**15 - 1, r=2**16, exact=False)
@example(b1=2**15, m=2**15 - 1, e=2**15 - 1, r=2**16, exact=True)
@settings(deadline=None, max_examples=500)
def test_host_means_of_16_bits_are_floored(P: int, b1: int, m: int, e: int, r: int, exact: bool) -> None:
    """Over all such numbers; ``exact`` ones with dividends next to a multiple of the table."""
    b1, r = min(b1, P), min(r, P - 1)
    c1 = P - b1
    if exact:
        r = -(b1 * m + c1 * e) % P
    out = np.empty(8, np.int16)
    for slip in (-1, 0, 1):
        if 0 <= r + slip < P:
            adam._narrow_means(np.full(8, e, np.int16), np.full(8, m, np.int16), b1, c1, r + slip, P, out)
            assert out.tolist() == [(b1 * m + c1 * e + r + slip) // P] * 8


@given(x=some.integers(-(2**62), 2**62), D=some.integers(1, 2**17))
@settings(deadline=None, max_examples=300)
def test_host_quotients_out_of_reach_stay_large(x: int, D: int) -> None:
    found = int(host.near_quotient(np.float32(x) / np.float32(D), np.int32(wrap(x)), np.int32(D)))
    if abs(x // D) < host.REACH:
        assert found == x // D
    else:
        assert abs(found) >= host.REACH - 2


def wrap(x: int) -> int:
    """The lower 32 bits, as a signed integer."""
    return (x + 2**31) % 2**32 - 2**31


@given(x=some.integers(-(2**63), 2**63 - 1))
def test_integers_wrap_as_those_of_32_bits_do(x: int) -> None:
    assert host.wrapped(x) == wrap(x)


@triton.jit
def roots(x: Any, out: Any, n: Any, BLOCK: tl.constexpr) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, gpu.root(tl.load(x + at, mask=at < n, other=0)), mask=at < n)


@triton.jit
def quotients(x: Any, D: Any, out: Any, inside: Any, n: Any, P: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    q, fits = gpu.quotient(tl.load(x + at, mask=at < n, other=0), tl.load(D + at, mask=at < n, other=1), P, BITS)
    tl.store(out + at, q, mask=at < n)
    tl.store(inside + at, fits.to(tl.int64), mask=at < n)


@triton.jit
def floors(x: Any, out: Any, n: Any, P: tl.constexpr, BLOCK: tl.constexpr) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, gpu.floor_divide(tl.load(x + at, mask=at < n, other=0), P), mask=at < n)


def launch(kernel: Any, *arguments: Any, n: int, **constants: Any) -> None:
    kernel[(-(-n // BLOCK),)](*arguments, n, BLOCK=BLOCK, **constants)


def test_triton_roots_are_exact_on_both_sides_of_squares_up_to_the_largest() -> None:
    end = LARGEST_TABLE // 2 + 2
    k = torch.cat([torch.arange(1, 5000), torch.arange(2**15 - 500, 2**15 + 500), torch.arange(end - 40_000, end)])
    x = torch.cat([k * k - 1, k * k, k * k + 1, torch.tensor([0])])
    out = torch.empty_like(x)
    launch(roots, x, out, n=len(x))
    assert out.tolist() == [math.isqrt(v) for v in x.tolist()]


@pytest.mark.parametrize("P", [*TABLES, 2**17 - 8, 2**20 - 8, LARGEST_TABLE - 8])
def test_triton_quotients_are_floored_next_to_every_multiple_and_held_to_the_table(P: int) -> None:
    rng = np.random.default_rng(P)
    D = torch.tensor(rng.integers(1, P + 1, 20_000))
    D[:6] = torch.tensor([1, 2, P, P - 1, P // 2, 3])
    q = torch.tensor(rng.integers(-P, P, 20_000))
    q[6:12] = torch.tensor([-(P // 2), P - P // 2, -(P // 2) - 1, P - P // 2 - 1, 0, -1])
    x = q * D + torch.tensor(rng.integers(-2, 3, 20_000))
    x[12:14] = torch.tensor([2**62, -(2**62)])
    out, inside = torch.empty_like(x), torch.empty_like(x)
    launch(quotients, x, D, out, inside, n=len(x), P=P, BITS=P.bit_length())
    expected = x // D
    fits = (expected >= -(P // 2)) & (expected < P - P // 2)
    assert torch.equal(inside.bool(), fits)
    assert 1000 < int(fits.sum()) < 19_000
    assert torch.equal(out[fits], expected[fits])


@pytest.mark.parametrize("P", TABLES)
def test_triton_quotients_by_the_table_are_floored_over_all_of_64_bits(P: int) -> None:
    rng = np.random.default_rng(P)
    q = rng.integers(-(2**62) // P, 2**62 // P, 20_000)
    x = torch.tensor(np.concatenate([q * P + rng.integers(-2, 3, 20_000), [0, -1, 1, 2**63 - 1, -(2**63)]]))
    out = torch.empty_like(x)
    launch(floors, x, out, n=len(x), P=P)
    assert out.tolist() == [v // P for v in x.tolist()]
