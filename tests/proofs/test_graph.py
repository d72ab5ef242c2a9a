"""The graph: what it costs, that it is the same everywhere, and that set-up sees a table that is not tight."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from zk_autograd.errors import ProofSystemError
from zk_autograd.proofs.base import PROFILES, Circuit, Limits, Profile
from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.process import run_child
from zk_autograd.proofs.ezkl.selftest import sample, self_test
from zk_autograd.proofs.ezkl.system import Ezkl, shard_size
from zk_autograd.statement import STATEMENTS

NAMES = sorted(n for n, st in STATEMENTS.items() if not st.shaped)


@pytest.mark.parametrize(
    ("name", "profile", "parameters"),
    [
        ("adam", "small", 3250),
        ("adam", "default", 6520),
        ("sgd", "small", 10830),
        ("sgd", "default", 21740),
        ("momentum", "small", 6960),
        ("momentum", "default", 13970),
    ],
)
def test_a_shard_has_as_many_parameters_as_ever(name: str, profile: str, parameters: int) -> None:
    """Another number is another circuit, with other keys, for everyone."""
    assert shard_size(STATEMENTS[name], PROFILES[profile]) == parameters


@pytest.mark.parametrize(("name", "most"), [("adam", 30.2), ("sgd", 9.1), ("momentum", 14.1)])
def test_a_parameter_costs_few_cells(name: str, most: float) -> None:
    profile = PROFILES["default"]
    assert profile.columns * 2**profile.logrows / shard_size(STATEMENTS[name], profile) <= most < 40


@pytest.mark.parametrize("name", NAMES)
def test_a_shard_fills_its_columns_and_does_not_overflow_them(name: str) -> None:
    for profile in PROFILES.values():
        shard = shard_size(STATEMENTS[name], profile)
        room = profile.columns * profile.P
        _, cells = graph.build(STATEMENTS[name], profile.P, profile.columns, shard, profile.noise)
        assert 0.99 * room < cells <= 0.999 * room
        assert max(graph.column_sizes(STATEMENTS[name], profile.P, shard, profile.noise).values()) < profile.P


@pytest.mark.parametrize("name", NAMES)
def test_a_full_layout_holds_an_honest_step(name: str, tmp_path: Path) -> None:
    """EZKL gives the graph the cells that were counted, not one more: it would run out of rows."""
    st, profile = STATEMENTS[name], Profile("full", 12, 3, 16)
    one, two = (graph.build(st, profile.P, 3, n, profile.noise)[1] for n in (1, 2))
    each = two - one
    shard = (3 * profile.P - 12 - (one - each)) // each  # each sum of products begins on a row of its own
    Ezkl()._compile(st, profile.P, 3, shard, profile.noise, tmp_path)
    circuit = Circuit(bytes(32), "", st, profile.P, shard, profile.noise, 0, bytes(32), "DEV", tmp_path, tmp_path)
    assert Ezkl().satisfied(circuit, sample(circuit, 1)[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_is_the_same_in_every_process(name: str) -> None:
    program = (
        "import hashlib; from zk_autograd.proofs.ezkl.graph import build; from zk_autograd.statement import STATEMENTS;"
        f"print(hashlib.sha256(build(STATEMENTS[{name!r}], 32760, 3, 50, 20)[0].SerializeToString()).hexdigest())"
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
    model, _ = graph.build(st, 32760, 3, shard, noise)
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
    "adam": "c1e787dd15dda7014627efa5bdeb1897b84b6346b7b9d0d4a3d81038927c4662",
    "adam-l2": "385d50b0bfd0b8f6c34969fb0c9dc2fec71c2aee57bf3fa089745de4cc83216a",
    "adam-wide": "ab066c8f85699756e28b9efb265ce5325723a37b71937590b4e30b35bbf70a4b",
    "adamw": "094e4c78624a1a3f6c3d3df41ed99a1e4e5b6ca782deaebe3a2e48ba05b9f647",
    "adamw-wide": "a68e7757d947855f1dfa939b54ead8d5598ebeddcc3511529d91baaa5f42d41b",
    "amsgrad": "1ed5946e6980f36488f106e7420c4317a92beeea8d278c97cddefb831f5f1676",
    "amsgrad-l2": "f94a387b591fcb9c7c09bc0e697231a23c5c7163a0b8c225748fbbef7d4440e1",
    "amsgradw": "1e59cd5ae370ede253b8678f771ff22a09c257d95dfbabf473abc765dd40789a",
    "momentum": "f730fbcab4b6eecb16436c1404785d2c8e38bfee94fbbb7559925ef15e69dc36",
    "momentum-l2": "eea629c1923822df0ddfe7c4d4c7ae9c7e1dfd6d56d501074936dde5ad0ad552",
    "nesterov": "3e30bc58bab7091c42bc44e64d827cdb70383ee2f4ad7dc01c192465c8442210",
    "nesterov-l2": "197fe4ce9e93a6430aeb2009442405caa62e06b674e7ba03d79b63deb7dc6006",
    "sgd": "cc67f99d17382ab680b645f744d0e0af811ca2e6b3ab71634b6d1bdbfa3a5c0b",
    "sgd-l2": "53126060b44b8912c067cae08d53eddec315de446a64f322b9667edb4359362a",
}
"""SHA-256 of the graphs of 50 parameters from which the circuits in use were made."""


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_graph_is_the_one_it_ever_was(name: str) -> None:
    """Another graph is another circuit: who has its keys, and who allows its id, would have to get new ones."""
    model, _ = graph.build(STATEMENTS[name], 32760, 3, 50, 20)
    assert hashlib.sha256(model.SerializeToString()).hexdigest() == KNOWN[name]


def test_a_constant_that_a_float_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="16777217 is not exact"):
        graph.Graph().number((1 << 24) + 1)


def test_a_graph_for_which_ezkl_adds_range_checks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant in several operations, as it would stand in a plain graph."""

    def plain(self: graph.Graph, value: int) -> graph.Expr:
        self.constants[f"k{value}"] = np.array([value], dtype=np.float32)
        return graph.Expr(self, f"k{value}", 1)

    monkeypatch.setattr(graph.Graph, "number", plain)
    with pytest.raises(ProofSystemError, match="sgd: EZKL wants range checks"):
        Ezkl()._compile(STATEMENTS["sgd"], 2**12 - 8, 3, 40, 16, tmp_path)


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
