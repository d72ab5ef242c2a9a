"""The corpus of malicious witnesses: one function an attack, its docstring says what and why.

* :data:`LIES`: about one parameter. ``(rule, e)`` gives what stands instead of the honest element ``e``; nothing where
  the statement has no such value. Every lie differs from ``e``, or is dropped.
  Adafactor's is a shard's rule at one of its parameters (``tests/proofs/shards.py``), where some attacks read
  otherwise and two have nothing to attack: ``factored.py``.
* :data:`WITNESSES`: about whole columns. ``(case)`` gives columns.
* :data:`HONEST`: about whole columns as well, and no lie: the control.

``tests/proofs/test_corpus.py`` runs each against every circuit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tests.proofs.corpus import columns, fractions, integers, wrapped
from tests.proofs.corpus.base import Attack, Lie, Step, Whole
from tests.proofs.corpus.factored import NO_MEANING, READ
from tests.proofs.forging import Element
from tests.proofs.shards import ShardRule
from zk_autograd.field import MODULUS

LIES: Mapping[str, Attack[Lie]] = {a.name: a for m in (integers, fractions, wrapped) for a in m.LIES}
WITNESSES: Mapping[str, Attack[Whole]] = {a.name: a for a in columns.WITNESSES}
HONEST: Mapping[str, Attack[Whole]] = {a.name: a for a in columns.HONEST}


def lies(name: str, rule: Step, e: Element) -> Iterator[Element]:
    """What attack ``name`` puts in the place of ``e``; field elements that are the honest ones are no lie."""
    made: Iterable[Element]
    if not isinstance(rule, ShardRule):
        made = LIES[name].make(rule, e)
    elif name in NO_MEANING:
        made = ()
    else:
        made = READ[name](rule, e) if name in READ else LIES[name].make(rule, e)
    return (lie for lie in made if any((lie[key] - e[key]) % MODULUS for key in e))


__all__ = ["HONEST", "LIES", "NO_MEANING", "WITNESSES", "Attack", "lies"]
