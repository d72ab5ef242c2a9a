"""One run's events as they were collected."""

from __future__ import annotations

from dataclasses import dataclass, field

from consumers.audit.kept import Entries, Proofs
from consumers.audit.kept_chain import ChainEvents
from consumers.audit.noise import Finding, Noise
from consumers.audit.reading import Item
from schemas.events import Anchored, CheckpointIssued, RunStarted
from schemas.keyring import KeyRing
from schemas.signing import Opened
from zk_autograd.policy import Policy


@dataclass
class Collected:
    """One run's events, opened: steps in the order of their numbers, the rest in topic order.

    Attributes:
        unaccepted: records that no accepted key signed for this topic and run.
        repeated: how many records say again what another says.
        named: whether a record that was not accepted claims to be the run's.
        mode: how signatures were looked at (:mod:`consumers.audit.signatures`).
    """

    ring: KeyRing
    policy: Policy
    run_id: bytes
    mode: str = "all"
    unaccepted: Noise = field(default_factory=Noise)
    repeated: int = 0
    named: bool = False
    runs: dict[bytes, str] = field(default_factory=dict)
    start: Opened[RunStarted] | None = None
    chain: ChainEvents = field(default_factory=ChainEvents)
    proofs: Proofs = field(default_factory=Proofs)
    checkpoints: list[Opened[CheckpointIssued]] = field(default_factory=list)
    anchored: list[Opened[Anchored]] = field(default_factory=list)
    records: int = 0
    used_keys: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ledger = Entries(self.run_id)

    @property
    def noise(self) -> list[Finding]:
        """What is named of ``unaccepted``."""
        return self.unaccepted.findings

    @property
    def refused(self) -> int:
        """How many records were not accepted that the ledger has refused."""
        return self.unaccepted.refused

    def refuse(self, item: Item, why: object) -> None:
        """This record is not accepted."""
        if item.claimed is not None:
            event = item.claimed.event
            self.named |= self.run_id in (item.claimed.event_id, getattr(event, "run_id", None))
        self.unaccepted.take(item, why)

    def repeat(self, _item: Item) -> None:
        """This record says again what another says."""
        self.repeated += 1
