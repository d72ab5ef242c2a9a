"""The ledger that publishes tiles: behind its own log never ahead, caught up after a crash, rebuilt to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.ledger import cli
from ledger.note import VerifierKey
from ledger.order import Order
from ledger.tiles import MAX_ENTRY_BYTES
from schemas.codec import decode
from schemas.topics import TOPICS
from schemas.wire import open_event_log
from tests.consumers.test_ledger_runner import Fresh, honest, troubled
from tests.support.forge import Case, flipped, resigned
from tests.support.pipeline import ORIGIN
from tests.tiles.logs import Signer, files
from tiles import open_store
from tiles.directory import DirectorySource
from tiles.fsck import Checked, fsck
from zk_autograd.errors import FencedError, StorageError, UsageError
from zk_autograd.eventlog.base import Record
from zk_autograd.tee.keys import new_signing_key


@pytest.fixture
def fresh(case: Case, tmp_path: Path) -> Callable[[], Fresh]:
    numbers: Iterator[int] = iter(range(1000))
    return lambda: Fresh(case, tmp_path / f"fresh-{next(numbers)}.db")


def run(made: Fresh, folder: Path, rounds: int = 2) -> None:
    """A new instance that publishes, and ends when there is nothing more to do."""
    with open_event_log(made.log.url) as log, open_store(str(folder)) as store:
        runner = made.case.ledger(log, store)
        for _ in range(rounds):
            runner.run_once(timeout=0.0)
        runner.close()


def sound(made: Fresh, folder: Path) -> Checked:
    """fsck with the ledger's own rules."""
    order, allowed = Order(), TOPICS["ledger"].events
    key = VerifierKey(ORIGIN, made.case.insider.key("ledger").public_key)
    return fsck(
        DirectorySource(folder),
        ORIGIN,
        [key],
        lambda index, data: order.take(decode(data, allowed, MAX_ENTRY_BYTES)),  # type: ignore[arg-type]
        lambda done, total: None,
    )


