"""Makes the published tiles anew from the topics, the same to the byte."""

from __future__ import annotations

from collections.abc import Callable

from consumers.ledger.history import Voice, put_into
from ledger.frontier import Frontier
from ledger.order import Order
from tiles import Store
from tiles.publisher import Publisher
from zk_autograd.errors import UsageError


def rebuild(voice: Voice, store: Store, progress: Callable[[int, int], None]) -> tuple[int, int]:
    """Publishes to ``store`` what the topics hold and it lacks; returns the size that it had and has.

    Args:
        voice: reads the topics.
        store: empty, or with the beginning of this log.
        progress: told how many entries of how many have been read.

    Raises:
        UsageError: the topics hold no checkpoint, or do not agree with it, with each other or with the store.
        StorageError: the store cannot be read or written.
    """
    heads = voice.heads()
    if not heads.newest:
        raise UsageError(
            f"{voice.log.url} holds no checkpoint of {voice.origin} by key {voice.key_id.hex()[:12]}: nothing to "
            "publish; is it the right --log, --origin and --home?"
        )
    publisher = Publisher(store, voice.origin, voice.verifier)
    had, before = publisher.published, Frontier()
    if had > heads.newest:
        raise UsageError(
            f"{store.name} has {had} entries, the newest checkpoint in the topics {heads.newest}: entries were "
            "removed; audit the log before anything else"
        )
    for _ in put_into(publisher.tree, before, voice, Order(), heads, publisher.mark):
        if not before.size % 1000:
            progress(before.size, heads.newest)
        if before.size == heads.newest:  # the ledger may be going on meanwhile
            break
    progress(before.size, heads.newest)
    if publisher.published < heads.newest:
        publisher.publish(heads.note)
    return had, publisher.published
