"""The file anchor under crashes, races, full disks and tampering: real files, real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anchor import AnchorRefused, check_live, open_anchor, verify_chain, verify_receipt
from anchor.file import FileAnchor
from anchor.file_record import RECORD_BYTES, Record, decode_record
from tests.anchor.toy_log import ToyLog
from zk_autograd.errors import AnchorError, DecodeError, UsageError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT

HEADER_BYTES = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "anchor"


@pytest.fixture
def log() -> ToyLog:
    return ToyLog()


@contextmanager
def child(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that can import what this one can; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(script: str, *arguments: object) -> str:
    with child(script, *arguments) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the child ended with {process.wait()}"
    return line.strip()


def write_line(process: subprocess.Popen[str], value: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()


def receipts_of(anchor: FileAnchor) -> list[bytes]:
    head = anchor.head()
    found = [anchor.receipt_for(counter) for counter in range(1, head.counter + 1)] if head else []
    return [receipt.data for receipt in found if receipt is not None]


# URIs


@pytest.mark.parametrize("uri", ["file:", "file://host/path", "file://", "file:a\0b"])
def test_a_uri_without_a_local_path_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="file:PATH"):
        open_anchor(uri)


def test_an_absolute_path_may_be_written_with_or_without_slashes(path: Path, log: ToyLog) -> None:
    log.submit(open_anchor(f"file:{path}"), None, 3)
    assert open_anchor(f"file://{path}").head() == log.head(1, 3)


def test_asking_creates_no_file(path: Path) -> None:
    anchor = FileAnchor(path)
    assert (anchor.head(), anchor.identity(), anchor.latest_receipt()) == (None, None, None)
    assert not path.exists()


# Before the first receipt


def test_an_anchor_can_be_made_so_that_it_has_an_identity_before_its_first_receipt(path: Path, log: ToyLog) -> None:
    identity = FileAnchor(path).establish()
    assert path.stat().st_size == HEADER_BYTES
    assert (FileAnchor(path).head(), FileAnchor(path).identity()) == (None, identity)
    assert FileAnchor(path).establish() == identity
    receipt = log.submit(FileAnchor(path), None, 3)
    assert verify_receipt(receipt.data, identity).counter == 1
    assert FileAnchor(path).establish() == identity
    assert path.stat().st_size == HEADER_BYTES + RECORD_BYTES


def test_making_an_anchor_leaves_another_kind_of_file_alone(path: Path) -> None:
    path.write_bytes(b"precious" * 100)
    with pytest.raises(DecodeError, match="something else"):
        FileAnchor(path).establish()
    assert path.read_bytes() == b"precious" * 100


def test_a_header_that_a_crash_cut_short_is_written_anew(path: Path) -> None:
    FileAnchor(path).establish()
    path.write_bytes(path.read_bytes()[:40])
    assert FileAnchor(path).establish() == FileAnchor(path).identity()


# Randomness


def test_every_receipt_holds_32_bytes_that_no_other_holds_and_that_its_hash_covers(path: Path, log: ToyLog) -> None:
    receipts = [receipt.data for receipt in log.anchor_sizes(FileAnchor(path), [1, 2, 3, 9])]
    facts = verify_chain(receipts, FileAnchor(path).identity() or "")
    drawn = [each.randomness for each in facts]
    assert all(each is not None and len(each) == 32 for each in drawn)
    assert len(set(drawn)) == 4
    changed = bytes([receipts[1][112] ^ 1]).join((receipts[1][:112], receipts[1][113:]))
    with pytest.raises(VerificationError, match="does not fit"):
        decode_record(changed)


def test_the_same_request_on_two_anchors_draws_differently(tmp_path: Path, log: ToyLog) -> None:
    """Nothing of the request determines it."""
    drawn = {decode_record(log.submit(FileAnchor(tmp_path / f"{i}"), None, 3).data).randomness for i in range(20)}
    assert len(drawn) == 20


def test_the_same_tree_again_draws_nothing_new(path: Path, log: ToyLog) -> None:
    old = log.submit(FileAnchor(path), None, 3)
    assert {log.submit(FileAnchor(path), head, 3).data for head in (None, old.head)} == {old.data}


# Durability


def test_an_answer_is_given_only_after_the_file_and_then_its_directory_are_synced(path: Path, log: ToyLog) -> None:
    synced: list[tuple[str, int]] = []

    def fsync(fd: int) -> None:
        os.fsync(fd)
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), path.stat().st_size))

    whole = HEADER_BYTES + RECORD_BYTES
    anchor = FileAnchor(path, fsync=fsync)
    receipt = log.submit(anchor, None, 3)
    assert synced == [(str(path), whole), (str(path.parent), whole)]
    # Nor is a record that another process may have left unsynced confirmed without syncing it.
    assert log.submit(anchor, receipt.head, 3) == receipt
    assert synced[2:] == synced[:2]


@pytest.mark.parametrize("failing", [1, 2], ids=["file", "directory"])
def test_a_disk_that_cannot_sync_gives_no_receipt_and_leaves_the_head(path: Path, log: ToyLog, failing: int) -> None:
    old = log.submit(FileAnchor(path), None, 3)
    calls = 0

    def fsync(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(5, "Input/output error")
        os.fsync(fd)

    anchor = FileAnchor(path, fsync=fsync)
    with pytest.raises(AnchorError, match="Input/output error"):
        log.submit(anchor, old.head, 5)
    assert anchor.head() == FileAnchor(path).head() == old.head
    assert log.submit(anchor, old.head, 6).head == log.head(2, 6)


def test_a_torn_last_record_is_discarded_and_written_over(path: Path, log: ToyLog) -> None:
    log.anchor_sizes(FileAnchor(path), [2, 4])
    whole = path.read_bytes()
    log.anchor_sizes(FileAnchor(path), [6])
    next_record = path.read_bytes()[len(whole) :]
    for torn in (1, 8, 40, 100, RECORD_BYTES - 1):
        path.write_bytes(whole + next_record[:torn])
        anchor = FileAnchor(path)
        assert anchor.head() == log.head(2, 4)
        log.anchor_sizes(anchor, [7])
        assert len(verify_chain(receipts_of(anchor), anchor.identity() or "")) == 3
        assert path.stat().st_size == HEADER_BYTES + 3 * RECORD_BYTES


def test_a_crash_while_the_file_is_first_written_leaves_an_empty_anchor(path: Path, log: ToyLog) -> None:
    log.submit(FileAnchor(path), None, 3)
    whole = path.read_bytes()
    for torn in (0, 1, 63, 64, 65, len(whole) - 1):
        path.write_bytes(whole[:torn])
        assert FileAnchor(path).head() is None
        assert log.submit(FileAnchor(path), None, 5).head == log.head(1, 5)
        assert path.stat().st_size == len(whole)


def test_a_record_written_but_never_answered_is_found_and_answered_after_the_restart(path: Path, log: ToyLog) -> None:
    old, unanswered = log.anchor_sizes(FileAnchor(path), [3, 7])
    # All the runner knows after its crash is the head before, and the checkpoint it wanted to anchor.
    assert log.submit(FileAnchor(path), old.head, 7) == unanswered
    assert FileAnchor(path).latest_receipt() == unanswered


ADVANCE_FOR_EVER = """
import sys
from pathlib import Path
from tests.anchor.toy_log import ToyLog
from anchor.file import FileAnchor
anchor, log = FileAnchor(Path(sys.argv[1])), ToyLog()
while True:
    head = anchor.head()
    print(log.submit(anchor, head, head.size + 1 if head else 1).head.counter, flush=True)
