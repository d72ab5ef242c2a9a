"""Exact integer arithmetic as straight-line code: GPUs have no instruction for 64-bit quotients or integer roots."""

import triton
import triton.language as tl


@triton.jit
def power_of_two(k):
    """``2.0**k`` in float64, from its bits, for ``-1022 <= k <= 1023``."""
    return ((k + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def floor_divide(x, P: tl.constexpr):
    """``floor(x / P)`` of any int64. By a constant: the compiler multiplies with its inverse, exactly."""
    q = x // P  # towards 0
    return q - (q * P > x).to(tl.int64)


@triton.jit
def root(x):
    """``floor(sqrt(x))`` for ``0 <= x < 2**44``.

    A float32 guess, corrected. As a float32 ``x`` is off by ``2**-24``, its root by half of that, and the GPU's fast
    square root by ``2**-23`` more, relatively: together by less than ``1.3 * 2**-23 * 2**22 = 0.65``. So the guess is
    off by at most 1, and there is one correction more than that either way.
    """
    s = tl.sqrt(x.to(tl.float32)).to(tl.int64)
    s = s - (s * s > x).to(tl.int64)
    s = s - (s * s > x).to(tl.int64)
    s = s + ((s + 1) * (s + 1) <= x).to(tl.int64)
    return s + ((s + 1) * (s + 1) <= x).to(tl.int64)


@triton.jit
def quotient(x, D, P: tl.constexpr, BITS: tl.constexpr):
    """``floor(x / D)`` where it lies in the table's range around 0, and whether it does, for ``1 <= D <= P < 2**BITS``.

    Moved up by ``P // 2`` the quotient ``q`` is in ``[0, P)`` and ``u = x + P//2 * D`` is in ``[0, P*D)``. Up to
    ``2**16`` both ``u < 2**32`` and ``D`` fit 32 bits, where division is straight-line code. Above, ``q`` is found bit
    by bit, from the highest: each is 1 if what remains of ``u`` is not below ``D`` times it.
    """
    u = x + (P // 2) * D
    inside = (u >= 0) & (u < P * D)
    u = tl.where(inside, u, 0)
    if BITS <= 16:
        q = (u.to(tl.uint32) // D.to(tl.uint32)).to(tl.int64)
    else:
        q = tl.zeros_like(u)
        for i in tl.static_range(BITS):
            part = D << (BITS - 1 - i)
            one = u >= part
            u = tl.where(one, u - part, u)
            q = q + (one.to(tl.int64) << (BITS - 1 - i))
    return q - P // 2, inside


@triton.jit
def in_table(x, P: tl.constexpr):
    """Whether ``-(P // 2) <= x < P - P // 2``."""
    return (x >= -(P // 2)) & (x < P - P // 2)


@triton.jit
def quantise(g, scale_g, clip):
    """``floor(g * 2**scale_g + 1/2)``, clipped to ``clip``; whether it was; whether it became zero; exact and rounded.

    The product is exact in float64, also as part of a fused multiply-add; the sum is the reference's, rounded alike.
    """
    exact = g.to(tl.float64) * power_of_two(scale_g)
    x = tl.floor(exact + 0.5)
    top = clip.to(tl.float64)
    clipped = tl.abs(x) > top
    x = tl.minimum(tl.maximum(x, -top), top)
    return x.to(tl.int64), clipped, (x == 0.0) & (exact != 0.0), exact, x


@triton.jit
def unsigned_bits(g):
    """The bits of floats without their sign, as int64: in the floats' order; those of no number and infinity last."""
    if g.dtype == tl.float32:
        bits = (g.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.int64)
    else:
        bits = g.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF
    return bits


@triton.jit
def report(counts, sums, g, clipped, zeroed, outside, exact, rounded):
    """Writes what this program counted to its row."""
    row = tl.program_id(0).to(tl.int64)
    tl.store(counts + 4 * row, tl.sum(clipped.to(tl.int32), 0).to(tl.int64))
    tl.store(counts + 4 * row + 1, tl.sum(zeroed.to(tl.int32), 0).to(tl.int64))
    tl.store(counts + 4 * row + 2, tl.sum(outside.to(tl.int32), 0).to(tl.int64))
    tl.store(counts + 4 * row + 3, tl.max(unsigned_bits(g), 0))
    rest = exact - rounded
    tl.store(sums + 2 * row, tl.sum(exact * exact, 0))
    tl.store(sums + 2 * row + 1, tl.sum(rest * rest, 0))


@triton.jit
def store(out, at, x, there):
    """Stores integers in the array's width; returns which do not fit it."""
    kept = x.to(out.dtype.element_ty)
    tl.store(out + at, kept, mask=there)
    return kept.to(tl.int64) != x


@triton.jit
def move(w, by, scale_w, out_w, out_image, at, there):
    """Stores ``w - by`` and its image, ``(w - by) / 2**scale_w`` rounded once; weights are below ``2**53``."""
    x = w - by
    tl.store(out_w + at, x, mask=there)
    image = x.to(tl.float64) * power_of_two(-scale_w)
    tl.store(out_image + at, image.to(out_image.dtype.element_ty), mask=there)
