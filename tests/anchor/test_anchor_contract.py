"""The contract of every anchor backend: a witness that compares and sets, refuses with its head, and repeats itself.

A backend joins by a line in ``BACKENDS``: a function from an empty folder to a URI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from anchor import (
    Anchor,
    AnchorRefused,
    Head,
    Receipt,
    ReceiptFacts,
    check_live,
    open_anchor,
    verify_chain,
    verify_progress,
    verify_receipt,
)
from tests.anchor.toy_log import ToyLog
from zk_autograd.errors import AnchorError, DecodeError, UsageError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT

BACKENDS: dict[str, Callable[[Path], str]] = {"file": lambda folder: f"file:{folder / 'anchor'}"}


@pytest.fixture(params=BACKENDS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def anchor(uri: str) -> Anchor:
    return open_anchor(uri)


@pytest.fixture
def log() -> ToyLog:
    return ToyLog()


def identity_of(anchor: Anchor) -> str:
    identity = anchor.identity()
    assert identity is not None
    return identity


# Opening


@pytest.mark.parametrize("uri", ["tpm:0x1500010", "https://host/", ":", "FILE:x"])
def test_an_unknown_scheme_is_a_usage_error_that_names_the_known_ones(uri: str) -> None:
    with pytest.raises(UsageError, match="one of the schemes file:"):
        open_anchor(uri)


def test_a_uri_without_a_scheme_is_a_usage_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="begins with one of file:"):
        open_anchor("anchor")


def test_an_unknown_schemes_error_keeps_the_rest_of_the_uri_to_itself() -> None:
    with pytest.raises(UsageError) as caught:
        open_anchor("redis://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


# Honest use


def test_a_new_anchor_has_no_head_no_receipt_and_no_identity(anchor: Anchor) -> None:
    assert anchor.head() is None
    assert anchor.latest_receipt() is None
    assert anchor.receipt_for(1) is None
    assert anchor.identity() is None


def test_advancing_raises_the_counter_and_moves_the_head(anchor: Anchor, log: ToyLog) -> None:
    first, second = log.anchor_sizes(anchor, [3, 10])
    assert first.head.counter < second.head.counter
    assert anchor.head() == second.head == log.head(second.head.counter, 10)


def test_another_opening_sees_the_same_head_identity_and_receipts(uri: str, log: ToyLog) -> None:
    before = open_anchor(uri)
    receipts = log.anchor_sizes(before, [1, 2, 9])
    after = open_anchor(uri)
    assert (after.head(), after.identity()) == (before.head(), before.identity())
    assert [after.receipt_for(receipt.head.counter) for receipt in receipts] == receipts
    assert after.latest_receipt() == receipts[-1]


def test_the_empty_tree_can_be_anchored_and_grown_from(anchor: Anchor, log: ToyLog) -> None:
    assert log.submit(anchor, None, 0).head.root == EMPTY_ROOT
    assert log.submit(anchor, anchor.head(), 4).head.size == 4


def test_receipts_verify_offline_and_say_what_was_anchored(anchor: Anchor, log: ToyLog) -> None:
    receipts = log.anchor_sizes(anchor, [1, 5, 6])
    identity = identity_of(anchor)
    facts = verify_chain([receipt.data for receipt in receipts], identity)
    assert [each.head for each in facts] == [receipt.head for receipt in receipts]
    assert verify_receipt(receipts[1].data, identity) == facts[1]
    assert facts[1].anchor == identity


def test_the_same_tree_again_answers_with_the_receipt_already_given(uri: str, log: ToyLog) -> None:
    anchor = open_anchor(uri)
    old = log.submit(anchor, None, 3)
    new = log.submit(anchor, old.head, 7)
    # A caller that crashed before it saw the answer still expects the old head; one that saw it expects the new.
    assert log.submit(open_anchor(uri), old.head, 7) == new
    assert log.submit(open_anchor(uri), new.head, 7) == new
    assert anchor.head() == new.head


def test_a_receipt_published_twice_in_a_row_is_no_violation(anchor: Anchor, log: ToyLog) -> None:
    first, second = (receipt.data for receipt in log.anchor_sizes(anchor, [2, 4]))
    assert len(verify_chain([first, first, second, second], identity_of(anchor))) == 4


def test_a_live_anchor_at_or_after_the_last_receipt_is_in_order(anchor: Anchor, log: ToyLog) -> None:
    for receipt in log.anchor_sizes(anchor, [1, 2, 3]):
        check_live(anchor, verify_receipt(receipt.data, identity_of(anchor)))


# Refusals: each leaves the anchor as it was and carries the head


def refused(anchor: Anchor, act: Callable[[], object], reason: str) -> None:
    head = anchor.head()
    with pytest.raises(AnchorRefused, match=reason) as caught:
        act()
    assert caught.value.head == head
    assert anchor.head() == head


def test_a_stale_request_is_refused_with_the_current_head(anchor: Anchor, log: ToyLog) -> None:
    first, _ = log.anchor_sizes(anchor, [3, 5])
    refused(anchor, lambda: log.submit(anchor, first.head, 8), "stale")
    refused(anchor, lambda: log.submit(anchor, None, 8), "stale")


def test_a_request_that_expects_more_than_an_empty_anchor_has_is_refused(anchor: Anchor, log: ToyLog) -> None:
    refused(anchor, lambda: log.submit(anchor, log.head(4, 3), 8), "stale")


def test_a_caller_who_saw_a_later_counter_is_refused_even_for_the_same_tree(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3)
    refused(anchor, lambda: log.submit(anchor, log.head(receipt.head.counter + 1, 3), 3), "stale")


def test_the_right_counter_with_another_root_is_stale(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3)
    fork = ToyLog("fork")
    refused(anchor, lambda: fork.submit(anchor, fork.head(receipt.head.counter, 3), 8), "stale")


def test_a_fork_that_grew_further_is_refused(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3)
    fork = ToyLog("fork")
    refused(anchor, lambda: fork.submit(anchor, receipt.head, 8), "not shown to extend")


def test_a_true_extension_without_its_proof_is_refused(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3)
    note = log.note(8)
    root = log.tree.root_at(8)
    refused(anchor, lambda: anchor.advance(receipt.head, 8, root, note, []), "not shown to extend")


def test_a_first_request_with_a_proof_from_nowhere_is_refused(anchor: Anchor, log: ToyLog) -> None:
    note = log.note(2)
    root = log.tree.root_at(2)
    refused(anchor, lambda: anchor.advance(None, 2, root, note, [bytes(32)]), "not shown to extend")


def test_a_smaller_tree_is_refused(anchor: Anchor, log: ToyLog) -> None:
    log.anchor_sizes(anchor, [3, 9])
    refused(anchor, lambda: log.submit(anchor, anchor.head(), 5), "going back")
    refused(anchor, lambda: log.submit(anchor, anchor.head(), 3), "going back")
    refused(anchor, lambda: log.submit(anchor, anchor.head(), 0), "going back")


def test_the_same_size_with_another_root_is_refused(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3)
    refused(anchor, lambda: ToyLog("fork").submit(anchor, receipt.head, 3), "a fork")


def test_arguments_that_do_not_belong_together_are_usage_errors(anchor: Anchor, log: ToyLog) -> None:
    note, root = log.note(3), log.tree.root_at(3)
    for size, submitted_root, submitted_note in [
        (4, root, note),
        (3, bytes(32), note),
        (3, root, log.note(2)),
        (3, root, ""),
        (3, root[:31], note),
        (-1, root, note),
        (2**63, root, note.replace("\n3\n", f"\n{2**63}\n")),
        (3, root, note + "x" * 60_000),
    ]:
        with pytest.raises(UsageError, match="anchor: "):
            anchor.advance(None, size, submitted_root, submitted_note, [])
    assert anchor.head() is None


# Receipts that lie


def test_a_receipt_with_any_byte_changed_is_refused(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3).data
    identity = identity_of(anchor)
    for at in range(len(receipt)):
        forged = receipt[:at] + bytes([receipt[at] ^ 1]) + receipt[at + 1 :]
        with pytest.raises((VerificationError, DecodeError)):
            verify_receipt(forged, identity)


def test_a_cut_extended_or_huge_receipt_is_refused(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3).data
    for forged in (b"", receipt[:-1], receipt + b"\0"):
        with pytest.raises((VerificationError, DecodeError)):
            verify_receipt(forged, identity_of(anchor))
    for check in (lambda: verify_receipt(bytes(60_001), "file:00"), lambda: verify_chain([bytes(60_001)], "file:00")):
        with pytest.raises(DecodeError, match="at most 60000 bytes, got 60001"):
            check()


def test_a_receipt_for_another_root_does_not_state_ours(anchor: Anchor, log: ToyLog) -> None:
    """An attacker shows the receipt of a fork that has the same size: its facts give it away."""
    receipt = ToyLog("fork").submit(anchor, None, 3)
    facts = verify_receipt(receipt.data, identity_of(anchor))
    assert facts.size == 3
    assert facts.root != log.head(1, 3).root


def test_identities_of_no_known_scheme_are_usage_errors(anchor: Anchor, log: ToyLog) -> None:
    receipt = log.submit(anchor, None, 3).data
    for identity in ("", "nothing", "gopher:00", identity_of(anchor)[:-1], identity_of(anchor) + "0"):
        with pytest.raises(UsageError, match="identity"):
            verify_receipt(receipt, identity)


# Progress, for any backend's facts

FIRST = ReceiptFacts("some:anchor", 4, 10, b"a" * 32)


def test_counters_may_skip_as_hardware_counters_do() -> None:
    verify_progress(
        [FIRST, ReceiptFacts("some:anchor", 9, 10, b"a" * 32), ReceiptFacts("some:anchor", 10, 12, b"b" * 32)]
    )


def test_equal_facts_in_a_row_are_progress() -> None:
    verify_progress([FIRST, FIRST])


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (ReceiptFacts("some:anchor", 3, 12, b"b" * 32), "counter 3 after 4: the counter went down"),
        (ReceiptFacts("some:anchor", 4, 12, b"b" * 32), "counter 4 after 4: a fork: one counter for two trees"),
        (ReceiptFacts("some:anchor", 5, 9, b"b" * 32), "counter 5 after 4: the tree shrank"),
        (ReceiptFacts("some:anchor", 5, 10, b"b" * 32), "counter 5 after 4: a fork: two roots"),
        (ReceiptFacts("other:anchor", 5, 12, b"b" * 32), "counter 5 after 4: expected anchor some:anchor"),
    ],
    ids=["counter-down", "one-counter-two-trees", "tree-shrank", "one-size-two-roots", "another-anchor"],
)
def test_receipts_that_do_not_progress_are_refused_at_their_counter(after: ReceiptFacts, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        verify_progress([FIRST, after])


def test_the_refusal_is_an_anchor_error_that_tells_the_head() -> None:
    error = AnchorRefused("stale", Head(7, 3, bytes(32)))
    assert isinstance(error, AnchorError)
    assert "counter 7, size 3" in str(error)


# The live check of a counter that keeps no receipts


class BareCounter(Anchor):
    """As a hardware counter may be: it knows where it stands, and nothing of how it came there."""

    scheme = "bare"
    uri = "bare:"

    def __init__(self, head: Head) -> None:
        self._head = head

    @classmethod
    def open(cls, uri: str) -> Anchor:
        raise NotImplementedError

    @classmethod
    def verify_receipt(cls, receipt: bytes, identity: str) -> ReceiptFacts:
        raise NotImplementedError

    def identity(self) -> str:
        return "some:anchor"

    def head(self) -> Head:
        return self._head

    def advance(
        self, expected: Head | None, size: int, root: bytes, checkpoint_note: str, consistency: Sequence[bytes]
    ) -> Receipt:
        raise NotImplementedError

    def receipt_for(self, counter: int) -> None:
        return None


def test_a_bare_counter_at_or_after_the_last_receipt_is_in_order() -> None:
    check_live(BareCounter(Head(4, 10, b"a" * 32)), FIRST)
    check_live(BareCounter(Head(6, 11, b"b" * 32)), FIRST)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (Head(3, 10, b"a" * 32), "rolled back: published receipts reach counter 4"),
        (Head(4, 10, b"b" * 32), "forked: the published receipt says counter 4"),
        (Head(4, 11, b"a" * 32), "forked: the published receipt says counter 4"),
        (Head(5, 9, b"b" * 32), "rolled back: 10 leaves were published"),
    ],
    ids=["counter-back", "other-root", "other-size", "tree-back"],
)
def test_a_bare_counter_that_went_back_or_aside_is_seen(head: Head, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        check_live(BareCounter(head), FIRST)