"""


def test_after_sigkill_the_head_is_the_last_answered_or_one_later_never_less(path: Path) -> None:
    answered = 0
    chance = random.Random(20260101)
    for _ in range(8):
        with child(ADVANCE_FOR_EVER, path) as process:
            answered = int(read_line(process))
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            output = process.stdout.read()
        # The pipe may end in half a number: only whole lines were answers.
        lines = output[: output.rfind("\n") + 1].split()
        answered = int(lines[-1]) if lines else answered
        anchor = FileAnchor(path)
        head = anchor.head()
        assert head is not None
        assert head.counter in (answered, answered + 1)
        facts = verify_chain(receipts_of(anchor), anchor.identity() or "")
        assert [each.size for each in facts] == list(range(1, head.counter + 1))


# Several processes

RACE = """
import json, sys
from pathlib import Path
from tests.anchor.toy_log import ToyLog
from anchor import AnchorRefused, Head
from anchor.file import FileAnchor
path, name = sys.argv[1:]
anchor = FileAnchor(Path(path))
print("ready", flush=True)
for line in sys.stdin:
    start = json.loads(line)
    shared = [leaf.encode() for leaf in start["leaves"]]
    log = ToyLog(name, len(shared) + 1, shared)
    expected = Head(start["counter"], len(shared), log.tree.root_at(len(shared))) if start["counter"] else None
    try:
        log.submit(anchor, expected, len(shared) + 1)
        print("won", flush=True)
    except AnchorRefused as refusal:
        print("refused", refusal.head.counter, flush=True)
