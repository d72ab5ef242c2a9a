"""Paths, bundles and the right edge, against the specification's own examples and a naive tree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.edge import RightEdge
from ledger.frontier import Frontier
from ledger.tiled import TiledTree
from ledger.tiles import ENTRIES, MAX_ENTRY_BYTES, Tile, decode_bundle, edge_tiles, encode_bundle, tile_count
from ledger.tree import Tree
from tests.tiles.logs import by_definition, entries, entry
from zk_autograd import merkle
from zk_autograd.errors import DecodeError, UsageError, VerificationError

COUNT = 70_000


class Grown:
    """A tree with its full tiles."""

    def __init__(self, count: int) -> None:
        self.full: dict[Tile, bytes] = {}
        self.edge = RightEdge(self.full.__setitem__)
        self.tree = TiledTree(self.edge, self.full.__getitem__)
        for i in range(count):
            self.tree.append(entry(i))

    def files(self) -> dict[str, bytes]:
        return {str(t): data for t, data in self.full.items()} | {
            str(t): self.edge.partial(t) for t in edge_tiles(self.edge.size)
        }


@pytest.fixture(scope="module")
def grown() -> Grown:
    return Grown(COUNT)


@pytest.fixture(scope="module")
def naive() -> Tree:
    return Tree(entries(COUNT))


def test_paths_are_those_of_the_specification() -> None:
    assert str(Tile(0, 1_234_067)) == "tile/0/x001/x234/067"
    assert str(Tile(ENTRIES, 273, 112)) == "tile/entries/273.p/112"
    assert [str(t) for t in edge_tiles(70_000)] == [
        "tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1",
    ]  # fmt: skip
    assert [str(t) for t in edge_tiles(256)] == ["tile/1/000.p/1"]
    # 273 full and 1 partial leaf tile, as many bundles, 1 and 1 above, 1 at the top
    assert tile_count(70_000) == 2 * 274 + 2 + 1


@given(st.integers(ENTRIES, 63), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_a_path_says_its_tile_and_no_other(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(str(tile)) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/0", "tile/0/1000", "tile/0/x000/000", "tile/0/000.p/0",
        "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/001/000", "tile/0/x001", "tile/entries/",
        "tile/0/../000", "tile/0/000\n", "tile/0/٠٠٠", "/tile/0/000", "checkpoint", "", f"tile/0/{'x999/' * 99}999",
    ],
)  # fmt: skip
def test_other_spellings_are_no_paths(path: str) -> None:
    with pytest.raises(DecodeError):
        Tile.parse(path)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_gives_back_its_entries(values: list[bytes]) -> None:
    assert decode_bundle(Tile(ENTRIES, 0, len(values)), encode_bundle(values)) == values


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.data())
def test_bytes_that_decode_are_the_one_encoding_of_their_entries(values: list[bytes], data: st.DataObject) -> None:
    raw = bytearray(encode_bundle(values))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for changed in (bytes(raw), bytes(raw[:cut]), bytes(raw) + b"\0"):
        try:
            found = decode_bundle(Tile(ENTRIES, 0, len(values)), changed)
        except DecodeError:
            continue
        assert encode_bundle(found) == changed


def test_an_entry_over_the_cap_is_neither_written_nor_taken() -> None:
    with pytest.raises(UsageError, match="at most 4096"):
        encode_bundle([bytes(MAX_ENTRY_BYTES + 1)])
    with pytest.raises(DecodeError, match="at most 4096"):
        decode_bundle(Tile(ENTRIES, 0, 1), (MAX_ENTRY_BYTES + 1).to_bytes(2, "big") + bytes(MAX_ENTRY_BYTES + 1))


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, COUNT])
def test_the_files_are_those_that_the_specification_defines(size: int) -> None:
    assert Grown(size).files() == by_definition(size)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_roots_and_proofs_from_tiles_are_those_of_a_naive_tree(grown: Grown, naive: Tree, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, COUNT))
    old, index = data.draw(st.integers(0, size)), data.draw(st.integers(0, size - 1))
    assert grown.tree.root_at(size) == naive.root_at(size)
    assert grown.tree.inclusion_proof(index, size) == naive.inclusion_proof(index, size)
    assert grown.tree.consistency_proof(old, size) == naive.consistency_proof(old, size)
    path = grown.tree.inclusion_proof(index, size)
    merkle.verify_inclusion(entry(index), index, size, path, naive.root_at(size))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 700))
def test_an_edge_that_was_put_down_goes_on_as_if_it_had_not_been(size: int, more: int) -> None:
    first = Grown(size)
    hashes = {t.level: first.edge.partial(t) for t in edge_tiles(size) if t.level != ENTRIES}
    bundle = entries(size)[size - size % 256 :]
    again = Grown(0)
    again.edge.restore(size, hashes, bundle)
    again.full.update(first.full)
    for i in range(size, size + more):
        again.tree.append(entry(i))
    assert again.edge.root() == merkle.root(entries(size + more))
    assert again.files() == by_definition(size + more)


@given(st.integers(0, 600), st.integers(0, 300))
def test_a_frontier_knows_the_root_and_can_be_put_down(size: int, more: int) -> None:
    frontier = Frontier()
    for i in range(size):
        frontier.append(entry(i))
    frontier = Frontier(frontier.size, frontier.subtrees)
    for i in range(size, size + more):
        frontier.append(entry(i))
    assert frontier.root() == merkle.root(entries(size + more))
    with pytest.raises(DecodeError):
        Frontier(frontier.size, [*frontier.subtrees, bytes(32)])


@pytest.mark.parametrize("level", [0, 1])
def test_a_tile_that_was_altered_is_noticed_by_the_tile_above(level: int) -> None:
    grown = Grown(70_000)
    tile = Tile(level, 0)
    grown.full[tile] = grown.full[tile][:32] + bytes(32) + grown.full[tile][64:]
    with pytest.raises(VerificationError, match=f"{tile}: it hashes to"):
        grown.tree.inclusion_proof(0)


def test_a_tile_of_another_length_is_refused() -> None:
    grown = Grown(600)
    grown.full[Tile(0, 0)] = grown.full[Tile(0, 0)][:-1]
    with pytest.raises(DecodeError, match="256 hashes"):
        grown.tree.root_at(3)


def test_an_edge_is_not_taken_up_from_entries_that_its_hashes_are_not_of() -> None:
    first = Grown(300)
    hashes = {t.level: first.edge.partial(t) for t in edge_tiles(300) if t.level != ENTRIES}
    with pytest.raises(VerificationError, match="not those that"):
        Grown(0).edge.restore(300, hashes, [*entries(300)[256:-1], b"another"])
    with pytest.raises(DecodeError, match="expected 44 hashes"):
        Grown(0).edge.restore(300, {**hashes, 0: hashes[0][:-32]}, entries(300)[256:])


def test_there_are_no_nodes_that_the_tree_does_not_have() -> None:
    tree = Grown(300).tree
    for level, index in [(0, 300), (8, 1), (9, 0), (-1, 0), (0, -1)]:
        with pytest.raises(UsageError, match="no full subtree"):
            tree.node(level, index)
