"""Attacks on an audit bundle: its maker, or its carrier, wants another verdict, or to harm the auditor's machine.

A bundle whose frames are not exactly in order is refused. One that is well-formed says what a log would have said that
holds the same records, so whatever an attack on a log violates, it violates in a bundle.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.audit.bundle import write_bundle
from consumers.audit.bundle_log import BundleLog
from consumers.audit.checks import audit
from consumers.audit.collect import collect
from consumers.audit.container import CIRCUIT, END, FILE, MAGIC, PART, RECORD, RUN
from consumers.audit.opening import collect_run, open_source
from consumers.audit.outcome import Audit, Status
from consumers.audit.report import as_json, as_text
from schemas.events import EnclaveAttested, RunStarted
from schemas.wire import open_event_log
from tests.attacks.conftest import assert_violates
from tests.support.forge import Case, explain, flipped
from tests.support.pipeline import ORIGIN
from zk_autograd.errors import DecodeError, UsageError
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.store import CircuitStore

Frame = tuple[int, bytes]


def bundled(case: Case, name: str = "run.zkb", circuit: bool = True) -> Path:
    path = case.folder / name
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        write_bundle(log, case.run_id, case.circuits if circuit else None, path)
    return path


def frames(path: Path) -> list[Frame]:
    data, at, found = path.read_bytes(), len(MAGIC), []
    while at < len(data):
        kind, size = struct.unpack_from(">BI", data, at)
        found.append((kind, data[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


def write(path: Path, content: list[Frame], magic: bytes = MAGIC) -> Path:
    """The frames as a file, with the hash that fits them."""
    body = magic + b"".join(struct.pack(">BI", k, len(c)) + c for k, c in content if k != END)
    path.write_bytes(body + struct.pack(">BI", END, 32) + hashlib.sha256(body).digest())
    return path


def audited(case: Case, path: Path, home: Path | None = None) -> Audit:
    """The audit of a bundle by someone who has nothing but it and a policy."""
    with open_source(None, str(path), home or case.folder / "no home") as source:
        found, run_id = collect_run(source, None, case.policy)
        return audit(found, run_id, case.policy, source.find_circuit, case._verify, [], ORIGIN)


def refused(path: Path) -> str:
    with pytest.raises(DecodeError) as error:
        BundleLog(path)
    return str(error.value)


# Controls


def test_a_bundle_is_judged_as_its_log_is(case: Case) -> None:
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        direct = audit(
            collect(log, case.run_id, case.policy), case.run_id, case.policy, case.circuits, case._verify, []
        )
    found = audited(case, bundled(case))
    assert found.exit_code == 0, explain(found)
    assert as_text(found, "run") == as_text(direct, "run")
    assert as_json(found, "run") == as_json(direct, "run")


@pytest.mark.parametrize("topic", ["steps", "proofs", "ledger", "checkpoints", "anchors"])
def test_noise_in_the_log_is_noise_in_the_bundle(case: Case, topic: str) -> None:
    case.log.append(topic, b"garbage", flipped(case.log.records(topic)[0].value, -1 % 40))
    direct, found = case.audit(live=False), audited(case, bundled(case))
    assert found.exit_code == direct.exit_code != 0
    assert as_json(found, "run") == as_json(direct, "run")


def test_frames_written_again_are_the_same_file(case: Case) -> None:
    """The tools of this module change nothing but what a test asks for."""
    path = bundled(case)
    before = path.read_bytes()
    assert write(path, frames(path)).read_bytes() == before


def test_equal_contents_are_equal_bundles(case: Case, tmp_path: Path) -> None:
    first = bundled(case)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copyfile(case.log.path, copy / "log.db")
    case.log.path = copy / "log.db"
    records = case.log.records("ledger")
    with case.log._changing() as connection:  # when a record came, and under which key, nobody has signed
        connection.execute("UPDATE records SET timestamp_ms = timestamp_ms + 1, key = x'00' WHERE topic = 'ledger'")
    assert case.log.records("ledger") != records
    assert bundled(case, "second.zkb").read_bytes() == first.read_bytes()


# The file


def test_a_bundle_cut_anywhere_is_refused(case: Case) -> None:
    path = bundled(case, circuit=False)
    data = path.read_bytes()
    for end in (*range(300), *range(300, len(data), 997), len(data) - 1):
        path.write_bytes(data[:end])
        refused(path)


def test_a_bundle_with_one_changed_byte_is_refused(case: Case) -> None:
    path = bundled(case, circuit=False)
    data = path.read_bytes()
    for at in (*range(120), *range(120, len(data), 499), len(data) - 1):
        path.write_bytes(flipped(data, at))
        refused(path)


@pytest.mark.parametrize("more", [b"\0", MAGIC, bytes(1000)])
def test_bytes_after_the_end(case: Case, more: bytes) -> None:
    path = bundled(case, circuit=False)
    path.write_bytes(path.read_bytes() + more)
    assert "after its end" in refused(path)


def _moved(content: list[Frame], kind: int, to: int) -> list[Frame]:
    at = next(i for i, f in enumerate(content) if f[0] == kind)
    rest = content[:at] + content[at + 1 :]
    return [*rest[:to], content[at], *rest[to:]]


def _twice(content: list[Frame], kind: int) -> list[Frame]:
    at = next(i for i, f in enumerate(content) if f[0] == kind)
    return [*content[: at + 1], content[at], *content[at + 1 :]]


def _swapped(content: list[Frame], kind: int) -> list[Frame]:
    a, b = [i for i, f in enumerate(content) if f[0] == kind][:2]
    changed = list(content)
    changed[a], changed[b] = content[b], content[a]
    return changed


def _without(content: list[Frame], kind: int) -> list[Frame]:
    at = next(i for i, f in enumerate(content) if f[0] == kind)
    return content[:at] + content[at + 1 :]


REORDERED: dict[str, Callable[[list[Frame]], list[Frame]]] = {
    "no run": lambda c: _without(c, RUN),
    "the run twice": lambda c: _twice(c, RUN),
    "the run later": lambda c: _moved(c, RUN, 3),
    "a part missing": lambda c: _without(c, PART),
    "a part twice": lambda c: _twice(c, PART),
    "parts swapped": lambda c: _swapped(c, PART),
    "a record twice": lambda c: _twice(c, RECORD),
    "records swapped": lambda c: _swapped(c, RECORD),
    "a record before every part": lambda c: _moved(c, RECORD, 1),
    "a record among the files": lambda c: _moved(c, RECORD, len(c) - 2),
    "a circuit twice": lambda c: _twice(c, CIRCUIT),
    "a circuit first": lambda c: _moved(c, CIRCUIT, 0),
    "a file missing": lambda c: _without(c, FILE),
    "a file twice": lambda c: _twice(c, FILE),
    "files swapped": lambda c: _swapped(c, FILE),
    "files without a circuit": lambda c: _without(c, CIRCUIT),
    "a file of no name": lambda c: [(k, b"\x06" + f[1:]) if k == FILE else (k, f) for k, f in c],
    "a kind that is none": lambda c: [*c[:1], (7, b""), *c[1:]],
    "an empty kind": lambda c: [*c[:1], (0, b""), *c[1:]],
    "a partition that is not there": lambda c: [(k, b"\0\0\0\x63" + f[4:]) if k == RECORD else (k, f) for k, f in c],
    "no partitions": lambda c: [(k, f[:1] + bytes(4)) if k == PART else (k, f) for k, f in c],
    "a short run id": lambda c: [(RUN, bytes(31)), *c[1:]],
}


@pytest.mark.parametrize("name", REORDERED)
def test_frames_that_are_not_in_order(case: Case, name: str) -> None:
    """The hash fits: whoever can change a bundle can compute it."""
    path = bundled(case)
    write(path, REORDERED[name](frames(path)))
    assert refused(path).startswith("bundle: ")


@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 900_100, 0])
def test_a_length_that_is_a_lie_costs_no_memory(case: Case, kind: int, size: int) -> None:
    import tracemalloc

    path = bundled(case, circuit=False)
    content = path.read_bytes()
    at = len(MAGIC) + 5 + 32
    path.write_bytes(content[:at] + struct.pack(">BI", kind, size) + content[at + 5 :])
    tracemalloc.start()
    refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_another_file_is_no_bundle(case: Case, tmp_path: Path) -> None:
    assert "another file" in refused(case.log.path)
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    refused(empty)
    write(empty, [], b"zk-audit bundle 2\n")
    refused(empty)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(UsageError, match="expected the file of an audit bundle"):
            BundleLog(place)


# Its contents


def edited(case: Case, change: Callable[[list[Frame]], list[Frame]]) -> Path:
    path = bundled(case)
    return write(path, change(frames(path)))


def test_a_record_with_a_changed_byte_is_what_it_is_in_a_log(case: Case) -> None:
    """Every record, one at a time: none of them can be changed by who has no key."""
    content = frames(bundled(case))
    path = case.folder / "changed.zkb"
    for i, (kind, record) in enumerate(content):
        if kind == RECORD:
            write(path, [*content[:i], (kind, flipped(record, len(record) - 1)), *content[i + 1 :]])
            found = audited(case, path)
            assert found.exit_code != 0, (i, explain(found))


def test_a_record_that_is_left_out_is_missed(case: Case) -> None:
    """Every record, one at a time, but for a key's introduction that stands in the log more than once."""
    introduced = Counter(o.key_id for _, o in case.log.opened("steps") if isinstance(o.event, EnclaveAttested))
    again = {r.value for r, o in case.log.opened("steps") if introduced[o.key_id] > 1 and hasattr(o.event, "evidence")}
    content = frames(bundled(case))
    path = case.folder / "less.zkb"
    for i, (kind, record) in enumerate(content):
        if kind == RECORD:
            write(path, content[:i] + content[i + 1 :])
            found = audited(case, path)
            assert (found.exit_code == 0) == (record[12:] in again), (i, explain(found))


