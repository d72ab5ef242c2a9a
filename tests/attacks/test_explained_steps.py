"""Attacks on ``zk-audit explain``: what its auditor's policy does not take must not end in 0."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consumers.audit.cli import main
from tests.support.forge import Case
from tests.support.pipeline import ORIGIN
from zk_autograd.policy import Policy


def explained(case: Case, policy: Policy, capsys: pytest.CaptureFixture[str], step: int = 2) -> tuple[int, str]:
    path = case.folder / "chosen.json"
    path.write_text(policy.to_json())
    where = ["--home", str(case.sound.home.path), "--log", case.log.url, "--origin", ORIGIN, "--policy", str(path)]
    code = main(["explain", str(step), "--run", case.run_id.hex(), *where])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_step_that_only_an_anchor_of_the_hosts_choice_holds(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    other = "file:" + "ab" * 32
    policy = replace(case.policy, anchors={other: ""})
    assert case.audit(policy, live=False).exit_code == 2
    code, text = explained(case, policy, capsys)
    assert code == 2, text


def test_a_step_of_a_sampled_run_that_the_policy_does_not_take(
    sampled_case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    for least in (None, 2):
        policy = replace(sampled_case.policy, min_sampled=least)
        assert sampled_case.audit(policy, live=False).exit_code == 2
        code, text = explained(sampled_case, policy, capsys)
        assert code == 2, text


def test_a_beacon_that_the_policy_does_not_name(sampled_case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    (own,) = sampled_case.policy.anchors or ()
    policy = replace(sampled_case.policy, anchors={"file:" + "ab" * 32: ""})
    assert own not in policy.anchors
    code, text = explained(sampled_case, policy, capsys)
    assert code == 2, text
