"""Whatever is altered, lost or added in a published log, fsck says the first place, and what is wrong there."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from ledger.tiles import Tile, encode_bundle
from tests.tiles.logs import ORIGIN, Signer, entries, entry, expect_entry, files
from tiles.directory import DirectorySource
from tiles.fsck import DamageError, fsck
from zk_autograd.errors import StorageError, VerificationError
from zk_autograd.merkle import leaf_hash

SIZES = (200, 300, 66_100)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="module")
def sound(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signer.folder(tmp_path_factory.mktemp("log"), *SIZES)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "log"))


def damage(signer: Signer, folder: Path) -> DamageError:
    with pytest.raises(DamageError) as caught:
        signer.check(DirectorySource(folder))
    return caught.value


def change(file: Path, at: int, mask: int = 1) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= mask
    file.write_bytes(data)


def test_a_sound_log_is_read_whole(signer: Signer, sound: Path) -> None:
    told: list[tuple[int, int]] = []
    found = fsck(DirectorySource(sound), ORIGIN, [signer.verifier], expect_entry, lambda a, b: told.append((a, b)))
    assert (found.head.size, found.entries, found.spares) == (66_100, 66_100, 0)
    assert found.bytes == sum(len(d) for p, d in files(sound).items() if p != "checkpoint")
    assert told[-1] == (66_100, 66_100)


def test_an_altered_entry_is_named(signer: Signer, folder: Path) -> None:
    bundle = entries(512)[256:]
    (folder / "tile/entries/001").write_bytes(encode_bundle([*bundle[:47], b"another", *bundle[48:]]))
    found = damage(signer, folder)
    assert (found.file, found.entry) == ("tile/entries/001", 303)
    assert found.expected == f"an entry with leaf hash {leaf_hash(entry(303)).hex()}"
    assert found.got == leaf_hash(b"another").hex()
    assert "entry 47 of the bundle; tile/0/001 says so, and the tile above confirms it" in str(found)


def test_of_an_entry_and_its_leaf_hash_the_one_is_named_that_the_tile_above_does_not_confirm(
    signer: Signer, folder: Path
) -> None:
    change(folder / "tile/0/001", 32 * 47)
    found = damage(signer, folder)
    assert (found.file, found.entry) == ("tile/0/001", 303)
    assert "confirms the entries of tile/entries/001" in str(found)


@pytest.mark.parametrize(
    ("path", "number", "span"), [("tile/1/000", 5, 256), ("tile/1/001.p/2", 1, 256), ("tile/2/000.p/1", 0, 65_536)]
)
def test_an_altered_hash_of_an_upper_tile_is_named(
    signer: Signer, folder: Path, path: str, number: int, span: int
) -> None:
    change(folder / path, 32 * number)
    found = damage(signer, folder)
    assert found.file == path
    assert f"hash {number} of the tile" in str(found)
    tile = Tile.parse(path)
    assert f"the entries {(tile.index * 256 + number) * span} to" in str(found)


@pytest.mark.parametrize("way", ["missing", "cut", "longer", "empty"])
@pytest.mark.parametrize(
    "path", ["tile/entries/001", "tile/0/003", "tile/entries/258.p/52", "tile/1/000", "checkpoint"]
)
def test_a_file_that_is_missing_or_of_another_length_is_named(
    signer: Signer, folder: Path, path: str, way: str
) -> None:
    file, data = folder / path, (folder / path).read_bytes()
    if way == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut": data[:-1], "longer": data + b"\0", "empty": b""}[way])
    assert damage(signer, folder).file == path


def test_of_two_bad_places_the_first_is_said(signer: Signer, folder: Path) -> None:
    change(folder / "tile/0/200", 0)
    change(folder / "tile/0/100", 0)
    assert damage(signer, folder).entry == 25_600


def test_entries_that_changed_places_are_noticed_although_all_hashes_are_there(signer: Signer, folder: Path) -> None:
    for kind in ("entries", "0"):
        one, two = folder / f"tile/{kind}/001", folder / f"tile/{kind}/002"
        first = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(first)
    with pytest.raises(AssertionError, match="entry 256"):  # what the entries say is looked at, too
        signer.check(DirectorySource(folder))
    with pytest.raises(DamageError, match="tile/1/000: expected hash") as caught:
        fsck(DirectorySource(folder), ORIGIN, [signer.verifier], lambda i, d: None, lambda a, b: None)
    assert "the entries 256 to 511" in str(caught.value)


def test_a_whole_log_that_another_key_made_is_not_this_one(signer: Signer, folder: Path, tmp_path: Path) -> None:
    other = Signer().folder(tmp_path / "other", 300)
    assert damage(signer, other).file == "checkpoint"
    named = Signer(signer.key, "other.example/log").folder(tmp_path / "named", 300)
    assert damage(signer, named).file == "checkpoint"
    with pytest.raises(DamageError, match="expected origin"):
        fsck(DirectorySource(named), ORIGIN, None, expect_entry, lambda a, b: None)


def test_a_signed_checkpoint_of_other_entries_is_noticed_at_the_root(signer: Signer, folder: Path) -> None:
    (folder / "checkpoint").write_text(signer.note(66_100, bytes(32)))
    found = damage(signer, folder)
    assert (found.file, found.got) == ("checkpoint", bytes(32).hex())
    assert "every tile is that of the entries" in str(found)


def test_a_checkpoint_of_more_entries_than_there_are_is_noticed(signer: Signer, folder: Path) -> None:
    (folder / "checkpoint").write_text(signer.note(66_101, bytes(32)))
    assert damage(signer, folder).file == "tile/entries/258.p/53"


def test_an_older_partial_tile_must_begin_like_todays(signer: Signer, tmp_path: Path) -> None:
    folder = signer.folder(tmp_path, 20, 30)
    change(folder / "tile/0/000.p/20", 0)
    assert damage(signer, folder).file == "tile/0/000.p/20"
    folder = signer.folder(tmp_path / "b", 20, 30)
    change(folder / "tile/entries/000.p/20", 5)
    assert damage(signer, folder).file == "tile/entries/000.p/20"


def test_spare_files_are_told_and_harm_nothing(signer: Signer, folder: Path) -> None:
    spare = ["tile/0/000.p/7", "tile/0/259", "tile/entries/999", "tile/0/note.txt", "tile/7/000"]
    for path in spare:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"?")
    found = signer.check(DirectorySource(folder))
    assert found.spares == 5
    assert sorted(found.spare) == sorted(spare)


def test_an_entry_that_the_rules_do_not_allow_is_named(signer: Signer, sound: Path) -> None:
    def rule(index: int, data: bytes) -> None:
        if index == 777:
            raise VerificationError("step 3 proven: expected step 2")

    with pytest.raises(DamageError, match=r"tile/entries/003, entry 777: .* got step 3 proven: expected step 2"):
        fsck(DirectorySource(sound), ORIGIN, [signer.verifier], rule, lambda a, b: None)


def test_what_cannot_be_read_is_no_damage(signer: Signer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DirectorySource.read

    def read(self: DirectorySource, path: str, cap: int) -> bytes | None:
        if path == "tile/0/100":
            raise StorageError("the disk does not answer")
        return real(self, path, cap)

    monkeypatch.setattr(DirectorySource, "read", read)
    with pytest.raises(StorageError, match="does not answer"):
        signer.check(DirectorySource(folder))


def test_no_changed_byte_goes_unnoticed(signer: Signer, tmp_path: Path) -> None:
    """Any one bit of any file, but for a folder's harmless leftovers."""
    rng, folder = random.Random(11), signer.folder(tmp_path, 10, 600)
    published = sorted(files(folder))
    for _ in range(150):
        file = folder / rng.choice(published)
        data = file.read_bytes()
        change(file, rng.randrange(len(data)), 1 << rng.randrange(8))
        with pytest.raises((DamageError, AssertionError)):
            signer.check(DirectorySource(folder))
        file.write_bytes(data)
    assert signer.check(DirectorySource(folder)).entries == 600


def test_every_file_is_needed(signer: Signer, tmp_path: Path) -> None:
    folder = signer.folder(tmp_path, 600)
    for path in files(folder):
        data = (folder / path).read_bytes()
        (folder / path).unlink()
        assert damage(signer, folder).file == path
        (folder / path).write_bytes(data)


def test_no_more_is_read_ahead_than_memory_was_promised(signer: Signer, sound: Path) -> None:
    asked: list[int] = []
    checked: list[int] = []

    class Watching(DirectorySource):
        def read(self, path: str, cap: int) -> bytes | None:
            if path.startswith("tile/entries"):
                asked.append(Tile.parse(path).index)
            return super().read(path, cap)

    def check(index: int, data: bytes) -> None:
        checked.append(index)
        assert max(asked) <= index // 256 + 16

    fsck(Watching(sound), ORIGIN, [signer.verifier], check, lambda a, b: None)
    assert len(checked) == 66_100
