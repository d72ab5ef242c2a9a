"""EZKL (Halo2 with KZG over BN254) as a proof system: set up, load, prove."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ezkl
import numpy as np
import onnx

from zk_autograd.errors import ProofSystemError, UsageError, VerificationError
from zk_autograd.field import to_hex_list
from zk_autograd.files import read_capped
from zk_autograd.proofs.base import POINT_BYTES, Circuit, Columns, Committer, Limits, Profile, ProofSystem, Verifier
from zk_autograd.proofs.ezkl import graph, srs
from zk_autograd.proofs.ezkl.commit import KzgCommitter
from zk_autograd.proofs.ezkl.constraints import read_key
from zk_autograd.proofs.ezkl.hiding import noise_lookups, shape
from zk_autograd.proofs.ezkl.process import private_folder, run_child
from zk_autograd.proofs.ezkl.verify import DIGEST, EzklVerifier, make_digest
from zk_autograd.statement import STATEMENTS, Statement

NAME = "ezkl-23.0.5"
_LARGEST = 64 << 20
_LARGEST_TEXT = 1 << 20
"""Of a circuit's own JSON, which has a few kB: values take 30 times the room of their text."""
_SETUP_LIMITS = Limits(seconds=1800, memory=0)


def shard_size(st: Statement, profile: Profile) -> int:
    """Parameters per proof: what the layout holds, less 0.2 % (its columns do not fill to the last row)."""
    fixed = st.shard_of(profile.P)
    if fixed is not None:
        return fixed
    _, one = graph.build(st, profile.P, profile.columns, 1, profile.noise)
    _, two = graph.build(st, profile.P, profile.columns, 2, profile.noise)
    once = one - (two - one) if st.carries else profile.noise
    return (profile.columns * profile.P - once) * 998 // 1000 // (two - one) // 10 * 10


def canonical_settings(settings: dict[str, Any]) -> bytes:
    """The settings as the circuit id hashes them: without the timestamp, keys sorted."""
    return json.dumps({k: v for k, v in settings.items() if k != "timestamp"}, sort_keys=True).encode()


def circuit_id(description: dict[str, Any], vk: bytes, settings: dict[str, Any], srs_id: bytes) -> bytes:
    """SHA-256 over the SHA-256 of each part, so that no two sets of parts share an encoding."""
    parts = [NAME.encode(), json.dumps(description, sort_keys=True).encode(), vk, canonical_settings(settings), srs_id]
    return hashlib.sha256(b"zk-autograd/circuit/v1\0" + b"".join(hashlib.sha256(p).digest() for p in parts)).digest()


