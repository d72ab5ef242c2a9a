"""Two parameter groups, blocks of three formats and a change of scale, from torch to the audit, with real proofs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from consumers.audit.report import as_json, as_text  # noqa: E402
from producer.declaration import Terms  # noqa: E402
from producer.recorder import Recorder  # noqa: E402
from producer.schedules import declare  # noqa: E402
from tests.support.forge import explain  # noqa: E402
from tests.support.pipeline import Pipeline, pipeline  # noqa: E402
from zk_autograd.home import Home  # noqa: E402
from zk_autograd.optim import SGD  # noqa: E402
from zk_autograd.proofs import shard_size  # noqa: E402
from zk_autograd.proofs.base import Circuit  # noqa: E402


def train(pipe: Pipeline) -> tuple[bytes, Any]:
    """Two steps, each an epoch; gradients of three sizes, and from the second step on smaller ones."""
    size = pipe.circuit.shard
    large, small = (torch.nn.Parameter(torch.linspace(-1, 1, size + n)) for n in (size // 2, -size // 2))
    sizes = torch.full((len(large),), 0.5)
    sizes[size:] = 2.0**-9

    def gradients(step: int) -> None:
        fade = 2.0 ** -(6 * (step > 2))
        generator = torch.Generator().manual_seed(step)
        large.grad = (torch.rand(len(large), generator=generator) - 0.5) * sizes * fade
        small.grad = (torch.rand(len(small), generator=generator) - 0.5) * 2.0**-4

    optimizer = SGD([{"params": [large]}, {"params": [small], "lr": 0.01}], lr=0.05, logrows=15)
    optimizer.calibrate(gradients, 2, block=size)
    schedules, _ = declare("constant", optimizer, 3)
    with pipe.open() as log:
        terms = Terms(epoch_steps=1, max_rounding=0.01)
        recorder = Recorder.start(optimizer, log, pipe.home, pipe.circuit, "groups", schedules, terms=terms)
        for step in (3, 4):
            gradients(step)
            if recorder.epoch_begins:
                optimizer.rescale()
            optimizer.step()
            recorder.record()
        recorder.finish()
        recorder.close()
    return recorder.run_id, optimizer


def test_a_run_with_groups_formats_and_a_change_of_scale_is_sound(
    tmp_path: Path, fresh_home: Callable[..., Home], real_circuit: Callable[[str], Circuit]
) -> None:
    pipe = pipeline(fresh_home("sgd"), tmp_path, real_circuit("sgd"))
    assert pipe.circuit.shard == shard_size("sgd", "small")
    run_id, optimizer = train(pipe)
    assert optimizer.last_step.shifts[0] > 0
    assert optimizer.last_step.underflow < 10
    assert pipe.prove() == 6
    pipe.fold()
    pipe.anchor()
    found = pipe.audit(run_id)
    assert found.exit_code == 0, explain(found)
    assert found.chain is not None
    assert [(b.group, b.shards) for b in found.chain.start.blocks] == [(0, 1), (0, 1), (1, 1)]
    assert len({b.scale_g for b in found.chain.start.blocks}) == 3
    assert [s.event.shifts for s in found.chain.steps] == [(), optimizer.last_step.shifts]
    assert found.chain.formats_after(2) == tuple(b.format for b in optimizer.blocks)
    facts = as_json(found, "groups")["gradients"]
    assert facts["scale_changes"] == 1
    assert facts["max_rounding"] == max(s.event.rounding for s in found.chain.steps) < 0.01
    assert "declared: 0.01); scales changed 1 times" in as_text(found, "groups")
