"""Gradients that the usual format rounds to zero: training stalls, and the wide statement holds. See bench.spread."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bench.spread import FAINT, Outcome, ours, peer, train  # noqa: E402
from tests.optim.models import parameter  # noqa: E402
from zk_autograd.errors import UsageError  # noqa: E402
from zk_autograd.optim import SGD, Adam, AdamW  # noqa: E402

ALONE, BOTH = "loss of weight 2^-10", "losses of weight 1 and 2^-10"
WITHIN = 0.02


def off(mine: Outcome, theirs: Outcome) -> tuple[float, float]:
    """Relative differences of the two losses."""
    return mine.main / theirs.main - 1, mine.faint / theirs.faint - 1


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_too_narrow_a_format_stalls_and_a_clipping_bound_that_fits_or_the_wide_statement_holds() -> None:
    theirs = train(ALONE, peer, seed=0)
    narrow = train(ALONE, ours(clip=1.0), seed=0)
    assert off(narrow, theirs)[1] > 3
    assert narrow.underflow > 0.4
    assert abs(off(train(ALONE, ours(clip=FAINT), seed=0), theirs)[1]) < WITHIN
    wide = train(ALONE, ours(clip=1.0, wide=True), seed=0)
    assert abs(off(wide, theirs)[1]) < WITHIN
    assert wide.underflow < narrow.underflow / 3


def test_where_large_and_small_gradients_share_a_tensor_no_clipping_bound_helps_and_the_wide_statement_holds() -> None:
    theirs = train(BOTH, peer, seed=0)
    assert off(train(BOTH, ours(clip=1.0), seed=0), theirs)[1] > 3
    assert abs(off(train(BOTH, ours(clip=FAINT), seed=0), theirs)[0]) > 0.2, "clipped gradients are another training"
    wide = off(train(BOTH, ours(clip=1.0, wide=True), seed=0), theirs)
    assert max(abs(x) for x in wide) < WITHIN


def test_the_wide_format_is_2_to_the_9_times_as_fine_at_the_same_bound() -> None:
    for logrows in (15, 16):
        usual, wide = (Adam([parameter(0.5)], logrows=logrows, wide=w).format for w in (False, True))
        assert wide.scale_g - usual.scale_g == 9
        assert wide.scale_w >= usual.scale_w
        assert wide.clip / 2**wide.scale_g == pytest.approx(usual.clip / 2**usual.scale_g, rel=0.002)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Adam([p], wide=True, amsgrad=True), "amsgrad"),
        (lambda p: Adam([p], wide=True, weight_decay=0.1), "AdamW"),
        (lambda p: AdamW([p], wide=True, amsgrad=True), "amsgrad"),
    ],
)
def test_what_has_no_wide_statement_is_refused_by_name(make: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make(parameter(0.5))  # type: ignore[operator]
    assert AdamW([parameter(0.5)], wide=True).statement.name == "adamw-wide"
    with pytest.raises(TypeError):
        SGD([parameter(0.5)], wide=True)  # type: ignore[call-arg]
