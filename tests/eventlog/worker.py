"""Another process on the same event log: ``worker.py URL ACTION ...``, told by lines of standard input and output."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable

from zk_autograd.errors import ZkAutogradError
from zk_autograd.eventlog import EventLog, Record, open_log

RECORDS = 5


def say(line: object) -> None:
    print(line, flush=True)


def write(log: EventLog, transactional_id: str, count: str) -> None:
    """Numbered transactions of RECORDS records on each of two topics; says each number after its commit."""
    producer = log.producer(transactional_id)
    for number in itertools.islice(itertools.count(), int(count) if int(count) else None):
        with producer.transaction() as transaction:
            for index in range(RECORDS):
                transaction.send("one", b"", b"%s %d %d" % (transactional_id.encode(), number, index))
                transaction.send("other", b"", b"%s %d %d" % (transactional_id.encode(), number, index))
        say(number)


def hold(log: EventLog, topic: str) -> None:
    """Take one record as a group's member and hold it; after a line of input, try to commit it."""
    group = log.group("group", [topic])
    producer = log.producer("holder")
    records: list[Record] = []
    while not records:
        records = group.poll(1.0)
    say(f"holds {records[0].value.decode()}")
    sys.stdin.readline()
    try:
        with producer.transaction() as transaction:
            transaction.send("other", b"", b"written by the holder")
            transaction.consumed(group, records)
        say("committed")
    except ZkAutogradError as error:
        say(type(error).__name__)
    group.rewind()
    say("rewound")
    sys.stdin.readline()


def copy(log: EventLog, transactional_id: str) -> None:
    """Copy topic ``many`` to ``one``, each record once, for ever; says each value after its commit."""
    group = log.group("copiers", ["many"])
    producer = log.producer(transactional_id)
    while True:
        if records := group.poll(0.5):
            time.sleep(0.03)  # the work: long enough for several to take part and to be killed in it
            with producer.transaction() as transaction:
                transaction.send("one", b"", records[0].value)
                transaction.consumed(group, records)
            say(records[0].value.decode())


ACTIONS: dict[str, Callable[..., None]] = {"write": write, "hold": hold, "copy": copy}

if __name__ == "__main__":
    with open_log(sys.argv[1]) as opened:
        ACTIONS[sys.argv[2]](opened, *sys.argv[3:])