def test_values_that_change_places_between_steps(case: Case) -> None:
    """Order within a partition is not what makes a chain: copies in other places are harmless, and lies are not."""

    def swap_ledger(content: list[Frame]) -> list[Frame]:
        ledger = [r.value for r in case.log.records("ledger")]
        a, b = (next(i for i, f in enumerate(content) if f[1][12:] == ledger[n]) for n in (1, 2))
        changed = list(content)
        changed[a] = (RECORD, content[a][1][:12] + ledger[2])
        changed[b] = (RECORD, content[b][1][:12] + ledger[1])
        return changed

    assert_violates(audited(case, edited(case, swap_ledger)), 7, 8)


def test_a_bundle_that_names_another_run(case: Case) -> None:
    """The run's id is no claim that anything rests on: another one has no records in the file."""
    path = edited(case, lambda c: [(RUN, bytes(32)), *c[1:]])
    with pytest.raises(UsageError, match="no run"):
        audited(case, path)


def test_a_bundle_of_another_run_than_the_auditor_asked_for(case: Case) -> None:
    story = case.story()
    story.edit(RunStarted, name="another")
    first = case.run_id
    case.retell(story)
    with open_source(None, str(bundled(case)), case.folder) as source:
        for wanted in (first.hex(), "run"):
            with pytest.raises(UsageError, match=r"the bundle is of run|no run 'run'"):
                collect_run(source, wanted, case.policy)
        assert collect_run(source, "another", case.policy)[1] == case.run_id


