"""A proof of EZKL 23.0.5, taken apart: its commitments, challenges and evaluations, by name.

What anybody can do with a proof, a verifying key and no secret. Order and rounds are those of ``create_proof`` in
EZKL's fork of halo2 (``halo2_proofs/src/plonk/prover.rs``); challenges come from Keccak over everything before them
(``EvmTranscript`` of snark-verifier).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ezkl

from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import POINT_BYTES, Circuit
from zk_autograd.proofs.ezkl.child import _call
from zk_autograd.proofs.ezkl.commit import TAIL

_WORD = (1 << 64) - 1


@cache
def _round_constants() -> tuple[int, ...]:
    state, out = 1, []
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant ^= (state & 1) << ((1 << j) - 1)
            state = state << 1 ^ (state >> 7) * 0x171
        out.append(constant)
    return tuple(out)


def _turn(x: int, by: int) -> int:
    return (x << by | x >> (64 - by)) & _WORD if by else x


def _keccak_f(s: list[int]) -> None:
    for constant in _round_constants():
        parity = [s[i] ^ s[i + 5] ^ s[i + 10] ^ s[i + 15] ^ s[i + 20] for i in range(5)]
        for i in range(5):
            mixed = parity[i - 1] ^ _turn(parity[(i + 1) % 5], 1)
            for j in range(i, 25, 5):
                s[j] ^= mixed
        x, y, moved = 1, 0, s[1]
        for t in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            moved, s[x + 5 * y] = s[x + 5 * y], _turn(moved, (t + 1) * (t + 2) // 2 % 64)
        for j in range(0, 25, 5):
            row = s[j : j + 5]
            for i in range(5):
                s[j + i] = row[i] ^ (~row[(i + 1) % 5] & row[(i + 2) % 5] & _WORD)
        s[0] ^= constant


def keccak256(data: bytes) -> bytes:
    """Keccak with Ethereum's padding, which is not SHA3's."""
    padded = bytearray(data) + b"\x01"
    padded += bytes(-len(padded) % 136)
    padded[-1] |= 0x80
    state = [0] * 25
    for start in range(0, len(padded), 136):
        for i in range(17):
            state[i] ^= int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
        _keccak_f(state)
    return b"".join(x.to_bytes(8, "little") for x in state[:4])


@dataclass(frozen=True)
class Layout:
    """How many polynomials of each kind a circuit has; see ``docs/zero-knowledge.md``."""

    advice: int
    lookups: int
    products: int
    pieces: int

    @property
    def points(self) -> int:
        """Commitments before the evaluations."""
        return self.advice + 2 * self.lookups + self.products + 1 + self.pieces


def layout(circuit: Circuit) -> Layout:
    """The layout that a circuit's settings lead to, where each table fits into one column.

    A column for each input; three kinds of inner columns; an argument for each table and inner column. The degree is
    a look-up's, or that of a row's product with the result before it and a selector. The permutation takes all these,
    the constants and the instance, ``degree - 2`` columns a product.
    """
    settings = json.loads((circuit.directory / "settings.json").read_text())
    inner = settings["run_args"]["num_inner_cols"]
    tables = len(settings["required_lookups"]) + len(settings["required_range_checks"])
    advice, degree = len(settings["module_sizes"]["polycommit"]) + 3 * inner, max(5, inner + 2)
    return Layout(advice, tables * inner, products=-(-(advice + 2) // (degree - 2)), pieces=degree - 1)


@dataclass(frozen=True)
class Opened:
    """A proof's parts: points, POINT_BYTES each, and field elements.

    ``counts`` are the multiplicities at x, ``sums`` and ``sums_next`` the running sums at x and at omega x.
    """

    columns: list[bytes]
    multiplicities: list[bytes]
    running_sums: list[bytes]
    theta: int
    beta: int
    x: int
    evaluations: list[int]
    counts: list[int]
    sums: list[int]
    sums_next: list[int]


def key_digest(circuit: Circuit) -> bytes:
    """What a transcript starts with: the verifying key's digest, as EZKL writes it for a verifier on a chain."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vka"
        files = [circuit.directory / "vk.key", circuit.directory / "settings.json", path, circuit.srs_path]
        _call(ezkl.create_evm_vka, *map(str, files), 18)
        return path.read_bytes()[8:40]


def open_proof(proof: bytes, layout: Layout, digest: bytes) -> Opened:
    """Takes a proof apart and replays its challenges."""
    buffer, at = digest, 0

    def points(count: int) -> list[bytes]:
        nonlocal buffer, at
        taken = [proof[i : i + POINT_BYTES] for i in range(at, at + POINT_BYTES * count, POINT_BYTES)]
        buffer, at = buffer + b"".join(taken), at + POINT_BYTES * count
        return taken

    def challenge() -> int:
        nonlocal buffer
        buffer = keccak256(buffer + b"\x01" if len(buffer) == 32 else buffer)
        return int.from_bytes(buffer, "big") % MODULUS

    columns = points(layout.advice)
    theta = challenge()
    multiplicities = points(layout.lookups)
    beta, _gamma = challenge(), challenge()
    points(layout.products)
    sums = points(layout.lookups)
    points(1)
    challenge()
    points(layout.pieces)
    x = challenge()
    evaluations = [int.from_bytes(proof[i : i + 32], "big") for i in range(at, len(proof) - 2 * POINT_BYTES, 32)]
    tail = evaluations[-3 * layout.lookups :]
    return Opened(
        columns, multiplicities, sums, theta, beta, x, evaluations,
        counts=tail[2::3], sums=tail[0::3], sums_next=tail[1::3],
    )  # fmt: skip


def inverses(values: Sequence[int]) -> list[int]:
    """Of each element, with one inversion in all."""
    products = [1]
    for v in values:
        products.append(products[-1] * v % MODULUS)
    left, out = pow(products[-1], -1, MODULUS), [0] * len(values)
    for i in range(len(values) - 1, -1, -1):
        out[i] = left * products[i] % MODULUS
        left = left * values[i] % MODULUS
    return out


def root_of_unity(logrows: int) -> int:
    """omega: 7 generates the field's multiplicative group, whose order is divisible by 2^28."""
    return pow(7, (MODULUS - 1) >> logrows, MODULUS)


def lagrange(logrows: int, x: int) -> list[int]:
    """``L_i(x)`` for every row i."""
    rows, omega = 1 << logrows, root_of_unity(logrows)
    powers = [1]
    for _ in range(rows - 1):
        powers.append(powers[-1] * omega % MODULUS)
    scale = (pow(x, rows, MODULUS) - 1) * pow(rows, -1, MODULUS)
    inverted = inverses([(x - w) % MODULUS for w in powers])
    return [scale * w * i % MODULUS for w, i in zip(powers, inverted, strict=True)]


def column_at(weights: Sequence[int], column: Sequence[int]) -> int:
    """A committed column's value at the point of ``weights``, a list from :func:`lagrange`."""
    return (sum(v * w for v, w in zip(column, weights, strict=False)) + sum(weights[-TAIL:])) % MODULUS
