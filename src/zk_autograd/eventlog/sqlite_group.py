"""Consumer groups on the SQLite file.

Members write a sign of life into the file; whoever comes by removes those that have been silent for too long. When
the membership changes, partitions are spread anew. A living member keeps a partition that is meant for another (its
*heir*) until it polls again, so that work between two polls is not lost; a dead one's goes over at once. Every
ownership has a number of its own (``since``), and a commit is refused unless it still stands: two members can never
both commit a record, whatever their clocks say.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from sqlite3 import Connection

from zk_autograd.errors import EventLogError
from zk_autograd.eventlog.base import Group, Record, TopicPartition
from zk_autograd.eventlog.progress import Progress, lost_error
from zk_autograd.eventlog.sqlite_rows import fetch
from zk_autograd.eventlog.sqlite_store import POLL_SECONDS, Database, now_ms


class SqliteGroup(Group):
    """One member of a group."""

    def __init__(
        self, database: Database, group_id: str, partitions: Sequence[TopicPartition], session_timeout: float
    ) -> None:
        """Joins at once; ``partitions`` are all those of the topics it subscribes to."""
        self.file = database.file
        self.progress = Progress(group_id)
        self._database = database
        self._id = group_id
        self._member = secrets.token_hex(8)
        self._topics = ",".join(sorted({topic for topic, _ in partitions}))
        self._timeout_ms = int(session_timeout * 1000)
        self._owned: dict[TopicPartition, int] = {}  # since which generation
        self._positions: dict[TopicPartition, int] = {}
        self._generation = -1
        self._beat_next = 0.0
        self._quiet: tuple[int, ...] | None = None
        self._paused: frozenset[TopicPartition] = frozenset()
        self._closed = False
        self._beat(polling=True)

    def poll(self, timeout: float, max_records: int = 1, paused: Collection[TopicPartition] = ()) -> list[Record]:
        if self._paused != (now := frozenset(paused)):
            self._paused, self._quiet = now, None  # what was seen to be quiet was another set of partitions
        deadline = time.monotonic() + timeout
        while True:
            if time.monotonic() >= self._beat_next:
                self._beat(polling=True)
            version = self._database.version()
            if version != self._quiet:
                if self._database.read(self._stored_generation) != self._generation:
                    self._beat(polling=True)
                if records := self._next(max_records):
                    return records
                self._quiet = version
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(POLL_SECONDS, left))

    def keepalive(self) -> None:
        if time.monotonic() >= self._beat_next:
            self._beat(polling=False)

    def rewind(self) -> None:
        self.progress.rewound()
        self._owned, self._positions = {}, {}
        self._beat(polling=True)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # If the file cannot be written any more, the membership runs out by itself.
        with suppress(EventLogError):
            self._database.write(self._leave)
        self._database.close()

    def store(self, connection: Connection, offsets: Mapping[TopicPartition, int]) -> None:
        """Inside a producer's transaction: move the committed offsets.

        Raises:
            PartitionLostError: this member does not own one of the partitions any more, or not since it read them.
        """
        self.progress.check()
        for partition, offset in offsets.items():
            row = connection.execute(
                "SELECT member_id, since FROM assignments WHERE group_id = ? AND topic = ? AND partition = ?",
                (self._id, *partition),
            ).fetchone()
            if row != (self._member, self._owned.get(partition)):
                raise lost_error(self._id, [partition])
            connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)", (self._id, *partition, offset))

    def _next(self, max_records: int) -> list[Record]:
        order = sorted(self._owned.keys() - self._paused)
        records = self._database.read(lambda connection: fetch(connection, order, self._positions, max_records))
        for record in records:
            self._positions[record.topic, record.partition] = record.offset + 1
        self.progress.returned(records)
        return records

    def _beat(self, polling: bool) -> None:
        """Give a sign of life, see to the others, and learn what is ours now."""
        owned, committed, self._generation = self._database.write(lambda connection: self._meet(connection, polling))
        self.progress.revoked(partition for partition, since in self._owned.items() if owned.get(partition) != since)
        kept = {partition: offset for partition, offset in self._positions.items() if partition in self._owned}
        self._positions = {
            partition: kept[partition] if self._owned.get(partition) == since else committed.get(partition, 0)
            for partition, since in owned.items()
        }
        self._owned = owned
        self._beat_next = time.monotonic() + self._timeout_ms / 5000
        self._quiet = None

    def _meet(
        self, connection: Connection, polling: bool
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int], int]:
        now = now_ms()
        me = (self._id, self._member)
        changed = not connection.execute(
            "UPDATE members SET seen_ms = ? WHERE group_id = ? AND member_id = ?", (now, *me)
        ).rowcount
        if changed:
            connection.execute("INSERT INTO members VALUES (?, ?, ?, ?, ?)", (*me, self._topics, now, self._timeout_ms))
        # A sign of life from the future is as good as none: the clock was set back meanwhile.
        changed |= bool(
            connection.execute(
                "DELETE FROM members WHERE group_id = ? AND abs(? - seen_ms) > timeout_ms", (self._id, now)
            ).rowcount
        )
        if changed:
            _rebalance(connection, self._id)
        if polling:
            _hand_over(connection, *me)
        owned = connection.execute(
            "SELECT topic, partition, since FROM assignments WHERE group_id = ? AND member_id = ?", me
        ).fetchall()
        stored = connection.execute("SELECT topic, partition, next_offset FROM offsets WHERE group_id = ?", (self._id,))
        return (
            {(topic, number): since for topic, number, since in owned},
            {(topic, number): offset for topic, number, offset in stored},
            self._stored_generation(connection),
        )

    def _leave(self, connection: Connection) -> None:
        connection.execute("DELETE FROM members WHERE group_id = ? AND member_id = ?", (self._id, self._member))
        _rebalance(connection, self._id)

    def _stored_generation(self, connection: Connection) -> int:
        row = connection.execute("SELECT generation FROM generations WHERE group_id = ?", (self._id,)).fetchone()
        return int(row[0])


def _new_generation(connection: Connection, group_id: str) -> int:
    connection.execute(
        "INSERT INTO generations VALUES (?, 1) ON CONFLICT (group_id) DO UPDATE SET generation = generation + 1",
        (group_id,),
    )
    (generation,) = connection.execute("SELECT generation FROM generations WHERE group_id = ?", (group_id,)).fetchone()
    return int(generation)


def _rebalance(connection: Connection, group_id: str) -> None:
    """Spread the partitions over the members there are now."""
    generation = _new_generation(connection, group_id)
    rows = connection.execute("SELECT member_id, topics FROM members WHERE group_id = ?", (group_id,)).fetchall()
    members = {member: set(topics.split(",")) for member, topics in rows}
    counts = dict(connection.execute("SELECT topic, partitions FROM topics").fetchall())
    subscribed = sorted(set().union(*members.values())) if members else []
    partitions = [(topic, number) for topic in subscribed for number in range(counts[topic])]
    owners = {
        (topic, number): member
        for topic, number, member in connection.execute(
            "SELECT topic, partition, member_id FROM assignments WHERE group_id = ?", (group_id,)
        )
        if member in members
    }
    for partition, member in spread(partitions, members, owners).items():
        if partition not in owners:
            row = (group_id, *partition, member, generation)
            connection.execute("INSERT OR REPLACE INTO assignments VALUES (?, ?, ?, ?, ?, NULL)", row)
        else:
            heir = None if owners[partition] == member else member
            connection.execute(
                "UPDATE assignments SET heir = ? WHERE group_id = ? AND topic = ? AND partition = ?",
                (heir, group_id, *partition),
            )
    if not members:
        connection.execute("DELETE FROM assignments WHERE group_id = ?", (group_id,))


def _hand_over(connection: Connection, group_id: str, member: str) -> None:
    """Give this member's partitions to their heirs."""
    held = "group_id = ? AND member_id = ? AND heir IS NOT NULL"
    if connection.execute(f"SELECT 1 FROM assignments WHERE {held}", (group_id, member)).fetchone():  # noqa: S608
        generation = _new_generation(connection, group_id)
        connection.execute(
            f"UPDATE assignments SET member_id = heir, since = ?, heir = NULL WHERE {held}",  # noqa: S608
            (generation, group_id, member),
        )