"""


def test_of_two_racing_processes_exactly_one_wins_every_round(path: Path) -> None:
    names = ["left", "right"]
    leaves: list[str] = []
    with child(RACE, path, names[0]) as left, child(RACE, path, names[1]) as right:
        racers = [left, right]
        assert [read_line(racer) for racer in racers] == ["ready", "ready"]
        for counter in range(20):
            for racer in racers if counter % 2 else reversed(racers):
                write_line(racer, {"leaves": leaves, "counter": counter})
            answers = [read_line(racer) for racer in racers]
            assert sorted(answers) == [f"refused {counter + 1}", "won"]
            leaves.append(f"{names[answers.index('won')]} {counter}")
    anchor = FileAnchor(path)
    assert anchor.head() == ToyLog("", 0, [leaf.encode() for leaf in leaves]).head(20, 20)
    verify_chain(receipts_of(anchor), anchor.identity() or "")


HOLD_THE_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.readline()
"""


def test_a_process_that_sits_on_the_lock_gives_a_clear_error_in_time(path: Path, log: ToyLog) -> None:
    log.submit(FileAnchor(path), None, 1)
    with child(HOLD_THE_LOCK, path) as process:
        assert read_line(process) == "locked"
        with pytest.raises(AnchorError, match=r"held the lock for 0\.05 s"):
            FileAnchor(path, lock_timeout=0.05).head()
        # The lock dies with its process, however that ends.
        process.kill()
        process.wait()
        assert FileAnchor(path).head() == log.head(1, 1)


# Disks and permissions

FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.anchor.toy_log import ToyLog
from anchor.file import FileAnchor
from zk_autograd.errors import AnchorError
path, limit = Path(sys.argv[1]), int(sys.argv[2])
anchor, log = FileAnchor(path), ToyLog()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    log.submit(anchor, anchor.head(), 9)
    print("answered")
except AnchorError as error:
    print(error)
print(path.stat().st_size)
"""


@pytest.mark.parametrize("room", [0, 1, RECORD_BYTES - 1])
def test_a_full_disk_gives_a_clear_error_and_leaves_no_torn_record(path: Path, log: ToyLog, room: int) -> None:
    log.anchor_sizes(FileAnchor(path), [1, 2])
    size = path.stat().st_size
    message, size_after = run(FULL_DISK, path, size + room).splitlines()
    assert "File too large" in message
    assert "free space" in message
    assert int(size_after) == size
    assert log.submit(FileAnchor(path), log.head(2, 2), 9).head == log.head(3, 9)


def test_a_disk_that_fills_while_the_file_is_first_written_leaves_an_empty_anchor(path: Path) -> None:
    message, size_after = run(FULL_DISK, path, 100).splitlines()
    assert "File too large" in message
    assert size_after == "0"
    assert FileAnchor(path).head() is None


NOT_ALLOWED = """
import os, sys
from pathlib import Path
from tests.anchor.toy_log import ToyLog
from anchor.file import FileAnchor
from zk_autograd.errors import AnchorError
anchor, log = FileAnchor(Path(sys.argv[1])), ToyLog("entry", 3)
log.note(3)
if os.geteuid() == 0:
    os.seteuid(65534)
for act in (anchor.head, lambda: log.submit(anchor, None, 3)):
    try:
        act()
        print("answered")
    except AnchorError as error:
        print(error)