class Ezkl(ProofSystem):
    """See the module docstring; ``home`` holds ``circuits/<id>/`` and ``srs/<logrows>.srs``."""

    name = NAME

    def shard_size(self, st: Statement, profile: Profile) -> int:
        return shard_size(st, profile)

    def dev_srs(self, home: Path, logrows: int, say: Callable[[str], None] = lambda _: None) -> Path:
        path = home / "srs" / f"dev-{logrows}.srs"
        if path.exists():
            return path
        say(f"making an insecure SRS for 2^{logrows} rows")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / "srs"
            run_child({"verb": "gen_srs", "srs": str(made), "logrows": logrows}, _SETUP_LIMITS, secret=False)
            os.replace(made, path)
        return path

    def set_up(
        self, st: Statement, profile: Profile, srs_path: Path, home: Path, say: Callable[[str], None] = lambda _: None
    ) -> Circuit:
        srs_id, srs_class = srs.identify(srs_path, profile.logrows)
        (home / "circuits").mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=home / "circuits"))
        try:
            say(f"compiling {st.name} for 2^{profile.logrows} rows")
            shard = shard_size(st, profile)
            self._compile(st, profile.P, profile.columns, shard, profile.noise, folder)
            say(f"making keys for {shard} parameters a proof")
            self._keys(folder, srs_path)
            description = {
                "statement": st.name, "logrows": profile.logrows, "columns": profile.columns,
                "shard": shard, "noise": profile.noise, "proof_bytes": 0,
            }  # fmt: skip
            draft = _circuit(bytes(32), description, srs_id, srs_class, folder, srs_path)
            (folder / DIGEST).write_text(make_digest(draft).hex() + "\n")
            from zk_autograd.proofs.ezkl.selftest import self_test

            description["proof_bytes"] = self_test(self, draft, say)
            (folder / "circuit.json").write_text(json.dumps(description, sort_keys=True, indent=1) + "\n")
            found = circuit_id(
                description, (folder / "vk.key").read_bytes(), _read_json(folder / "settings.json"), srs_id
            )
            final = home / "circuits" / found.hex()
            stored_srs = home / "srs" / f"{srs_id.hex()}.srs"
            if not stored_srs.exists():
                stored_srs.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(srs_path, folder / "srs")
                os.replace(folder / "srs", stored_srs)
            (folder / "srs_id").write_text(srs_id.hex() + "\n")
            folder.chmod(0o755)
            try:
                os.rename(folder, final)
            except OSError:
                if not final.exists():
                    raise
                # It was there already, or another set-up was faster: same id, same content.
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self.load(found, home)

    def _compile(self, st: Statement, P: int, columns: int, shard: int, noise: int, folder: Path) -> None:
        model, cells = graph.build(st, P, columns, shard, noise)
        onnx.save(model, str(folder / "model.onnx"))
        if cells > columns * P:
            raise ProofSystemError(f"{st.name}: {cells} cells do not fit {columns} columns of {P} rows")
        logrows = (P + 8).bit_length() - 1
        job = {"logrows": logrows, "columns": columns, "P": P, "model": str(folder / "model.onnx")}
        job |= {"settings": str(folder / "settings.json"), "compiled": str(folder / "compiled.ezkl")}
        run_child(job | {"verb": "settings"}, _SETUP_LIMITS, secret=False)
        settings = _read_json(folder / "settings.json")
        # They would cost a third of the proving time, and their order varies from run to run and changes the key.
        if settings["required_range_checks"]:
            raise ProofSystemError(f"{st.name}: EZKL wants range checks for this graph, of which none has a use")
        # EZKL counts slices and committed inputs, which take no cells of the layout, and would add columns for them.
        settings["num_rows"], settings["total_assignments"] = -(-cells // columns), cells
        settings.pop("timestamp", None)
        (folder / "settings.json").write_text(json.dumps(settings, sort_keys=True))
        run_child(job | {"verb": "compile"}, _SETUP_LIMITS, secret=False)

    def _keys(self, folder: Path, srs_path: Path) -> None:
        files = {"compiled": "compiled.ezkl", "vk": "vk.key", "pk": "pk.key"}
        job = {k: str(folder / v) for k, v in files.items()} | {"verb": "setup", "srs": str(srs_path)}
        run_child(job, _SETUP_LIMITS, secret=False)

    def check_hiding(self, circuit: Circuit) -> None:
        name = f"circuit {circuit.id.hex()}"
        try:
            columns = _read_json(circuit.directory / "circuit.json")["columns"]
            least = noise_lookups(shape(_logrows(circuit), columns))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise VerificationError(f"{name}: whether its proofs hide anything is not known ({error})") from None
        if circuit.noise < least:
            raise VerificationError(
                f"{name}: it blinds its look-ups with {circuit.noise} draws, expected at least {least}: its proofs "
                "show what they are about; make another with zk-setup"
            )

    def rebuild_verifying_key(self, circuit: Circuit) -> None:
        self.check_hiding(circuit)
        description = _read_json(circuit.directory / "circuit.json")
        with tempfile.TemporaryDirectory(prefix="zk-check-") as name:
            folder = Path(name)
            self._compile(circuit.statement, circuit.P, description["columns"], circuit.shard, circuit.noise, folder)
            self._keys(folder, circuit.srs_path)
            rebuilt = circuit_id(
                description, (folder / "vk.key").read_bytes(), _read_json(folder / "settings.json"), circuit.srs_id
            )
            if rebuilt != circuit.id:
                raise VerificationError(
                    f"circuit {circuit.id.hex()}: rebuilding it from the statement gives {rebuilt.hex()}; "
                    "do not trust its keys"
                )

    def load(self, circuit_id_: bytes, home: Path) -> Circuit:
        folder = home / "circuits" / circuit_id_.hex()
        if not (folder / "circuit.json").exists():
            raise UsageError(
                f"no circuit {circuit_id_.hex()} under {home / 'circuits'}: make it with zk-setup, "
                "or copy its folder and SRS there"
            )
        name = f"circuit {circuit_id_.hex()}"
        try:
            description, settings = (
                _read_json(folder / name, _LARGEST_TEXT) for name in ("circuit.json", "settings.json")
            )
            srs_id, vk = (
                bytes.fromhex(read_capped(folder / "srs_id", 100).decode("ascii")),
                read_capped(folder / "vk.key", _LARGEST),
            )
            found = circuit_id(description, vk, settings, srs_id)
            if found != circuit_id_:
                raise VerificationError(f"{name}: its files hash to {found.hex()}; delete the folder and run zk-setup")
            if read_capped(folder / "settings.json", _LARGEST_TEXT) != canonical_settings(settings):
                # EZKL reads the file itself: what it does not read as we do must not pass under the same id.
                raise VerificationError(f"{name}: settings.json is not as zk-setup writes it; get the folder again")
            srs_path = home / "srs" / f"{srs_id.hex()}.srs"
            circuit = _circuit(found, description, srs_id, "DEV", folder, srs_path)
            columns = description["columns"]
            if type(columns) is not int or not 1 <= columns <= 64:
                raise ValueError(f"columns: expected an integer of 1 to 64, got {columns!r:.40}")
            length = read_key(vk).proof_bytes
            if length != circuit.proof_bytes:  # EZKL takes any bytes after a proof
                raise VerificationError(
                    f"{name}: it says that proofs have {circuit.proof_bytes} bytes, by its key they have {length}"
                )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError, OSError) as error:
            raise VerificationError(f"{name}: its files are not readable as a circuit ({error})") from None
        found_srs, srs_class = srs.identify(srs_path, _logrows(circuit))
        if found_srs != srs_id:
            raise VerificationError(f"{name}: {srs_path} hashes to {found_srs.hex()}; copy it again")
        return replace(circuit, srs_class=srs_class)

    def committer(self, circuit: Circuit) -> Committer:
        sizes = graph.column_sizes(circuit.statement, circuit.P, circuit.shard, circuit.noise)
        committer = KzgCommitter(circuit.srs_path, _logrows(circuit), max(sizes.values()), 1 << circuit.statement.bits)
        # zksnake calls itself educational, and TAIL is EZKL's business: hold both against EZKL once per start.
        probe = np.arange(-5, 11, dtype=np.int64)
        ours, theirs = committer.commit(probe, (3, 5, 7)), _ezkl_commit(circuit, [*probe.tolist(), 3, 5, 7])
        if ours != theirs:
            raise ProofSystemError(
                "commitments differ from EZKL's own: the installed zksnake and ezkl do not fit this release"
            )
        return committer

    def prove(
        self, circuit: Circuit, columns: Columns, limits: Limits, tick: Callable[[], None] = lambda: None
    ) -> bytes:
        proof = self.prove_unverified(circuit, columns, limits, tick)
        with self.verifier(circuit) as verifier:
            try:
                verifier.verify(proof, columns.hyper)
            except VerificationError as error:
                raise ProofSystemError(f"the prover made a proof that does not verify: {error}") from None
        return proof

    def prove_unverified(
        self, circuit: Circuit, columns: Columns, limits: Limits, tick: Callable[[], None] = lambda: None
    ) -> bytes:
        """The first half of :meth:`prove`."""
        with private_folder() as folder:
            job = self._job(circuit, columns, folder) | {"verb": "prove", "proof": str(folder / "proof.json")}
            run_child(job, limits, tick, secret=True)
            return bytes(_read_json(folder / "proof.json")["proof"])

    def satisfied(self, circuit: Circuit, columns: Columns) -> bool:
        with private_folder() as folder:
            job = self._job(circuit, columns, folder) | {"verb": "mock"}
            return bool(run_child(job, Limits(), secret=True)["ok"])

    @staticmethod
    def _job(circuit: Circuit, columns: Columns, folder: Path) -> dict[str, Any]:
        data = [to_hex_list(c) for c in columns.in_order()]
        files = {"compiled": "compiled.ezkl", "vk": "vk.key", "pk": "pk.key"}
        job: dict[str, Any] = {k: str(circuit.directory / v) for k, v in files.items()}
        return job | {"srs": str(circuit.srs_path), "folder": str(folder), "columns": data}

    def verifier(self, circuit: Circuit) -> Verifier:
        return EzklVerifier(circuit)


