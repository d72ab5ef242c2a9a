"""What an audit comes to: one outcome per numbered check, and the verdict over all."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from anchor import ReceiptFacts
from consumers.audit.accepted import Accepted
from ledger.chain import RunChain
from ledger.epochs import epoch_range
from zk_autograd.proofs.base import Circuit

if TYPE_CHECKING:
    from consumers.audit.sampled import Sampling
    from consumers.audit.spot import Spot

TITLES = (
    "strict decoding",
    "signatures and key evidence",
    "run start, circuit, SRS",
    "event chain: no gap, fork or repeat",
    "public integers follow the schedule",
    "proofs verify",
    "commitments belong to the steps",
    "ledger complete and in order",
    "Merkle roots and checkpoints",
    "anchor receipts",
    "live counters",
    "evidence classes allowed",
)


MOST = 10_000
"""So many findings of a check are named; the rest is counted."""


class Status(StrEnum):
    """Outcome of one check."""

    PASSED = "passed"
    VIOLATED = "violated"
    UNCHECKED = "not checked"


@dataclass
class Check:
    """One numbered check and what it found."""

    number: int
    status: Status = Status.PASSED
    detail: str = ""
    findings: list[str] = field(default_factory=list)

    more: int = 0
    """Findings beyond those that are named."""

    @property
    def title(self) -> str:
        """What it is about."""
        return TITLES[self.number]

    def found(self, text: str) -> None:
        """Adds a finding, or counts it: after a gap every later step is one."""
        if len(self.findings) < MOST:
            self.findings.append(text)
        else:
            self.more += 1


@dataclass
class Audit:
    """The outcome. ``exit_code``: 0 sound, 1 violated, 2 could not be checked."""

    run_id: bytes
    checks: list[Check] = field(default_factory=lambda: [Check(i) for i in range(len(TITLES))])
    epoch: int | None = None
    """The only epoch whose proofs are looked at; None: all are."""
    spot: Spot | None = None
    """Which proofs are verified; None: all that count."""
    chain: RunChain | None = None
    circuit: Circuit | None = None
    sampling: Sampling | None = None
    """What was drawn, of a sampled run; None: all of it has to be proven."""
    accepted: Accepted = field(default_factory=Accepted)
    """Steps of which every shard that has to be is proven."""
    rates: list[dict[str, Any]] | None = None
    """Learning rates, declared and taken; None without a chain."""
    gradients: dict[str, Any] | None = None
    """What the steps state of their gradients; None without a chain."""
    signatures: str = "all"
    """Which signatures were looked at."""
    proven: int = 0
    proofs_verified: int = 0
    remembered: int = 0
    """So many of these were verified by an earlier audit of this home."""
    size: int = 0
    cosigned: int | None = None
    """So many of the ledger's entries have the cosignatures that the policy wants; None: it wants none."""
    anchors: list[ReceiptFacts] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)
    refused: int = 0
    noise: list[str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)

    def violated(self, number: int, text: str) -> None:
        """Records a finding."""
        check = self.checks[number]
        check.status = Status.VIOLATED
        check.found(text)

    def unchecked(self, number: int, why: str) -> None:
        """Records that a check could not be made."""
        check = self.checks[number]
        if check.status is Status.PASSED:
            check.status, check.detail = Status.UNCHECKED, why

    @property
    def violations(self) -> bool:
        """Whether something does not hold."""
        return any(c.status is Status.VIOLATED for c in self.checks)

    @property
    def incomplete(self) -> bool:
        """Whether something was not checked. A live counter that nobody asked for (check 10) does not count."""
        required = {c.status for c in self.checks if c.number != 10}
        return Status.UNCHECKED in required or bool(self.checks[10].findings)

    @property
    def steps(self) -> range:
        """The steps whose proofs are looked at.

        Raises:
            UsageError: the run has no such epoch.
        """
        if self.chain is None:
            return range(0)
        count = len(self.chain.steps)
        if self.epoch is None:
            return range(1, count + 1)
        return epoch_range(self.epoch, self.chain.start.epoch_steps, count)

    @property
    def exit_code(self) -> int:
        """See the class docstring."""
        return 1 if self.violations else 2 if self.incomplete else 0
