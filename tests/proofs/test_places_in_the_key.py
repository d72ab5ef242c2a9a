"""Which element of a committed column a gate uses stands in the verifying key: ``docs/soundness.md`` rests on it.

Real keys of a small circuit. A graph that differs in where one slice begins, and in nothing else, has another key.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import ezkl
import pytest

from zk_autograd.proofs.ezkl import graph
from zk_autograd.proofs.ezkl.constraints import read_key
from zk_autograd.proofs.ezkl.graph import Expr, Graph, column_sizes
from zk_autograd.proofs.ezkl.system import NAME, Ezkl
from zk_autograd.statement import STATEMENTS

LOGROWS, SHARD, NOISE = 9, 5, 6
PAGES = Path(__file__).parents[2] / "docs"
ST = STATEMENTS["momentum"]
COLUMNS = column_sizes(ST, 2**LOGROWS - 8, SHARD, NOISE)


def slices() -> list[tuple[str, int, int]]:
    """Where the graph cuts its inputs: column, first element, length; each once."""
    model, _ = graph.build(ST, 2**LOGROWS - 8, 3, SHARD, NOISE)
    found = []
    for node in model.graph.node:
        if node.op_type == "Slice" and node.input[0] in COLUMNS:
            start, end = (int(name[1:]) for name in node.input[1:3])
            found.append((node.input[0], start, end - start))
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[bytes, bytes]]:
    """Makes a circuit as set-up does; its verifying key, and the settings from which EZKL reads the rest of it."""
    srs = Ezkl().dev_srs(tmp_path_factory.mktemp("srs"), LOGROWS)

    def make() -> tuple[bytes, bytes]:
        folder = tmp_path_factory.mktemp("keyed")
        Ezkl()._compile(ST, 2**LOGROWS - 8, 3, SHARD, NOISE, folder)
        Ezkl()._keys(folder, srs)
        return (folder / "vk.key").read_bytes(), (folder / "settings.json").read_bytes()

    return make


@pytest.fixture(scope="module")
def unshifted(keyed: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    return keyed()


def test_the_same_graph_has_the_same_key(keyed: Callable[[], tuple[bytes, bytes]], unshifted: object) -> None:
    assert keyed() == unshifted


def test_every_part_of_every_column_is_among_the_slices_below() -> None:
    starts = {(column, start) for column, start, _ in slices()}
    state = {(c, i * SHARD) for c in ("pre", "post") for i in range(len(ST.state))}
    assert starts == state | {("work", 0), ("work", SHARD)} | {("hyper", i) for i in range(len(ST.inputs))}


@pytest.mark.parametrize(("column", "start", "length"), slices())
def test_a_slice_that_begins_one_element_later_makes_another_key(
    keyed: Callable[[], tuple[bytes, bytes]],
    unshifted: tuple[bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    start: int,
    length: int,
) -> None:
    cut = Graph.cut
    by = 1 if start + length < COLUMNS[column] else -1  # the last public integer has nothing behind it

    def shifted(self: Graph, source: str, at: int, count: int) -> Expr:
        return cut(self, source, at + by * ((source, at, count) == (column, start, length)), count)

    monkeypatch.setattr(Graph, "cut", shifted)
    key, settings = keyed()
    assert settings == unshifted[1], "the settings do not tell: it is the key that does"
    one, other = read_key(unshifted[0]), read_key(key)
    assert one.permutation != other.permutation
    assert (one.fixed, one.selectors) == (other.fixed, other.selectors), "the copies alone are others"


def test_the_pages_name_places_in_the_installed_ezkl() -> None:
    """Its debug strings name the version, halo2's commit and source files; functions they do not name."""
    assert ezkl.__file__
    (wheel,) = Path(ezkl.__file__).parent.glob("*.so")
    with wheel.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as said:

        def named(text: str) -> bool:
            return said.find(text.encode()) >= 0

        version = NAME.removeprefix("ezkl-")
        soundness, hiding = ((PAGES / page).read_text("utf-8") for page in ("soundness.md", "zero-knowledge.md"))
        assert named(version)
        assert f"EZKL {version}" in soundness
        assert f"EZKL {version}" in hiding
        for part in ("halo2-", "/01c8884/", "halo2_proofs/src/plonk/prover.rs"):
            assert named(part), part
        assert "`01c8884`" in soundness
        assert "`01c8884`" in hiding
        files = [word for word in soundness.replace("`", " ").split() if word.startswith("src/") and ".rs" in word]
        assert len(files) >= 5
        assert [f for f in files if not named(f.rstrip(".:,)"))] == []
