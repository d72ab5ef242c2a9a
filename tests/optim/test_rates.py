"""Learning rates from 1e-6 to 1e-1: covered, or refused with what to use instead."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.optim.models import MAKERS, parameter  # noqa: E402
from tests.statement.runs import run  # noqa: E402
from zk_autograd.errors import FormatError  # noqa: E402
from zk_autograd.optim import Lamb  # noqa: E402
from zk_autograd.optim.advice import choose_format  # noqa: E402
from zk_autograd.proofs.base import PROFILES  # noqa: E402
from zk_autograd.statement import STATEMENTS  # noqa: E402

RATES = [10.0 ** (exponent / 2) for exponent in range(-12, -1)]


@pytest.mark.parametrize("clip", [1.0, 0.1])
@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_every_rate_is_covered_or_refused_with_what_to_use(name: str, profile: str, clip: float) -> None:
    st, P = STATEMENTS[name], PROFILES[profile].P
    for lr in RATES:
        try:
            fmt = choose_format(st, st.defaults, lr, clip, P)
        except FormatError as error:
            ways = str(error).partition("as it is, it fits with ")[2].split(" or ")
            assert ways != [""], (lr, error)  # noqa: PT017
            for way in ways:
                assert takes(name, lr, clip, P, way), (lr, way)
            continue
        assert fmt.scale_w >= 12
        assert st.rate_error(st.defaults, lr, fmt, P) <= 0.02, lr


@pytest.mark.parametrize("lr", [1e-6, 1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("name", sorted(n for n, st in STATEMENTS.items() if not st.carries))  # units of weights
def test_a_constant_gradient_moves_weights_at_a_rate_that_is_covered(name: str, profile: str, lr: float) -> None:
    st, P = STATEMENTS[name], PROFILES[profile].P
    hyper = dict(st.defaults) | {key: 1e-6 for key in st.defaults if key == "weight_decay"}
    try:
        fmt = choose_format(st, hyper, lr, 1.0, P)
    except FormatError:
        return  # the test above looks at these
    g = np.full(1, fmt.clip // 2)
    before, *_, after = list(run(st, hyper, lr, fmt, P, [g] * 400))[101::99]
    moved = float(before.post["w"][0] - after.post["w"][0]) / 2.0**fmt.scale_w
    gradient = 1.0 if "beta1" in hyper else float(g[0]) / 2.0**fmt.scale_g / (1 - hyper.get("momentum", 0.0))
    # A constant step may be rounded by a whole unit of the weight, twice what the mean is.
    assert abs(moved / (297 * lr * gradient) - 1) < 0.005 + 2 * st.rate_error(hyper, lr, fmt, P)


def takes(name: str, lr: float, clip: float, P: int, way: str) -> bool:
    """Whether the optimizer takes the rate once what the message says is done; its own error otherwise."""
    options: dict[str, Any] = {"lr": lr, "clip": clip, "logrows": (P + 8).bit_length() - 1}
    for part in way.split(" and "):
        if found := re.fullmatch(r"profile (\w+) \(logrows=(\d+)\)", part):
            assert PROFILES[found[1]].logrows == int(found[2])
            options["logrows"] = int(found[2])
        elif found := re.fullmatch(r"a clip of ([\d.e-]+)", part):
            options["clip"] = float(found[1])
        elif found := re.fullmatch(r"a max_ratio of ([\d.]+)", part):
            options["max_ratio"] = float(found[1])
        elif part == "AdamW (decoupled decay)":
            name = {"adam-l2": "adamw", "amsgrad-l2": "amsgradw"}[name]
        elif part == "wide=True (--wide)":
            options["wide"] = True
        else:
            return False
    maker = MAKERS[name] if name != "lamb" else Lamb
    made = maker([parameter(0.5)], **options, **defaults(name))
    return made.max_lr == lr


def defaults(name: str) -> dict[str, float]:
    """The statement's own weight decay and momentum, by torch's names."""
    return {key: value for key, value in STATEMENTS[name].defaults.items() if key in ("weight_decay", "momentum")}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_wide_statement_covers_every_rate_in_every_profile(profile: str) -> None:
    for lr in RATES:
        choose_format(STATEMENTS["adam-wide"], STATEMENTS["adam-wide"].defaults, lr, 1.0, PROFILES[profile].P)


def test_what_nothing_mends_is_refused_without_advice() -> None:
    with pytest.raises(FormatError, match="the largest that fits") as refused:
        MAKERS["sgd"]([parameter(0.5)], lr=1e6)
    assert "it fits with" not in str(refused.value)
