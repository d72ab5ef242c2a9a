"""How an audit's outcome is said: the verdict's words, every check by number, and what is not proven."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anchor import ReceiptFacts
from consumers.audit.outcome import TITLES, Audit, Status
from consumers.audit.report import NOT_PROVEN, as_json, as_text
from consumers.audit.sampled import NOT_SAMPLED, Sampling
from consumers.audit.statistics import Gradients
from tests.support.forge import Case


def made(*violated: int, unchecked: tuple[int, ...] = ()) -> Audit:
    out = Audit(bytes(32))
    for number in violated:
        out.violated(number, f"finding of check {number}")
    for number in unchecked:
        out.unchecked(number, f"check {number} has to wait")
    return out


def test_a_clean_audit_is_sound() -> None:
    assert made().exit_code == 0
    assert as_text(made(), "").splitlines()[-1].startswith("verdict: SOUND")
    assert as_json(made(), "")["verdict"] == "sound"


@pytest.mark.parametrize("number", range(12))
def test_one_violated_check_is_enough_whatever_else_is_open(number: int) -> None:
    out = made(number, unchecked=tuple(n for n in range(12) if n != number))
    assert out.exit_code == 1
    last = as_text(out, "").splitlines()[-1]
    assert last == f"verdict: VIOLATED: check {number} ({TITLES[number]}): finding of check {number}"


@pytest.mark.parametrize("number", [n for n in range(12) if n != 10])
def test_a_check_that_could_not_be_made_is_no_clean_bill(number: int) -> None:
    out = made(unchecked=(number,))
    assert out.exit_code == 2
    last = as_text(out, "").splitlines()[-1]
    assert last == f"verdict: COULD NOT BE CHECKED: check {number} ({TITLES[number]}): check {number} has to wait"


def test_a_live_anchor_that_nobody_named_does_not_count_and_one_that_was_named_does() -> None:
    out = made(unchecked=(10,))
    assert out.exit_code == 0
    out.checks[10].findings.append("no answer")
    assert out.exit_code == 2
    assert "check 10" in as_text(out, "").splitlines()[-1]


def test_a_violation_is_not_covered_by_a_later_excuse() -> None:
    out = made(5, unchecked=(5,))
    assert out.checks[5].status is Status.VIOLATED


def test_every_check_is_listed_by_number_and_title() -> None:
    text = as_text(made(3, unchecked=(7,)), "name")
    for number, title in enumerate(TITLES):
        assert f"{number:>2}  {title}" in text
    assert "FAIL  3" in text.replace("FAIL   3", "FAIL  3")
    assert [c["number"] for c in as_json(made(), "")["checks"]] == list(range(12))


def test_long_lists_of_findings_are_cut_for_people_and_whole_for_machines() -> None:
    out = Audit(bytes(32))
    for i in range(40):
        out.violated(1, f"finding number {i}")
    text = as_text(out, "")
    assert text.count("finding number") == 6  # five and the verdict's own
    assert "and 35 more" in text
    assert len(as_json(out, "")["checks"][1]["findings"]) == 40


def test_development_evidence_is_shouted_about() -> None:
    out = made()
    assert "INSECURE" not in as_text(out, "")
    out.classes |= {"SIMULATED", "DEV SRS", "NITRO"}
    (line,) = (line for line in as_text(out, "").splitlines() if "INSECURE" in line)
    assert "SIMULATED" in line
    assert "DEV SRS" in line
    assert "NITRO" not in line


def test_what_is_not_proven_is_always_said() -> None:
    for out in (made(), made(2), made(unchecked=(9,))):
        assert NOT_PROVEN in as_text(out, "")
        assert as_json(out, "")["not_proven"] == NOT_PROVEN


def test_what_was_trusted_on_first_use_is_listed() -> None:
    out = made()
    out.trusted = ["SIMULATED root abc", "ledger key def"]
    assert "trusted on first use: SIMULATED root abc" in as_text(out, "")
    assert as_json(out, "")["trusted_on_first_use"] == out.trusted


def test_the_object_for_machines_is_json_and_names_the_anchors() -> None:
    out = made()
    out.anchors.append(ReceiptFacts("file:0", 2, 5, bytes(32)))
    found = json.loads(json.dumps(as_json(out, "name")))
    assert found["anchors"] == [{"anchor": "file:0", "counter": 2, "size": 5, "root": "00" * 32}]
    assert found["run_id"] == "00" * 32
    assert found["name"] == "name"


def test_what_formats_took_from_gradients_is_summed_up_and_its_worst_step_named(case: Case) -> None:
    found = case.audit()
    assert found.chain is not None
    sums = Gradients(found.chain.start)
    for number, opened in enumerate(found.chain.steps):
        sums.add(replace(opened.event, saturated=number, underflow=10, limited=1, rounding=(0.1, 0.3, 0.2)[number]))
    found.gradients = sums.facts()
    facts = as_json(found, "")["gradients"]
    assert (facts["saturated"], facts["underflow"], facts["limited"]) == (3, 30, 3)
    assert (facts["max_rounding"], facts["max_rounding_step"]) == (0.3, 2)
    assert "3 elements clipped, 30 rounded to zero, 3 limited; rounding error at most 0.3 (step 2; no bound" in as_text(
        found, ""
    )


def test_the_sound_run_reads_as_such(case: Case) -> None:
    found = case.audit()
    text, facts = as_text(found, "run"), as_json(found, "run")
    assert text.startswith(f"run {case.run_id.hex()}  (run)\n")
    assert text.splitlines()[-1] == "verdict: SOUND: 3 steps, every one proven, logged and anchored"
    assert (facts["steps"], facts["steps_proven"], facts["proofs_verified"], facts["ledger_size"]) == (3, 3, 6, 5)
    assert facts["finished"] is True
    assert facts["gradients"] == {
        "vouched_by": "enclave", "saturated": 0, "underflow": 0, "limited": 0, "max_rounding": 0.0,
        "max_rounding_step": 1, "max_rounding_declared": 1.0, "scale_changes": 0,
    }  # fmt: skip
    assert "the enclave's word on its gradients: 0 elements clipped" in text
    assert facts["classes"] == ["DEV SRS", "SIMULATED"]
    assert [c["status"] for c in facts["checks"]] == ["passed"] * 12


def test_what_sampling_is_worth_is_rounded_down_and_said_with_what_it_is_not() -> None:
    """A hundred percent is for what is certain."""
    out = made()
    out.proven = 100_000
    out.sampling = Sampling(50, 1000, "tpm:00", 8, {}, others=3, abandoned=2)
    text, facts = as_text(out, ""), as_json(out, "")["sampled"]
    for line in (
        "sampled: 50 of 1000 shards of each step, drawn by tpm:00 (window 8)",
        "  5.0000 %  one shard in one step",
        " 40.2688 %  1 % of the shards in one step",
        " 99.5524 %  10 % of the shards in one step",
        " 99.9999 %  one shard in each of 100000 steps",
        "3 other sampled run(s) in this log",
        "2 of them have recorded steps that are not proven",
        NOT_SAMPLED,
    ):
        assert line in text, line
    assert "INSECURE" not in text
    assert [c["shards"] for c in facts["detection"]] == [1, 10, 100, 1]
    assert all(0 < c["probability"] < 1 for c in facts["detection"])
    assert (facts["other_runs"], facts["runs_not_proven"]) == (3, 2)
    assert (facts["insecure"], facts["not_proven"]) == ("", NOT_SAMPLED)
    out.sampling = Sampling(4, 4, "file:00", 8, {})
    text = as_text(out, "")
    assert "100.0000 %  one shard in one step" in text
    assert "INSECURE draw: the beacon is a file" in text
    out.sampling = None
    assert "sampled" not in as_text(out, "")
    assert as_json(out, "")["sampled"] is None
