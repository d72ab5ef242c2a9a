"""The graph: what it costs, that it is the same everywhere, and that set-up sees a table that is not tight."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import numpy_helper

from zk_autograd.errors import ProofSystemError
from zk_autograd.proofs.base import PROFILES, Circuit, Limits, Profile
from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.process import run_child
from zk_autograd.proofs.ezkl.selftest import self_test
from zk_autograd.proofs.ezkl.system import Ezkl, shard_size
from zk_autograd.statement import STATEMENTS

NAMES = sorted(STATEMENTS)


@pytest.mark.parametrize(
    ("name", "profile", "parameters"),
    [
        ("adam", "small", 2790),
        ("adam", "default", 5590),
        ("sgd", "small", 9780),
        ("sgd", "default", 19590),
        ("momentum", "small", 5750),
        ("momentum", "default", 11520),
    ],
)
def test_a_shard_has_as_many_parameters_as_ever(name: str, profile: str, parameters: int) -> None:
    """Another number is another circuit, with other keys, for everyone."""
    assert shard_size(STATEMENTS[name], PROFILES[profile]) == parameters


@pytest.mark.parametrize(("name", "most"), [("adam", 35.3), ("sgd", 10.1), ("momentum", 17.2)])
def test_a_parameter_costs_few_cells(name: str, most: float) -> None:
    profile = PROFILES["default"]
    assert profile.columns * 2**profile.logrows / shard_size(STATEMENTS[name], profile) <= most < 40


@pytest.mark.parametrize("name", NAMES)
def test_a_shard_fills_its_columns_and_does_not_overflow_them(name: str) -> None:
    for profile in PROFILES.values():
        shard = shard_size(STATEMENTS[name], profile)
        room = profile.columns * profile.P
        _, cells = graph.build(STATEMENTS[name], profile.P, shard, profile.noise)
        assert 0.99 * room < cells <= 0.999 * room
        assert max(graph.column_sizes(STATEMENTS[name], profile.P, shard, profile.noise).values()) < profile.P


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_is_the_same_in_every_process(name: str) -> None:
    program = (
        "import hashlib; from zk_autograd.proofs.ezkl.graph import build; from zk_autograd.statement import STATEMENTS;"
        f"print(hashlib.sha256(build(STATEMENTS[{name!r}], 32760, 50, 20)[0].SerializeToString()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_input_but_the_public_one_ends_in_salt_that_nothing_uses(name: str) -> None:
    st, shard, noise = STATEMENTS[name], 30, 8
    model, _ = graph.build(st, 32760, shard, noise)
    sizes = graph.column_sizes(st, 32760, shard, noise)
    constants = {t.name: t for t in model.graph.initializer}
    used = dict.fromkeys(sizes, 0)
    for node in model.graph.node:
        for source in set(node.input) & set(sizes):
            assert node.op_type == "Slice"
            (end,) = numpy_helper.to_array(constants[node.input[2]]).tolist()
            used[source] = max(used[source], end)
    assert {n: sizes[n] - used[n] for n in sizes} == {n: 0 if n == "hyper" else 3 for n in sizes}


KNOWN = {
    "adam": "57851f2a0aaa08a91ce180eb063d572084535d34cc41af1c2abe89a3c130014a",
    "adam-l2": "5226b5ec5c6f4d7968241e712d855c2eff04f241e7b04a45ddbe57453f4ae73f",
    "adam-wide": "6e5bd3e88f31d9050d08a9b3f29a5fc652bb6d6d5e9ecb9e19406193802c286f",
    "adamw": "fdc05c2679da8c19cf24dae3c51490e6e257a182b1c5cab325ab74fd8a27fd66",
    "adamw-wide": "75665af90a8463919cb87d824fb682d20537b3164692bd2eb96e0d4bacbabb21",
    "amsgrad": "2c4ca92b2be2f911cf31eb25a5a569c68fae52ddbce6f5322196bd976eeedcee",
    "amsgrad-l2": "2aa0766101156919167dd8bbfd76b8a109eb0e5deb5873ed459024d5069d2a32",
    "amsgradw": "10bc4cea348f931248d3262425f5a2cd1daf9c278aff5eab62dd7489924eb9ad",
    "momentum": "176a627823cef1fa25bd1178fb301ece531dace02cd70db6ee98b3536990289b",
    "momentum-l2": "d082a81ce512602742b50432a8c6d7c5b6316e9a494886d9443c3cd6889c1881",
    "nesterov": "ee83661900ce26b1ec16ade1abad2abef3311afb397c140b165b083fe210bdf4",
    "nesterov-l2": "236f32473c89a80ffbba5963daee63f317a75678b4a3eaaeb5c2fe744809836e",
    "sgd": "e8a7bee0a5cc184382f45837ac4ae9bc010af8868369ad179486b84b1fc20875",
    "sgd-l2": "d2ecb6127bbbea0fd4315dbb8c81cb54f1697f2fd998c94952ccb2580e2e00da",
}
"""SHA-256 of the graphs of 50 parameters from which the circuits in use were made."""


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_graph_is_the_one_it_ever_was(name: str) -> None:
    """Another graph is another circuit: who has its keys, and who allows its id, would have to get new ones."""
    model, _ = graph.build(STATEMENTS[name], 32760, 50, 20)
    assert hashlib.sha256(model.SerializeToString()).hexdigest() == KNOWN[name]


def test_a_constant_that_a_float_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="16777217 is not exact"):
        graph.Graph().constant((1 << 24) + 1)


def test_profiles_have_the_largest_table_that_one_column_holds() -> None:
    for profile in PROFILES.values():
        assert 2**profile.logrows - 8 == profile.P
    assert Profile("x", 14, 3, 0).P == 16376


@pytest.mark.parametrize("excess", [1, 100])
def test_set_up_refuses_a_table_that_takes_a_value_too_many(tmp_path: Path, excess: int) -> None:
    """A table that is one longer than its column takes a second column, which lets far larger values through."""
    st, P, shard = STATEMENTS["sgd"], 2**12 - 8, 40
    loose = tmp_path / "loose"
    loose.mkdir()
    Ezkl()._compile(st, P, 3, shard, 16, loose)
    job = {"logrows": 12, "columns": 3, "P": P + excess, "model": str(loose / "model.onnx")}
    job |= {"settings": str(loose / "settings.json"), "compiled": str(loose / "compiled.ezkl")}
    for verb in ("settings", "compile"):
        run_child(job | {"verb": verb}, Limits(), secret=False)
    circuit = Circuit(bytes(32), "test", st, P, shard, 16, 0, bytes(32), "DEV", loose, loose / "none")
    with pytest.raises(ProofSystemError, match=rf"not tight: {P} was taken .* were not kept"):
        self_test(Ezkl(), circuit, lambda _: None)
