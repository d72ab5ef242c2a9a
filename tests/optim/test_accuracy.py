"""Fixed-point training ends where torch's own ends. The full measurement is ``python -m bench.accuracy``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import optim as peers  # noqa: E402

from bench.accuracy import Case, adam, deviation, momentum, sgd, variants  # noqa: E402
from bench.float_peers import FloatLamb  # noqa: E402
from zk_autograd.optim import SGD, Adafactor, Adam, AdamW, Lamb  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The models are small: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("logrows", [15, 16])
@pytest.mark.parametrize("case", [adam(), sgd(), momentum()], ids=lambda case: case.name)
def test_the_final_loss_after_300_steps_is_within_two_percent_of_torchs(case: Case, logrows: int) -> None:
    assert abs(deviation(case, seeds=range(3), logrows=logrows)) < 0.02


def others() -> list[Case]:
    """What the tables of ``python -m bench.accuracy`` leave to those of ``python -m bench.curves``."""
    return [
        Case("wide Adam", 1e-3, lambda p: peers.Adam(p, lr=1e-3), lambda p, **o: Adam(p, lr=1e-3, wide=True, **o)),
        Case(
            "wide AdamW", 1e-3,
            lambda p: peers.AdamW(p, lr=1e-3, weight_decay=0.1),
            lambda p, **o: AdamW(p, lr=1e-3, weight_decay=0.1, wide=True, **o),
        ),
        Case(
            "AMSGrad, L2", 1e-3,
            lambda p: peers.Adam(p, lr=1e-3, amsgrad=True, weight_decay=1e-4),
            lambda p, **o: Adam(p, lr=1e-3, amsgrad=True, weight_decay=1e-4, **o),
        ),
        Case(
            "AMSGradW", 1e-3,
            lambda p: peers.AdamW(p, lr=1e-3, amsgrad=True, weight_decay=0.1),
            lambda p, **o: AdamW(p, lr=1e-3, amsgrad=True, weight_decay=0.1, **o),
        ),
        Case(
            "Nesterov, L2", 0.1,
            lambda p: peers.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
            lambda p, **o: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, **o),
        ),
        # Its eps is as large as its bound demands: docs/accuracy.md.
        Case("LAMB", 2e-3, lambda p: FloatLamb(p, lr=2e-3), lambda p, **o: Lamb(p, lr=2e-3, clip=0.25, **o)),
        Case("Adafactor", 1e-2, lambda p: peers.Adafactor(p, lr=1e-2), lambda p, **o: Adafactor(p, lr=1e-2, **o)),
    ]  # fmt: skip


@pytest.mark.parametrize("case", [*variants(), *others()], ids=lambda case: case.name)
def test_the_final_loss_of_every_variant_is_within_two_percent_of_torchs(case: Case) -> None:
    assert abs(deviation(case, seeds=range(2))) < 0.02


def test_small_gradients_are_followed_too_if_the_clipping_bound_fits_them() -> None:
    deep = adam(rate=1e-2, batch=0)
    assert abs(deviation(deep, seeds=range(2), clip=0.05)) < 0.02
