"""Publishing to a folder: the same files however it comes about, and never over another log's."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.tiles import Tile
from tests.tiles.logs import ORIGIN, Signer, by_definition, files
from tiles.directory import DirectorySource, DirectoryStore
from tiles.publisher import Publisher
from zk_autograd.errors import StorageError, UsageError, VerificationError

SIZES = [1, 2, 255, 256, 257, 300, 511, 700, 1100, 66_000]


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


def test_the_files_are_those_of_the_specification_with_the_partial_tiles_of_every_checkpoint(
    signer: Signer, tmp_path: Path
) -> None:
    found = files(signer.folder(tmp_path, *SIZES))
    note = found.pop("checkpoint").decode()
    assert note.splitlines()[:2] == [ORIGIN, "66000"]
    assert found == by_definition(66_000, SIZES)


@pytest.mark.parametrize("way", ["once", "restarted", "all at once"])
def test_however_it_came_about_the_files_are_the_same(signer: Signer, tmp_path: Path, way: str) -> None:
    reference = files(signer.folder(tmp_path / "reference", *SIZES))
    if way == "restarted":
        for i in range(len(SIZES)):
            signer.folder(tmp_path / way, SIZES[i])
    else:
        signer.folder(tmp_path / way, *SIZES, at_once=way == "all at once")
    assert files(tmp_path / way) == reference


def test_random_histories_give_the_files_of_the_specification(signer: Signer, tmp_path: Path) -> None:
    rng = random.Random(7)
    for run in range(8):
        sizes = sorted(rng.sample(range(1, 1500), rng.randint(1, 12)))
        for part in (sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]):
            if part:
                signer.folder(tmp_path / str(run), *part, at_once=rng.random() < 0.5)
        found = files(tmp_path / str(run))
        del found["checkpoint"]
        assert found == by_definition(sizes[-1], sizes)


def test_a_published_log_is_sound_and_can_be_read_by_everyone(signer: Signer, tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        signer.folder(tmp_path / "log", 300)
    finally:
        os.umask(previous)
    assert signer.check(DirectorySource(tmp_path / "log")).spares == 0
    assert all(p.stat().st_mode & 0o044 == 0o044 for p in (tmp_path / "log" / "tile").rglob("*") if p.is_file())


def test_another_log_is_not_published_over_it(signer: Signer, tmp_path: Path) -> None:
    folder = signer.folder(tmp_path, 300)
    before = files(folder)
    with DirectoryStore(folder) as store:
        with pytest.raises(VerificationError, match="expected a signature"):
            Publisher(store, ORIGIN, Signer().verifier)
        with pytest.raises(VerificationError):
            Publisher(store, "other.example/log", Signer(signer.key, "other.example/log").verifier)
    (folder / "checkpoint").unlink()  # as if there were none
    del before["checkpoint"]
    with DirectoryStore(folder) as store:
        other = signer.publisher(store)
        for i in range(300):
            other.tree.append(b"other %d" % i)
        with pytest.raises(StorageError, match="another file is there already"):
            other.publish(signer.note(300, other.tree.root()))
    assert files(folder) == before


def test_of_two_who_publish_to_one_place_the_one_who_is_behind_is_refused(signer: Signer, tmp_path: Path) -> None:
    signer.folder(tmp_path, 100)
    with DirectoryStore(tmp_path) as one, DirectoryStore(tmp_path) as two:
        slow, fast = signer.publisher(one), signer.publisher(two)
        signer.grow(two, [400])
        assert fast.published == 100
        slow.tree.append(b"")
        with pytest.raises(StorageError, match="another"):
            slow.publish(signer.note(101, slow.tree.root()))
    assert (tmp_path / "checkpoint").read_text().splitlines()[1] == "400"


def test_while_one_process_writes_another_waits(
    signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiles.directory._LOCK_SECONDS", 0.2)
    with DirectoryStore(tmp_path) as one, DirectoryStore(tmp_path) as two, one.writing():
        with pytest.raises(StorageError, match="another process writes here"):
            signer.grow(two, [1])
        assert not (tmp_path / "checkpoint").exists()


def test_a_checkpoint_of_another_tree_is_not_published(signer: Signer, tmp_path: Path) -> None:
    with DirectoryStore(tmp_path) as store:
        publisher = signer.publisher(store)
        publisher.tree.append(b"x")
        for note in (signer.note(1, bytes(32)), signer.note(2, publisher.tree.root())):
            with pytest.raises(UsageError, match="the tree of"):
                publisher.publish(note)
        with pytest.raises(VerificationError):
            publisher.publish(Signer().note(1, publisher.tree.root()))
    assert files(tmp_path) == {}


def test_partial_tiles_go_when_the_full_one_is_there(signer: Signer, tmp_path: Path) -> None:
    signer.folder(tmp_path, 10, 20, 255)
    assert len(list((tmp_path / "tile/0/000.p").iterdir())) == 3
    signer.folder(tmp_path, 256)
    assert not (tmp_path / "tile/0/000.p").exists()
    assert not (tmp_path / "tile/entries/000.p").exists()


def test_a_partial_tile_that_is_gone_is_read_from_the_full_one(signer: Signer, tmp_path: Path) -> None:
    """A checkpoint that a reader, or a writer that was killed, holds may be older than the tiles."""
    old = signer.folder(tmp_path / "old", 200)
    new = signer.folder(tmp_path / "new", 200, 256)
    (new / "checkpoint").write_bytes((old / "checkpoint").read_bytes())
    assert signer.check(DirectorySource(new)).entries == 200
    signer.folder(new, 256, 300)
    assert files(new) == files(signer.folder(tmp_path / "straight", 200, 256, 300))
    assert signer.check(DirectorySource(new)).entries == 300


def test_files_of_a_writer_that_was_killed_go_with_the_next_one(signer: Signer, tmp_path: Path) -> None:
    signer.folder(tmp_path, 10)
    (tmp_path / ".tmp" / "half").write_bytes(b"half a file")
    signer.folder(tmp_path, 20)
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be made"):
        DirectoryStore(tmp_path / "file" / "log")


def test_a_file_larger_than_it_may_be_is_not_read(signer: Signer, tmp_path: Path) -> None:
    folder = signer.folder(tmp_path, 300)
    tile = folder / str(Tile(0, 0))
    tile.write_bytes(tile.read_bytes() + b"x")
    with DirectoryStore(folder) as store, pytest.raises(StorageError, match="at most 8192 bytes"):
        signer.publisher(store).tree.root_at(3)


def test_the_storage_needs_no_s3_library_for_a_folder() -> None:
    program = (
        "import sys; sys.modules['boto3'] = None; import tiles.directory, tiles.publisher, tiles.fsck; import tiles"
    )
    program += "\ntry:\n    tiles.open_store('s3://bucket/x')\nexcept Exception as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "zk-autograd[aws]" in done.stdout
