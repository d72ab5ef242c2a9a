"""What a verifier trusts: chosen by the verifier, never taken from what the data says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zk_autograd.errors import DecodeError, UsageError
from zk_autograd.files import read_capped
from zk_autograd.note_keys import WitnessKey, require_distinct

CLASSES = ("SIMULATED", "NITRO", "SEV_SNP")
SRS_CLASSES = ("CEREMONY", "DEV")
MAX_BYTES = 1 << 20
"""Largest policy file read."""

_KEYS = {
    "version", "evidence_classes", "roots", "srs_classes", "circuits", "ledger_keys", "anchors", "witnesses",
    "min_sampled",
}  # fmt: skip


@dataclass(frozen=True)
class Witnesses:
    """How many of which witnesses have to have cosigned the log.

    Attributes:
        quorum: so many, at least 1.
        urls: each witness's key -> where a ledger asks it (or an empty string: it is not asked from here).
    """

    quorum: int
    urls: dict[WitnessKey, str]

    def __post_init__(self) -> None:
        require_distinct(self.urls)
        if not 1 <= self.quorum <= len(self.urls):
            raise UsageError(f"witnesses: expected a quorum from 1 to {len(self.urls)}, the number of keys")

    @property
    def keys(self) -> tuple[WitnessKey, ...]:
        """The witnesses that count."""
        return tuple(self.urls)


@dataclass(frozen=True)
class Policy:
    """Attributes:

    evidence_classes: classes of key evidence that count; ``SIMULATED`` has to be named to count.
    roots: per class, the root keys that may vouch (raw Ed25519 public keys for ``SIMULATED``).
    srs_classes: ``CEREMONY`` and, if the auditor accepts a forgeable set-up, ``DEV``.
    circuits: circuit ids that count; None means whatever the run names (trust on first use).
    ledger_keys: raw public keys that may sign checkpoints; None means any attested ledger key.
    anchors: identity -> URI of the anchors that count (URI may be empty: receipts are then checked offline only);
        None means any that the log names, offline only.
    witnesses: who has to have cosigned the log, and how many of them; None means that nobody has to.
    min_sampled: fewest shards of a step that have to be proven for a sampled run to be called sound; None means that
        every shard has to.
    first_use: no policy file was given: roots, circuits and keys are taken from the log, and the verdict says so.
    """

    evidence_classes: frozenset[str] = frozenset()
    roots: dict[str, frozenset[bytes]] = field(default_factory=dict)
    srs_classes: frozenset[str] = frozenset({"CEREMONY"})
    circuits: frozenset[bytes] | None = None
    ledger_keys: frozenset[bytes] | None = None
    anchors: dict[str, str] | None = None
    witnesses: Witnesses | None = None
    min_sampled: int | None = None
    first_use: bool = False

    def to_json(self) -> str:
        """The policy as the file that :func:`load_policy` reads."""
        content: dict[str, Any] = {
            "version": 1,
            "evidence_classes": sorted(self.evidence_classes),
            "roots": {k: sorted(r.hex() for r in v) for k, v in sorted(self.roots.items())},
            "srs_classes": sorted(self.srs_classes),
        }
        if self.circuits is not None:
            content["circuits"] = sorted(c.hex() for c in self.circuits)
        if self.ledger_keys is not None:
            content["ledger_keys"] = sorted(k.hex() for k in self.ledger_keys)
        if self.anchors is not None:
            content["anchors"] = dict(sorted(self.anchors.items()))
        if self.witnesses is not None:
            urls = {str(key): url for key, url in self.witnesses.urls.items()}
            content["witnesses"] = {"quorum": self.witnesses.quorum, "keys": dict(sorted(urls.items()))}
        if self.min_sampled is not None:
            content["min_sampled"] = self.min_sampled
        return json.dumps(content, indent=2) + "\n"


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if it names an entry twice, of which Python would keep the last."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an entry is there twice")
    return result


def load_policy(path: Path) -> Policy:
    """Reads a policy file: see :func:`parse_policy`.

    Raises:
        UsageError: it cannot be read, or says which entry is wrong and what was expected.
    """
    try:
        data = read_capped(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"policy {path}: {error.strerror}") from None
    return parse_policy(data, f"policy {path}")


def parse_policy(data: bytes, where: str) -> Policy:
    """Reads a policy strictly: an unknown or misspelt entry is an error, not a weaker policy.

    Raises:
        UsageError: says which entry is wrong and what was expected.
    """
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error})") from None
    if not isinstance(content, dict) or type(content.get("version")) is not int or content["version"] != 1:
        raise UsageError(f'{where}: expected a JSON object with "version": 1')
    unknown = set(content) - _KEYS
    if unknown:
        raise UsageError(f"{where}: unknown entry {sorted(unknown)[0][:40]!r}; expected {', '.join(sorted(_KEYS))}")

    def names(key: str, value: object, allowed: tuple[str, ...]) -> frozenset[str]:
        if not isinstance(value, list) or not all(isinstance(v, str) and v in allowed for v in value):
            raise UsageError(f"{where}: {key}: expected a list of {', '.join(allowed)}")
        return frozenset(value)

    def ids(key: str, value: object) -> frozenset[bytes]:
        try:
            # The string's length too: fromhex skips white space.
            if isinstance(value, list) and all(isinstance(v, str) and len(v) == 64 for v in value):
                found = frozenset(bytes.fromhex(v) for v in value)
                if all(len(v) == 32 for v in found):
                    return found
        except ValueError:
            pass
        raise UsageError(f"{where}: {key}: expected a list of 32-byte values in hex")

    roots = content.get("roots", {})
    if not isinstance(roots, dict) or not set(roots) <= set(CLASSES):
        raise UsageError(f"{where}: roots: expected an object with keys among {', '.join(CLASSES)}")
    anchors = content.get("anchors")
    if anchors is not None and not (isinstance(anchors, dict) and all(isinstance(u, str) for u in anchors.values())):
        raise UsageError(f"{where}: anchors: expected an object of identity to URI (or an empty string)")
    min_sampled = content.get("min_sampled")
    if min_sampled is not None and not (type(min_sampled) is int and min_sampled >= 1):
        raise UsageError(f"{where}: min_sampled: expected a number of shards, at least 1")
    policy = Policy(
        evidence_classes=names("evidence_classes", content.get("evidence_classes", []), CLASSES),
        roots={k: ids(f"roots.{k}", v) for k, v in roots.items()},
        srs_classes=names("srs_classes", content.get("srs_classes", ["CEREMONY"]), SRS_CLASSES),
        circuits=ids("circuits", content["circuits"]) if "circuits" in content else None,
        ledger_keys=ids("ledger_keys", content["ledger_keys"]) if "ledger_keys" in content else None,
        anchors=anchors,
        witnesses=_witnesses(f"{where}: witnesses", content["witnesses"]) if "witnesses" in content else None,
        min_sampled=min_sampled,
    )
    if policy.witnesses:
        require_outsiders(policy.witnesses.keys, policy.ledger_keys or (), f"{where}: witnesses")
    return policy


def _witnesses(where: str, value: object) -> Witnesses:
    if not isinstance(value, dict) or set(value) != {"quorum", "keys"}:
        raise UsageError(f'{where}: expected an object with "quorum" and "keys"')
    quorum, keys = value["quorum"], value["keys"]
    if type(quorum) is not int:
        raise UsageError(f"{where}: quorum: expected a number of witnesses")
    if not isinstance(keys, dict) or not all(isinstance(url, str) and _is_prefix(url) for url in keys.values()):
        raise UsageError(
            f"{where}: keys: expected an object of '<name>+<id>+<base64>' to the URL where it takes checkpoints "
            "(http or https, without user, query and fragment; or an empty string)"
        )
    try:
        return Witnesses(quorum, {WitnessKey.parse(text): url for text, url in keys.items()})
    except (DecodeError, UsageError) as error:
        raise UsageError(f"{where}: {error}") from None


def _is_prefix(url: str) -> bool:
    """Whether the URL is empty, or one that a path can be added to."""
    if not url:
        return True
    if not (url.isascii() and url.isprintable()) or any(c in url for c in " ?#@\\"):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def require_outsiders(witnesses: Iterable[WitnessKey], ledger_keys: Iterable[bytes], where: str = "witnesses") -> None:
    """Raises UsageError if a ledger's own key is among the witnesses: it would watch itself."""
    own = set(ledger_keys)
    for key in witnesses:
        if key.public_key in own:
            raise UsageError(f"{where}: {key.name} has the key of a ledger (ledger_keys): it would watch itself")
