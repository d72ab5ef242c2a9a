"""A policy file is read strictly: whatever is not understood is an error, never a weaker policy."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import Policy, Witnesses, load_policy

ID, OTHER_ID = "ab" * 32, "cd" * 32
WITNESSES = [WitnessKey(f"w{i}.example", bytes([i]) * 32) for i in range(3)]
KEYS = [str(key) for key in WITNESSES]
FULL: dict[str, Any] = {
    "version": 1,
    "evidence_classes": ["SIMULATED"],
    "roots": {"SIMULATED": [ID]},
    "srs_classes": ["CEREMONY", "DEV"],
    "circuits": [ID, OTHER_ID],
    "ledger_keys": [OTHER_ID],
    "anchors": {"file:0a1b": "file:///var/anchor"},
    "witnesses": {"quorum": 2, "keys": {KEYS[0]: "https://w0.example/log", KEYS[1]: "", KEYS[2]: "http://[::1]:8080"}},
    "min_sampled": 4,
}


def load(folder: Path, content: object) -> Policy:
    path = folder / "policy.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_policy(path)


def test_a_policy_says_what_its_file_says(tmp_path: Path) -> None:
    assert load(tmp_path, FULL) == Policy(
        evidence_classes=frozenset({"SIMULATED"}),
        roots={"SIMULATED": frozenset({bytes.fromhex(ID)})},
        srs_classes=frozenset({"CEREMONY", "DEV"}),
        circuits=frozenset({bytes.fromhex(ID), bytes.fromhex(OTHER_ID)}),
        ledger_keys=frozenset({bytes.fromhex(OTHER_ID)}),
        anchors={"file:0a1b": "file:///var/anchor"},
        witnesses=Witnesses(2, dict(zip(WITNESSES, ("https://w0.example/log", "", "http://[::1]:8080"), strict=True))),
        min_sampled=4,
    )


def test_a_policy_survives_its_file(tmp_path: Path) -> None:
    for policy in (load(tmp_path, FULL), Policy(), Policy(circuits=frozenset(), ledger_keys=frozenset(), anchors={})):
        assert load(tmp_path, policy.to_json()) == policy


def test_the_shortest_policy_trusts_no_evidence_and_no_local_srs(tmp_path: Path) -> None:
    policy = load(tmp_path, {"version": 1})
    assert policy.evidence_classes == frozenset()
    assert policy.roots == {}
    assert policy.srs_classes == {"CEREMONY"}
    assert not policy.first_use


@pytest.mark.parametrize("value", [0, -1, True, False, "2", 2.0, [2]])
def test_a_number_of_shards_is_one(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="min_sampled: expected a number of shards"):
        load(tmp_path, FULL | {"min_sampled": value})
    assert load(tmp_path, {"version": 1}).min_sampled is None, "without it, every shard has to be proven"


def test_no_circuits_and_any_circuit_are_two_things(tmp_path: Path) -> None:
    assert load(tmp_path, {"version": 1, "circuits": []}).circuits == frozenset()
    assert load(tmp_path, {"version": 1}).circuits is None


@pytest.mark.parametrize("key", ["evidence_class", "Roots", "circuit", "first_use", "", "a" * 10_000, "srs-classes"])
def test_an_unknown_entry_is_refused_by_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match="unknown entry") as refused:
        load(tmp_path, FULL | {key: []})
    assert repr(key[:40]) in str(refused.value)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("text", ['{"version": 1, "circuits": ["%s"], "circuits": []}', '{"version": 2, "version": 1}'])
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="twice"):
        load(tmp_path, text.replace("%s", ID))


@pytest.mark.parametrize("version", [0, 2, "1", None, [1], True, 1.0])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    with pytest.raises(UsageError, match='"version": 1'):
        load(tmp_path, FULL | {"version": version})


def test_a_policy_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='"version": 1'):
        load(tmp_path, {k: v for k, v in FULL.items() if k != "version"})


@pytest.mark.parametrize("value", [["SIMULATD"], ["simulated"], "SIMULATED", [1], None, {"SIMULATED": 1}, [["NITRO"]]])
def test_a_misspelt_evidence_class_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="evidence_classes: expected a list of SIMULATED, NITRO, SEV_SNP"):
        load(tmp_path, FULL | {"evidence_classes": value})


@pytest.mark.parametrize("value", [["dev"], ["CEREMONY", "LOCAL"], "DEV", [None], None])
def test_a_misspelt_srs_class_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="srs_classes: expected a list of CEREMONY, DEV"):
        load(tmp_path, FULL | {"srs_classes": value})


@pytest.mark.parametrize("value", [{"SIMULATE": [ID]}, {"": []}, [], None, "SIMULATED"])
def test_roots_of_no_known_class_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="roots: expected an object with keys among"):
        load(tmp_path, FULL | {"roots": value})


BAD_IDS: list[object] = [
    ["ab" * 31],
    ["ab" * 33],
    ["zz" * 32],
    [" " * 64],
    ["ab" * 31 + "  "],
    ["ab " * 21 + "a"],
    [""],
    [bytes(32).hex(), 7],
    [None],
    ID,
    None,
    {ID: 1},
    [[ID]],
]


@pytest.mark.parametrize("value", BAD_IDS, ids=repr)
@pytest.mark.parametrize("key", ["circuits", "ledger_keys", "roots.SIMULATED"])
def test_what_is_not_32_bytes_in_hex_is_refused(tmp_path: Path, key: str, value: object) -> None:
    entry, _, inner = key.partition(".")
    with pytest.raises(UsageError, match=f"{key}: expected a list of 32-byte values in hex"):
        load(tmp_path, FULL | {entry: {inner: value} if inner else value})


@pytest.mark.parametrize("value", [[], "file:x", {"id": None}, {"id": ["file:x"]}, 3, [{"id": "file:x"}]])
def test_anchors_of_another_shape_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="anchors: expected"):
        load(tmp_path, FULL | {"anchors": value})


BAD_WITNESSES: dict[str, object] = {
    "list": [KEYS[0]],
    "null": None,
    "no-quorum": {"keys": {KEYS[0]: ""}},
    "no-keys": {"quorum": 1},
    "more-entries": {"quorum": 1, "keys": {KEYS[0]: ""}, "urls": {}},
    "quorum-0": {"quorum": 0, "keys": {KEYS[0]: ""}},
    "quorum-over-all": {"quorum": 2, "keys": {KEYS[0]: ""}},
    "quorum-of-nobody": {"quorum": 0, "keys": {}},
    "quorum-true": {"quorum": True, "keys": {KEYS[0]: ""}},
    "quorum-as-a-text": {"quorum": "1", "keys": {KEYS[0]: ""}},
    "keys-as-a-list": {"quorum": 1, "keys": KEYS},
    "key-misspelt": {"quorum": 1, "keys": {KEYS[0][:-2]: ""}},
    "key-of-a-log": {"quorum": 1, "keys": {KEYS[0].replace("+B", "+A"): ""}},
    "one-key-under-two-names": {"quorum": 1, "keys": {KEYS[0]: "", str(WitnessKey("x", bytes(32))): ""}},
    "one-name-for-two-keys": {"quorum": 1, "keys": {KEYS[0]: "", str(WitnessKey("w0.example", b"x" * 32)): ""}},
    "the-ledgers-own-key": {"quorum": 1, "keys": {str(WitnessKey("x", bytes.fromhex(OTHER_ID))): ""}},
}


@pytest.mark.parametrize("name", BAD_WITNESSES)
def test_witnesses_that_could_not_make_a_quorum_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="witnesses"):
        load(tmp_path, FULL | {"witnesses": BAD_WITNESSES[name]})


@pytest.mark.parametrize(
    "url",
    [
        None, 1, " ", "w.example", "ftp://w.example/", "file:///etc/passwd", "https://", "https:///path",
        "https://user:secret@w.example/", "https://w.example/?q", "https://w.example/#f", "https://w.example:0/",
        "https://w.example:99999/", "https://w.exa mple/", "https://w.example/\r\nX: y", "https://[::1", "https://w\u00e9.example/",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_witness_is_asked_at_a_plain_web_address_only(tmp_path: Path, url: object) -> None:
    with pytest.raises(UsageError, match="witnesses: keys: expected"):
        load(tmp_path, FULL | {"witnesses": {"quorum": 1, "keys": {KEYS[0]: url}}})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "null", '"policy"', "{'version': 1}", "[" * 100_000, "NaN", "{}{}"]
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"not JSON|expected a JSON object"):
        load(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(b'{"version": 1, "\xff": 1}')
    with pytest.raises(UsageError, match="not JSON"):
        load_policy(path)


def test_a_file_larger_than_any_policy_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at most 1048576 bytes"):
        load(tmp_path, json.dumps(FULL) + " " * (1 << 20))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: No such file"):
        load_policy(tmp_path / "none.json")
    with pytest.raises(UsageError, match="run zk-setup first"):
        Home(tmp_path).policy()


def test_a_home_that_opts_in_to_simulation_keeps_what_it_trusted_before(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.allow_circuit(bytes.fromhex(ID))
    assert home.policy() == Policy(circuits=frozenset({bytes.fromhex(ID)}))
    home.opt_in_to_simulation()
    home.allow_circuit(bytes.fromhex(OTHER_ID))
    policy = home.policy()
    assert policy.evidence_classes == {"SIMULATED"}
    assert policy.srs_classes == {"CEREMONY", "DEV"}
    assert policy.circuits == frozenset({bytes.fromhex(ID), bytes.fromhex(OTHER_ID)})
    assert len(policy.roots["SIMULATED"]) == 1
    home.opt_in_to_simulation()
    assert home.policy() == policy
    assert stat.S_IMODE(home.policy_path.stat().st_mode) == 0o600


def test_a_policy_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A device never ends, a pipe without a writer never begins."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(UsageError, match="regular file"):
            load_policy(tmp_path / name)
