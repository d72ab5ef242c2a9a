"""Many lies in one witness, each refused at its own place."""

from __future__ import annotations

from collections.abc import Iterable

from tests.proofs.forging import Case, Element
from tests.proofs.mocking import MockProver, Places


def assert_refused(c: Case, prover: MockProver, forged: Iterable[tuple[str, Element]]) -> int:
    """Every lie is refused by the bounds, and by the circuit at the same look-ups and no others; returns how many.

    Args:
        forged: lies with a name each; any of them may stand in any parameter, so each gets one of its own.
    """
    listed, places, slots = list(forged), Places(prover, c.circuit), list(c.honest)
    witnesses, expected = [], []
    order = {bound: i for i, bound in enumerate(c.rule.bounds(next(iter(c.honest.values()))))}
    for start in range(0, len(listed), len(slots)):
        part = listed[start : start + len(slots)]
        failed = [c.rule.violated(lie) for _, lie in part]
        taken = [name for (name, _), violated in zip(part, failed, strict=True) if not violated]
        assert taken == [], "the bounds take a lie"
        witnesses.append(c.columns({slot: lie for slot, (_, lie) in zip(slots, part, strict=False)}))
        expected.append(places.of(order[b] * len(slots) + i for i, names in enumerate(failed) for b in names))
    assert prover.refused(c.circuit, witnesses) == expected
    return len(listed)