def _circuit(
    found: bytes, description: dict[str, Any], srs_id: bytes, srs_class: str, folder: Path, srs_path: Path
) -> Circuit:
    """A circuit as described; KeyError, TypeError or ValueError if no circuit can be so."""
    st = STATEMENTS[description["statement"]]
    logrows, shard, noise, size = (int(description[k]) for k in ("logrows", "shard", "noise", "proof_bytes"))
    if not (8 <= logrows <= st.largest_logrows and shard > 0 and noise >= 0 and 0 <= size <= 1 << 20):
        raise ValueError("a size is out of range")
    if max(graph.column_sizes(st, 2**logrows - 8, shard, noise).values()) > 2**logrows - 8:
        raise ValueError("a column is longer than the circuit")
    if st.shard_of(2**logrows - 8) not in (None, shard):
        raise ValueError(f"{st.name} has no shards of {shard}")
    return Circuit(
        id=found, system=NAME, statement=st, P=2**logrows - 8, shard=shard, noise=noise, proof_bytes=size,
        srs_id=srs_id, srs_class=srs_class, directory=folder, srs_path=srs_path,
    )  # fmt: skip


def _logrows(circuit: Circuit) -> int:
    return (circuit.P + 8).bit_length() - 1


def _ezkl_commit(circuit: Circuit, values: list[int]) -> bytes:
    points: list[Any] = ezkl.kzg_commit(
        to_hex_list(values),
        str(circuit.directory / "vk.key"),
        str(circuit.directory / "settings.json"),
        str(circuit.srs_path),
    )
    raw = b"".join(bytes.fromhex(c)[::-1] for c in (points[0].x, points[0].y))
    if len(raw) != POINT_BYTES:
        raise ProofSystemError(f"ezkl: expected a point of {POINT_BYTES} bytes, got {len(raw)}")
    return raw


def _read_json(path: Path, cap: int = _LARGEST) -> dict[str, Any]:
    result = json.loads(read_capped(path, cap))
    if not isinstance(result, dict):
        raise ValueError(f"{path.name}: expected a JSON object")
    return result
