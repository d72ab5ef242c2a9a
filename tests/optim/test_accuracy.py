"""Fixed-point training ends where torch's own ends. The full measurement is ``python -m bench.accuracy``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bench.accuracy import Case, adam, deviation, momentum, sgd, variants  # noqa: E402


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


@pytest.mark.parametrize("case", variants(), ids=lambda case: case.name)
def test_the_final_loss_of_every_variant_is_within_two_percent_of_torchs(case: Case) -> None:
    assert abs(deviation(case, seeds=range(2))) < 0.02


def test_small_gradients_are_followed_too_if_the_clipping_bound_fits_them() -> None:
    deep = adam(rate=1e-2, batch=0)
    assert abs(deviation(deep, seeds=range(2), clip=0.05)) < 0.02