def rebuilt(made: Fresh, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    words = ["rebuild", "--tiles", str(folder), "--log", made.log.url, "--home", str(made.case.sound.home.path)]
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["place"] == str(folder)
    return files(folder)


@pytest.mark.parametrize("records", [honest, troubled])
def test_tiles_are_the_same_however_often_the_ledger_was_restarted_and_when_rebuilt(
    case: Case,
    fresh: Callable[[], Fresh],
    tmp_path: Path,
    records: Callable[[Case], list[Record]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, inputs = fresh(), records(case)
    for record in inputs:
        made.append(record)
        run(made, tmp_path / "again", rounds=1)
        if (tmp_path / "again" / "checkpoint").exists():
            sound(made, tmp_path / "again")
    assert sound(made, tmp_path / "again").entries == 5
    assert rebuilt(made, tmp_path / "rebuilt", capsys) == files(tmp_path / "again")
    assert rebuilt(made, tmp_path / "rebuilt", capsys) == files(tmp_path / "again")
    run(made, tmp_path / "late")  # an old log that is published for the first time
    assert files(tmp_path / "late") == files(tmp_path / "again")


def test_the_published_checkpoint_is_the_topics_own_and_never_ahead_of_it(
    case: Case, fresh: Callable[[], Fresh], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fresh()
    made.append(*honest(case))
    with open_event_log(made.log.url) as log, open_store(str(tmp_path / "t")) as store:
        runner = case.ledger(log, store)
        monkeypatch.setattr(store, "put", lambda files: (_ for _ in ()).throw(StorageError("the disk is full")))
        with pytest.raises(StorageError, match="the disk is full"):
            runner.run_once(timeout=0.0)
        runner.close()
    assert len(made.written()["ledger"]) == 5, "what could not be published is in the log all the same"
    assert not (tmp_path / "t" / "checkpoint").exists()
    run(made, tmp_path / "t")
    assert sound(made, tmp_path / "t").entries == 5
    assert len(made.written()["ledger"]) == 5


def test_an_instance_that_cannot_write_its_log_publishes_nothing(
    case: Case, fresh: Callable[[], Fresh], tmp_path: Path
) -> None:
    made, records = fresh(), honest(case)
    made.append(*records[:1])
    run(made, tmp_path / "t")
    before = files(tmp_path / "t")
    with open_event_log(made.log.url) as log, open_store(str(tmp_path / "t")) as store:
        first = case.ledger(log, store)
        with log.producer("zk-ledger"):
            made.append(*records[1:])
            with pytest.raises(FencedError):
                first.run_once(timeout=0.0)
        first.close()
    assert files(tmp_path / "t") == before


def test_tiles_of_another_log_are_not_gone_on_with(case: Case, fresh: Callable[[], Fresh], tmp_path: Path) -> None:
    """By the same key and name: only the entries differ."""
    made, signer = fresh(), Signer(case.insider.key("ledger"), ORIGIN)
    made.append(*honest(case))
    made.run()
    with open_store(str(tmp_path / "t")) as store:
        publisher = signer.publisher(store)
        for leaf in (*case.leaves()[:2], b"another"):
            publisher.tree.append(leaf)
        publisher.publish(signer.note(3, publisher.tree.root()))
    kept = files(tmp_path / "t")
    with pytest.raises(UsageError, match="the published tiles, of 3 entries, are not of the topic ledger"):
        run(made, tmp_path / "t")
    assert files(tmp_path / "t") == kept


def test_a_topic_that_lost_entries_is_not_published_over_the_tiles_that_have_them(
    case: Case, fresh: Callable[[], Fresh], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fresh()
    made.append(*honest(case))
    run(made, tmp_path / "t")
    kept = files(tmp_path / "t")
    made.log.clear("ledger")
    made.log.clear("checkpoints")
    with pytest.raises(UsageError, match="has 0 entries, the published tiles have 5"):
        run(made, tmp_path / "t")
    words = ["rebuild", "--tiles", str(tmp_path / "t"), "--log", made.log.url, "--home", str(case.sound.home.path)]
    assert cli.main(words) == 2
    assert "nothing to publish" in capsys.readouterr().err
    assert files(tmp_path / "t") == kept


def test_strangers_and_copies_in_the_topics_change_no_tile(
    case: Case, fresh: Callable[[], Fresh], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fresh()
    made.append(*honest(case))
    run(made, tmp_path / "t")
    for topic in ("ledger", "checkpoints"):
        values = made.written()[topic]
        made.log.append(topic, b"garbage", resigned(topic, values[0], new_signing_key()), values[0], values[-1])
    assert rebuilt(made, tmp_path / "rebuilt", capsys) == files(tmp_path / "t")
    run(made, tmp_path / "t")
    assert sound(made, tmp_path / "t").entries == 5


def test_fsck_by_command_says_sound_or_the_first_bad_place(
    case: Case, fresh: Callable[[], Fresh], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, home = fresh(), str(case.sound.home.path)
    made.append(*honest(case))
    run(made, tmp_path / "t")
    key = str(VerifierKey(ORIGIN, case.insider.key("ledger").public_key))
    for words in (["--home", home], ["--key", key, "--home", str(tmp_path)], ["--no-key"]):
        assert cli.main(["fsck", str(tmp_path / "t"), "--json", *words]) == 0
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (said["verdict"], said["entries"], said["runs"], said["origin"]) == ("sound", 5, 1, ORIGIN)
        assert said["signature"] == ("not checked" if "--no-key" in words else "checked")
    assert cli.main(["fsck", str(tmp_path / "t"), "--no-key"]) == 0
    assert "SIGNATURE NOT CHECKED" in capsys.readouterr().out
    other = str(VerifierKey(ORIGIN, new_signing_key().public_key))
    assert cli.main(["fsck", str(tmp_path / "t"), "--key", other]) == 1
    assert "DAMAGED: checkpoint: expected a checkpoint signed by the log's key" in capsys.readouterr().out
    bundle = tmp_path / "t/tile/entries/000.p/5"
    bundle.write_bytes(flipped(bundle.read_bytes(), 40))
    assert cli.main(["fsck", str(tmp_path / "t"), "--home", home, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["file"], said["entry"]) == ("damaged", "tile/entries/000.p/5", 0)
    assert cli.main(["fsck", str(tmp_path / "nowhere"), "--home", home]) == 2
    assert cli.main(["fsck", str(tmp_path / "t"), "--home", str(tmp_path)]) == 2
    assert "whose log is it?" in capsys.readouterr().err


def test_fsck_looks_at_what_the_entries_say(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A ledger key that signs a log of which a step is missing, or that repeats one, with every hash right."""
    key, leaves = case.insider.key("ledger"), case.leaves()
    for name, told, said in (
        ("gap", [leaves[0], leaves[2]], "expected step 1"),
        ("twice", [*leaves[:2], leaves[1]], "in the log already"),
        ("not opened", leaves[1:], "the run was not opened"),
        ("early end", [*leaves[:3], leaves[4]], "2 steps have entered"),
        ("after the end", [*leaves, leaves[0]], "in the log already"),
        ("garbage", [*leaves, b"garbage"], "single-object encoding"),
    ):
        signer = Signer(key, ORIGIN)
        with open_store(str(tmp_path / name)) as store:
            publisher = signer.publisher(store)
            for leaf in told:
                publisher.tree.append(leaf)
            publisher.publish(signer.note(len(told), publisher.tree.root()))
        assert cli.main(["fsck", str(tmp_path / name), "--home", str(case.sound.home.path)]) == 1
        assert said in capsys.readouterr().out, name