@pytest.mark.parametrize("number", range(6), ids=["description", "settings", "key", "SRS id", "digest", "SRS"])
def test_a_circuit_file_that_was_changed_is_never_a_sound_run(case: Case, number: int) -> None:
    """All files but the digest are under the circuit's id; with a wrong digest EZKL judges each proof itself."""

    def change(content: list[Frame]) -> list[Frame]:
        return [
            (k, flipped(f, len(f) // 2)) if k == FILE and f[0] == number else (k, f) for k, f in content
        ]  # fmt: skip

    found = audited(case, edited(case, change))
    if number == 4:
        assert found.exit_code == 0, explain(found)
    else:
        assert found.exit_code == 2, explain(found)
        assert found.checks[2].status is Status.UNCHECKED


def test_another_circuits_files_under_the_runs_id(case: Case, real_circuit: Callable[[str], Circuit]) -> None:
    """A circuit that proves something else, called as the run's."""
    other = real_circuit("sgd")
    names = ("circuit.json", "settings.json", "vk.key", "srs_id", "digest")

    def change(content: list[Frame]) -> list[Frame]:
        return [
            (k, f[:1] + (other.directory / names[f[0]]).read_bytes()) if k == FILE and f[0] < 5 else (k, f)
            for k, f in content
        ]

    found = audited(case, edited(case, change))
    assert found.exit_code == 2, explain(found)
    assert "hash to" in found.checks[2].detail


def test_another_circuit_under_its_own_id_is_not_the_runs(case: Case, real_circuit: Callable[[str], Circuit]) -> None:
    other = real_circuit("sgd")
    names = ("circuit.json", "settings.json", "vk.key", "srs_id", "digest")

    def change(content: list[Frame]) -> list[Frame]:
        named = [(k, other.id) if k == CIRCUIT else (k, f) for k, f in content]
        return [
            (k, f[:1] + (other.directory / names[f[0]]).read_bytes()) if k == FILE and f[0] < 5 else (k, f)
            for k, f in named
        ]

    found = audited(case, edited(case, change))
    assert found.exit_code == 2, explain(found)
    assert "no circuit" in found.checks[2].detail


def test_the_auditors_own_circuit_goes_before_the_bundles(case: Case) -> None:
    """A damaged bundle's circuit does no harm to who has it already; and a bundle may be made without one."""
    home = case.sound.home.path
    for path in (
        edited(case, lambda c: [(k, flipped(f, 9)) if k == FILE else (k, f) for k, f in c]),
        bundled(case, "bare.zkb", circuit=False),
    ):
        assert audited(case, path).exit_code == 2
        assert audited(case, path, home).exit_code == 0


def test_unpacking_writes_only_below_its_folder(case: Case, tmp_path: Path) -> None:
    """Names are ours or hashes: there is nothing in the file that could name a path. What is unpacked loads."""
    folder = tmp_path / "a" / "home"
    with BundleLog(bundled(case)) as log:
        log.unpack_circuit(folder)
        assert log.index.circuit_id is not None
        assert CircuitStore(folder, None)(log.index.circuit_id).id == case.sound.circuit.id
        with pytest.raises(UsageError, match="give an empty folder"):
            log.unpack_circuit(folder)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and p.is_relative_to(folder)) == sorted(
        ["circuit.json", "settings.json", "vk.key", "srs_id", "digest", case.sound.circuit.srs_path.name]
    )


def test_a_bundle_can_only_be_read(case: Case) -> None:
    with BundleLog(bundled(case)) as log:
        for write_ in (lambda: log.producer("x"), lambda: log.group("x", ["steps"]), lambda: log.create_topics([])):
            with pytest.raises(UsageError, match="can only be read"):
                write_()
        with pytest.raises(UsageError, match="no topic"):
            log.reader(["witness"])


def test_a_bundle_is_never_written_over_a_file_or_left_half(case: Case) -> None:
    path = bundled(case)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        bundled(case)
    assert path.read_bytes() == before
    case.run_id = bytes(32)
    with pytest.raises(UsageError, match="is not in the log"):
        bundled(case, "other.zkb")
    assert sorted(p.name for p in case.folder.iterdir() if "zkb" in p.name or p.name.startswith(".new")) == ["run.zkb"]


def test_a_circuits_settings_that_take_gigabytes_to_read(case: Case) -> None:
    """What: settings of a few MB of JSON. Why: as values they take 30 times that, before their hash is looked at."""
    path = bundled(case)
    content = frames(path)
    at = next(i for i, (kind, data) in enumerate(content) if kind == FILE and data[:1] == b"\x01")
    content[at] = (FILE, b"\x01" + b'{"a": [' + b"[]," * (1 << 19) + b"[]]}")
    assert "too large" in refused(write(path, content))
