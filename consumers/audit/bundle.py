"""``zk-audit bundle``: one file with everything that auditing a run takes; and ``zk-audit unpack``: its circuit.

Records are taken as they lie, readable or not, in the order in which an audit reads a growing log, so that the audit of
the file says what the audit of the log would have said at that moment. Other runs' steps and proofs stay out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from consumers.audit.bundle_log import BundleLog
from consumers.audit.collect import started_runs
from consumers.audit.container import FILES, PARTS, Writer, record_frame
from consumers.audit.opening import find_run, open_source
from consumers.audit.reading import item_of, of_another
from consumers.options import Reporter, add_log, log_url
from schemas.events import RunStarted
from zk_autograd.cli import add_home, command_parser
from zk_autograd.errors import UsageError
from zk_autograd.eventlog.base import EventLog
from zk_autograd.policy import Policy
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.store import CircuitStore

_SPOOL = 256 << 10
"""Bytes of a partition that are held in memory; more goes to disk."""


class _Spool:
    """One part's frames by partition, until all of them are there."""

    def __init__(self, stack: ExitStack, partitions: int, folder: Path) -> None:
        self._stack, self.partitions, self._folder = stack, partitions, folder
        self._files: dict[int, Any] = {}
        self.records = 0

    def add(self, partition: int, frame: bytes) -> None:
        if partition not in self._files:
            self._files[partition] = self._stack.enter_context(
                tempfile.SpooledTemporaryFile(_SPOOL, dir=str(self._folder))  # noqa: SIM115
            )
        self._files[partition].write(frame)
        self.records += 1

    def in_order(self) -> Iterator[BinaryIO]:
        for _, file in sorted(self._files.items()):
            file.seek(0)
            yield file


def write_bundle(log: EventLog, run_id: bytes, find_circuit: CircuitStore | None, target: Path) -> dict[str, Any]:
    """Writes ``target``, all or nothing; says what is in it.

    Args:
        find_circuit: where the run's circuit is; None leaves it out.
    Raises:
        UsageError: ``target`` is there already, the run is not, or its circuit.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: remove it, or name another file")
    try:
        handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file, ExitStack() as stack:
            spools, started = _read(log, run_id, stack, target.parent)
            if started is None:
                raise UsageError(f"the start of run {run_id.hex()} is not in the log")
            circuit = find_circuit(started.circuit_id) if find_circuit is not None else None
            _write(Writer(file), run_id, spools, circuit)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, target)
    finally:
        Path(draft).unlink(missing_ok=True)
    return {
        "run_id": run_id.hex(),
        "name": started.name,
        "file": str(target),
        "bytes": target.stat().st_size,
        "records": sum(spool.records for spool in spools),
        "circuit_id": circuit.id.hex() if circuit else None,
    }


def _read(
    log: EventLog, run_id: bytes, stack: ExitStack, folder: Path
) -> tuple[list[_Spool], RunStarted | None]:  # fmt: skip
    """Every part in the order of :data:`PARTS`, which is the order of :func:`consumers.audit.reading.read_topics`."""
    spools, started = [], None
    readers = {topic: stack.enter_context(log.reader([topic])) for topic in ("ledger",)}
    for topic, _ in PARTS:
        spool = _Spool(stack, log.partitions(topic), folder)
        reader = readers.get(topic) or stack.enter_context(log.reader([topic]))
        for record in reader.read_to_end():
            if topic in ("steps", "proofs"):
                item = item_of(record)
                if of_another(item, run_id):
                    continue
                if item.claimed and item.claimed.event_id == run_id and isinstance(item.claimed.event, RunStarted):
                    started = item.claimed.event
            spool.add(record.partition, record_frame(record))
        spools.append(spool)
    return spools, started


def _write(out: Writer, run_id: bytes, spools: list[_Spool], circuit: Circuit | None) -> None:
    out.run(run_id)
    for number, spool in enumerate(spools):
        out.part(number, spool.partitions)
        for frames in spool.in_order():
            out.framed(frames)
    if circuit is not None:
        out.circuit(circuit.id)
        for name in FILES:
            path = circuit.srs_path if name == "srs" else circuit.directory / name
            if name != "digest" or path.exists():
                out.file(name, path)
    out.end()


_EPILOG = """examples:
  zk-audit bundle --run 3f0c -o run.zkb                    from the home's log
  zk-audit bundle --log kafka://broker:9092 --run my-run -o run.zkb --json
  zk-audit run.zkb --policy policy.json                    the audit, wherever the file is
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit bundle``."""
    p = command_parser(
        "zk-audit bundle",
        "Write one file with everything that auditing a run takes: its records and the shared log's as "
        "they lie, and the circuit's verifying key, settings and SRS. Its auditor needs no network, and trusts nothing "
        "in it.",
        _EPILOG,
    )
    add_log(p)
    add_home(p, "circuits")
    p.add_argument("--run", required=True, metavar="ID", help="run id, or its first digits, or its name")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
    p.add_argument("--no-circuit", action="store_true", help="leave the circuit out: the auditor has it")
    p.add_argument("--json", action="store_true", help="print what was written as one JSON object")
    p.set_defaults(run_command=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Writes a bundle."""
    report = Reporter(args.json)
    with open_source(log_url(args), None, args.home) as source, report.busy(f"writing {args.output}"):
        run_id = find_run(started_runs(source.log, Policy(first_use=True)), args.run)
        circuits = None if args.no_circuit else CircuitStore(args.home, None)
        facts = write_bundle(source.log, run_id, circuits, args.output)
    print(
        json.dumps(facts)
        if args.json
        else f"run {facts['run_id']}  ({facts['name']})\n{facts['records']} records, {facts['bytes']} bytes, "
        f"circuit {facts['circuit_id'] or 'left out'}\n{facts['file']}"
    )
    return 0


def unpack_parser() -> argparse.ArgumentParser:
    """The command line of ``zk-audit unpack``."""
    p = command_parser(
        "zk-audit unpack",
        "Write the circuit of a bundle into a folder that can then be used as --home, to rebuild its "
        "verifying key from the statement (zk-setup --check ID --home FOLDER).",
        "examples:\n  zk-audit unpack run.zkb auditor-home\n",
    )
    p.add_argument("file", type=Path, metavar="FILE", help="a bundle")
    p.add_argument("folder", type=Path, metavar="FOLDER", help="where to write circuits/ and srs/")
    p.add_argument("--json", action="store_true", help="print the circuit's id as a JSON object")
    p.set_defaults(run_command=unpack)
    return p


def unpack(args: argparse.Namespace) -> int:
    """Writes a bundle's circuit, and loads it as a check."""
    with BundleLog(args.file) as log:
        log.unpack_circuit(args.folder)
        assert log.index.circuit_id is not None
        circuit = CircuitStore(args.folder, None)(log.index.circuit_id)
    facts = {"circuit_id": circuit.id.hex(), "srs_class": circuit.srs_class, "folder": str(args.folder)}
    print(
        json.dumps(facts)
        if args.json
        else f"circuit {circuit.id.hex()} ({circuit.statement.name}, SRS of class {circuit.srs_class})\n"
        f"rebuild it: zk-setup --check {circuit.id.hex()} --home {args.folder}"
    )
    return 0
