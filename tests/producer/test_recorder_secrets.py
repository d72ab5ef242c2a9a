"""Weights, gradients, salts and keys appear nowhere outside the enclave's sealed and private files."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from producer.checkpoint import load
from producer.run_files import run_file
from tests.producer.training import Training
from zk_autograd.errors import ZkAutogradError
from zk_autograd.tee.keys import load_data_key

PIECE = 16
"""Bytes of a secret array that no text shares by chance."""


def run_with_secrets(training: Training) -> dict[str, bytes]:
    """A run of two steps; what must stay secret about it, by name."""
    with training.start() as job:
        job.step(2)
    facts = run_file(training.home, "run")
    data_key = load_data_key(training.home.data_keys, facts.start.data_key_id)
    saved = load(training.checkpoint(), job.recorder.run_id, data_key)
    done = job.optimizer.last_step
    assert done is not None
    signing = training.home.signing_key("TRAINER")._private
    secrets = {
        "data key": data_key,
        "signing key": signing.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()),
        "gradient": done.g[:PIECE].astype("<i4").tobytes()[:PIECE],
        "wide gradient": done.g[:PIECE].astype("<i8").tobytes()[:PIECE],
        "training state": saved.training[-PIECE:],
    }
    for name in ("w", "m", "v"):
        secrets[f"{name} before"] = done.pre[name][100:].astype("<i8").tobytes()[:PIECE]
        secrets[f"{name} after"] = done.post[name][100:].astype("<i8").tobytes()[:PIECE]
    for shard, salt in enumerate(saved.salts):
        for number, value in enumerate(salt):
            secrets[f"salt {number} of shard {shard}"] = value.to_bytes(32, "little")
            secrets[f"salt {number} of shard {shard}, big-endian"] = value.to_bytes(32, "big")
    return secrets


def assert_none_in(secrets: dict[str, bytes], content: bytes, where: str) -> None:
    for name, secret in secrets.items():
        assert secret not in content, f"{name} in {where}"
        assert secret.hex().encode() not in content.lower(), f"{name} in {where}, as hexadecimal digits"


def test_no_secret_is_in_what_is_published(training: Training) -> None:
    secrets = run_with_secrets(training)
    for record in training.records("steps", "witness"):
        assert_none_in(secrets, record.key + record.value, f"{record.topic}/{record.partition}@{record.offset}")


def test_no_secret_is_in_the_log_file_nor_in_the_runs_folder_nor_in_a_file_name(training: Training) -> None:
    secrets = run_with_secrets(training)
    assert_none_in(secrets, training.log_path.read_bytes(), "the log's file")
    for path in training.home.path.rglob("*"):
        assert_none_in(secrets, str(path).encode(), "a file name")
    for path in (training.home.runs / "run").iterdir():
        assert_none_in(secrets, path.read_bytes(), path.name)


def test_the_secrets_are_found_where_they_do_belong(training: Training) -> None:
    """So that the tests above look for the right bytes."""
    secrets = run_with_secrets(training)
    facts = run_file(training.home, "run")
    (key_file,) = training.home.data_keys.iterdir()
    assert key_file.read_bytes() == secrets["data key"]
    saved = load(training.checkpoint(), facts.run_id, secrets["data key"])
    with np.load(io.BytesIO(saved.training)) as arrays:
        state = b"".join(arrays[name].astype("<i8").tobytes() for name in ("w", "m", "v"))
    for name in ("w after", "m after", "v after"):
        assert secrets[name] in state


def test_key_checkpoint_and_run_files_are_their_owners_alone(training: Training) -> None:
    with training.start() as job:
        job.step()
        job.recorder.finish()
    keys, runs = training.home.path / "keys", training.home.runs
    files = [p for folder in (keys, runs) for p in folder.rglob("*") if p.is_file()]
    assert {p.name for p in files} >= {"trainer.pem", "checkpoint.sealed", "run.json"}
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}
    for folder in (keys, keys / "data", runs / "run"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_left_over_beside_the_checkpoint(training: Training) -> None:
    with training.start() as job:
        job.step(3)
    assert sorted(p.name for p in (training.home.runs / "run").iterdir()) == ["checkpoint.sealed", "run.json"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: _flip(t.checkpoint()),
        lambda t: t.checkpoint().unlink(),
        lambda t: _flip(next(t.home.data_keys.iterdir())),
        lambda t: next(t.home.data_keys.iterdir()).unlink(),
        lambda t: (t.home.runs / "run" / "run.json").write_text("{"),
        lambda t: _flip(t.home.path / "keys" / "trainer.pem"),
        lambda t: setattr(t, "parameters", 1),
    ],
    ids=["altered", "gone", "key altered", "key gone", "run file", "signing key", "model"],
)
def test_no_refusal_to_resume_tells_a_secret(damage: Callable[[Training], None], training: Training) -> None:
    secrets = run_with_secrets(training)
    damage(training)
    with pytest.raises(ZkAutogradError) as caught, training.resume():
        pass
    assert_none_in(secrets, str(caught.value).encode(), "the error")