def spread(
    partitions: Sequence[TopicPartition],
    members: Mapping[str, Collection[str]],
    owners: Mapping[TopicPartition, str],
) -> dict[TopicPartition, str]:
    """Who shall have which partition: even shares, and as few moves as that allows.

    Args:
        partitions: all partitions, in order.
        members: the topics that each member subscribes to.
        owners: who has them now, if anybody.
    """
    chosen: dict[TopicPartition, str] = {}
    load = dict.fromkeys(sorted(members), 0)
    share, extra = divmod(len(partitions), max(1, len(members)))

    def give(partition: TopicPartition, member: str) -> None:
        chosen[partition] = member
        load[member] += 1

    kept = [p for p in partitions if owners.get(p) in load and p[0] in members[owners[p]]]
    # Every other one first: little work lies in the first partitions only, and who joins shall get some of it.
    kept = kept[::2] + kept[1::2]
    for partition in kept:
        if load[owners[partition]] < share:
            give(partition, owners[partition])
    for partition in kept:
        if partition not in chosen and extra and load[owners[partition]] == share:
            give(partition, owners[partition])
            extra -= 1
    for partition in partitions:
        able = [member for member in load if partition[0] in members[member]]
        if partition not in chosen and able:
            give(partition, min(able, key=load.__getitem__))
    return chosen
