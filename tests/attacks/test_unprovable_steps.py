"""Attacks on an honest trainer: inputs for which it takes a step, and publishes it, that no circuit accepts.

Such a run stays unproven for ever, and nobody is told before a prover has looked at it.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.kernels.agreeing import Case, gradients  # noqa: E402
from zk_autograd.errors import FormatError  # noqa: E402
from zk_autograd.optim.advance import Advanced, advance  # noqa: E402
from zk_autograd.optim.fused import Kernels  # noqa: E402
from zk_autograd.statement import STATEMENTS  # noqa: E402

LR = 1e-3
DECAY = 1e-2


def large(name: str, scale: float, rng: np.random.Generator, n: int = 256) -> Case:
    """A step 5 of a run whose weights are of this size, from moments that gradients of its bound give."""
    st, P = STATEMENTS[name], 2**16 - 8
    hyper = dict(st.defaults) | ({"weight_decay": DECAY} if "weight_decay" in st.defaults else {})
    fmt = st.choose_format(hyper, LR, 1.0, P)
    public = st.public_integers(hyper, LR, 5, fmt, P)
    limit = min(scale * 2.0**fmt.scale_w, 2.0**48)
    root = rng.integers(0, fmt.clip // 8 + 1, n)
    pre = {"w": rng.uniform(-limit, limit, n).astype(np.int64), "m": rng.integers(-1, 2, n) * root, "v": root * root}
    pre["h"] = root
    state = {key: torch.tensor(pre[key]) for key in st.state}
    return Case(st, P, fmt, public, state, gradients(fmt, torch.float32, rng, n).clamp(-2.0, 2.0))


def unmet(case: Case, done: Advanced) -> set[str]:
    """The circuit's bounds that the step does not keep to."""

    def exact(some: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        return {key: np.array(x.tolist(), dtype=object) for key, x in some.items()}

    g = np.array(done.g.tolist(), dtype=object)
    found = case.statement.bounds(exact(case.pre), exact(done.post), g, exact(done.hints), case.public, case.P)
    return {what for what, x in found.items() if ((x < 0) | (x >= case.P)).any()}


@pytest.mark.parametrize("name", sorted(n for n, st in STATEMENTS.items() if not st.carries))
def test_weights_so_large_that_their_decay_leaves_the_table(name: str) -> None:
    """What: weights far above those that formats leave room for. Why: with L2 decay Adam's ``e``, gradient and decay
    together, left the table, and the step was taken all the same. Where: ``Statement.ranges`` of Adam's L2 variants,
    and both kernels, which looked whether it fits 16 bits."""
    rng, taken = np.random.default_rng(7), 0
    for scale in 2.0 ** np.arange(0, 22, 1.5):
        case = large(name, float(scale), rng)
        task, flat = case.task()
        read = flat.read_gradients(task.spans, False)
        try:
            done = advance(case.statement, case.pre, read.integers, case.public, case.P)
        except FormatError:
            continue
        taken += 1
        assert not unmet(case, done), scale
    assert taken


@pytest.mark.parametrize("kind", ["numba", "triton"])
@pytest.mark.parametrize("name", ["adam-l2", "amsgrad-l2"])
def test_a_gradient_that_decay_takes_out_of_the_table_by_one(kind: str, name: str) -> None:
    """What: gradient and decay together are ``P/2``, which fits 16 bits and not the table. Why and where: as above,
    for the steps that kernels take by themselves."""
    case = large(name, 1.0, np.random.default_rng(11))
    case.gradients.zero_()
    own = kernels(kind, len(case.gradients))
    e = case.P // 2
    for value, decides in ((e - 1, True), (e, False)):
        case.pre["w"][7] = -(-value * case.P // case.public["W"])
        assert case.decided(own) == decides
    with pytest.raises(FormatError):
        case.by(own)


def kernels(kind: str, n: int) -> Kernels:
    pytest.importorskip(kind)
    if kind == "numba":
        from zk_autograd.optim.host import HostKernels

        return HostKernels(n)
    from zk_autograd.optim.gpu import TritonKernels

    return TritonKernels(n, torch.device("cpu"))