"""


def test_a_file_that_may_not_be_opened_gives_a_clear_error(path: Path, log: ToyLog) -> None:
    log.submit(FileAnchor(path), None, 1)
    path.chmod(0)
    messages = run(NOT_ALLOWED, path).splitlines()
    assert len(messages) == 2
    for message in messages:
        assert "Permission denied" in message
        assert str(path) in message


def test_a_missing_directory_is_an_anchor_error(path: Path, log: ToyLog) -> None:
    with pytest.raises(AnchorError, match="No such file or directory; check the directory"):
        log.submit(FileAnchor(path / "below"), None, 1)


@pytest.mark.parametrize("target", ["/dev/null", "/"])
def test_what_is_no_regular_file_is_refused(target: str, log: ToyLog) -> None:
    with pytest.raises(AnchorError, match=r"regular file|Is a directory"):
        log.submit(FileAnchor(Path(target)), None, 1)


def test_another_kind_of_file_is_refused_and_left_alone(path: Path, log: ToyLog) -> None:
    path.write_bytes(b"precious" * 100)
    with pytest.raises(DecodeError, match="something else"):
        log.submit(FileAnchor(path), None, 1)
    assert path.read_bytes() == b"precious" * 100


# Tampering and roll-back


def test_any_changed_byte_of_the_file_is_noticed(path: Path, log: ToyLog) -> None:
    log.anchor_sizes(FileAnchor(path), [1, 2, 3])
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises((VerificationError, DecodeError)):
            FileAnchor(path).head()
        with pytest.raises((VerificationError, DecodeError)):
            log.submit(FileAnchor(path), log.head(3, 3), 5)


def test_a_whole_last_record_that_does_not_fit_is_never_dropped_as_torn(path: Path, log: ToyLog) -> None:
    log.anchor_sizes(FileAnchor(path), [1, 2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(VerificationError, match="counter 2: its hash does not fit"):
        log.submit(FileAnchor(path), log.head(1, 1), 5)
    assert path.stat().st_size == len(whole)


def test_a_record_taken_out_of_the_middle_is_noticed(path: Path, log: ToyLog) -> None:
    log.anchor_sizes(FileAnchor(path), [1, 2, 3])
    whole = path.read_bytes()
    cut = HEADER_BYTES + RECORD_BYTES
    path.write_bytes(whole[:cut] + whole[cut + RECORD_BYTES :])
    with pytest.raises(VerificationError, match="counter 3: a gap: expected counter 2"):
        FileAnchor(path).head()


def test_a_file_of_many_records_is_verified_to_its_end(path: Path, log: ToyLog) -> None:
    anchor = FileAnchor(path)
    receipt = log.submit(anchor, None, 1)
    records = [decode_record(receipt.data)]
    while len(records) < 9000:
        last = records[-1]
        root = last.counter.to_bytes(32, "big")
        records.append(
            Record(last.anchor_id, last.counter + 1, last.size + 1, root, last.checkpoint, bytes(32), last.digest)
        )
    with path.open("ab") as file:
        file.write(b"".join(record.encode() for record in records[1:]))
    assert anchor.head() == FileAnchor(path).head() == records[-1].head
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 8500 * RECORD_BYTES + 50)
        file.write(b"x")
    with pytest.raises(VerificationError, match="counter 8501"):
        FileAnchor(path).head()


def test_a_file_put_back_to_an_older_copy_is_seen_by_the_live_check(path: Path, log: ToyLog) -> None:
    log.anchor_sizes(FileAnchor(path), [1, 2])
    old_copy = path.read_bytes()
    last = log.anchor_sizes(FileAnchor(path), [3])[0]
    facts = verify_receipt(last.data, FileAnchor(path).identity() or "")
    check_live(FileAnchor(path), facts)
    path.write_bytes(old_copy)
    with pytest.raises(VerificationError, match=r"rolled back: .* reach counter 3, .* is at counter 2"):
        check_live(FileAnchor(path), facts)


def test_a_deleted_file_is_seen_by_the_live_check_and_not_made_anew(path: Path, log: ToyLog) -> None:
    anchor = FileAnchor(path)
    last = log.submit(anchor, None, 3)
    facts = verify_receipt(last.data, anchor.identity() or "")
    path.unlink()
    with pytest.raises(VerificationError, match=r"rolled back: .* the anchor is empty"):
        check_live(FileAnchor(path), facts)
    with pytest.raises(AnchorRefused, match="stale"):
        log.submit(FileAnchor(path), last.head, 5)
    assert not path.exists()


def test_a_file_started_over_is_another_anchor_to_the_live_check(path: Path, log: ToyLog) -> None:
    """The attacker deletes the file and anchors the very same trees again, and more: all but the identity is right."""
    anchor = FileAnchor(path)
    facts = verify_receipt(log.submit(anchor, None, 3).data, anchor.identity() or "")
    path.unlink()
    log.anchor_sizes(FileAnchor(path), [3, 5])
    with pytest.raises(VerificationError, match=f"expected the anchor {facts.anchor}, the live one is file:"):
        check_live(FileAnchor(path), facts)


def test_a_file_rolled_back_and_grown_again_is_seen_by_the_live_check(path: Path, log: ToyLog) -> None:
    """The attacker puts an old copy back and anchors a fork past the published counter."""
    log.anchor_sizes(FileAnchor(path), [2])
    old_copy = path.read_bytes()
    published = log.anchor_sizes(FileAnchor(path), [4])[0]
    facts = verify_receipt(published.data, FileAnchor(path).identity() or "")
    path.write_bytes(old_copy)
    fork = ToyLog("fork", 2, [b"entry 0", b"entry 1"])
    for sizes in ([4], [6]):
        fork.anchor_sizes(FileAnchor(path), sizes)
        with pytest.raises(VerificationError, match="forked: the published receipt says counter 2"):
            check_live(FileAnchor(path), facts)


def test_a_roll_back_under_a_running_process_is_noticed_by_it(path: Path, log: ToyLog) -> None:
    anchor = FileAnchor(path)
    log.anchor_sizes(anchor, [1])
    old_copy = path.read_bytes()
    log.anchor_sizes(anchor, [2])
    newer_copy = path.read_bytes()
    path.write_bytes(old_copy)
    with pytest.raises(VerificationError, match="rolled back: it was at counter 2"):
        anchor.head()
    ToyLog("fork", 1, [b"entry 0"]).anchor_sizes(FileAnchor(path), [3])
    with pytest.raises(VerificationError, match="rolled back: it was at counter 2"):
        log.submit(anchor, log.head(2, 2), 4)
    path.write_bytes(b"")
    with pytest.raises(VerificationError, match="emptied"):
        anchor.head()
    log.submit(FileAnchor(path), None, 2)
    with pytest.raises(VerificationError, match="replaced by another anchor"):
        anchor.head()
    path.write_bytes(newer_copy)
    assert anchor.head() == log.head(2, 2)


# Receipts that do not make a chain


@pytest.fixture
def chain(path: Path, log: ToyLog) -> list[bytes]:
    return [receipt.data for receipt in log.anchor_sizes(FileAnchor(path), [1, 2, 3, 4])]


@pytest.fixture
def identity(path: Path, chain: list[bytes]) -> str:
    return FileAnchor(path).identity() or ""


def test_a_gap_in_the_published_receipts_names_the_counter(chain: list[bytes], identity: str) -> None:
    with pytest.raises(VerificationError, match="counter 3: a gap: expected counter 2"):
        verify_chain([chain[0], chain[2], chain[3]], identity)


def test_receipts_that_do_not_start_at_one_have_a_gap(chain: list[bytes], identity: str) -> None:
    with pytest.raises(VerificationError, match="counter 2: a gap: expected counter 1"):
        verify_chain(chain[1:], identity)


def test_a_counter_that_goes_down_names_the_counter(chain: list[bytes], identity: str) -> None:
    with pytest.raises(VerificationError, match="counter 2 after 3: the counter went down"):
        verify_chain([*chain[:3], chain[1]], identity)


def test_two_receipts_for_one_counter_are_a_fork(path: Path, log: ToyLog) -> None:
    """The attacker puts an old copy back and has a second tree anchored under the same counter."""
    first = log.anchor_sizes(FileAnchor(path), [1])[0].data
    old_copy = path.read_bytes()
    shown_to_us = log.anchor_sizes(FileAnchor(path), [3])[0].data
    path.write_bytes(old_copy)
    fork = ToyLog("fork", 1, [b"entry 0"])
    shown_to_others, after = (receipt.data for receipt in fork.anchor_sizes(FileAnchor(path), [3, 5]))
    identity = FileAnchor(path).identity() or ""
    with pytest.raises(VerificationError, match="counter 2 after 2: a fork: one counter for two trees"):
        verify_chain([first, shown_to_us, shown_to_others], identity)
    with pytest.raises(VerificationError, match="counter 3: a fork: it does not continue the record before"):
        verify_chain([first, shown_to_us, after], identity)


def test_receipts_of_another_anchor_do_not_verify(
    tmp_path: Path, log: ToyLog, chain: list[bytes], identity: str
) -> None:
    other = FileAnchor(tmp_path / "other")
    foreign = log.submit(other, None, 1).data
    with pytest.raises(VerificationError, match="expected anchor file:"):
        verify_receipt(foreign, identity)
    with pytest.raises(VerificationError, match="expected anchor file:"):
        verify_chain([foreign, *chain[1:]], identity)


def test_a_shrinking_tree_in_a_well_made_chain_is_refused(chain: list[bytes], identity: str) -> None:
    """Whoever writes the file can make records at will; what they say must still be possible."""
    last = decode_record(chain[-1])
    forged = Record(last.anchor_id, last.counter + 1, 0, EMPTY_ROOT, bytes(32), bytes(32), last.digest)
    with pytest.raises(VerificationError, match="counter 5 after 4: the tree shrank"):
        verify_chain([*chain, forged.encode()], identity)


def test_numbers_out_of_range_in_a_well_made_record_are_refused(chain: list[bytes]) -> None:
    first = decode_record(chain[0])
    for counter, size in ((0, 1), (2**63, 1), (1, 2**63)):
        forged = Record(first.anchor_id, counter, size, first.root, first.checkpoint, bytes(32), first.anchor_id)
        with pytest.raises(DecodeError, match="out of range"):
            decode_record(forged.encode())
