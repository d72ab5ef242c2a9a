"""The loss curves in docs/accuracy.md are those of bench/curves.json, and a run of it can be had again."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bench import curves  # noqa: E402
from zk_autograd.statement import STATEMENTS  # noqa: E402


def test_every_optimizer_was_measured_on_every_model_with_every_seed() -> None:
    # torch has no LAMB: tests/optim/test_lamb.py has one.
    # Adafactor: bench.adafactor.
    assert set(curves.SETTINGS) == {n for n, st in STATEMENTS.items() if not st.carries}
    assert set(curves.results()) == set(curves.jobs())


def test_the_table_is_made_from_the_results() -> None:
    text = (curves.DOCS / "accuracy.md").read_text("utf-8")
    assert curves.table(curves.results()) in text, "run: python -m bench.curves docs"
    assert all((curves.DOCS / "img" / f"curves-{key}.png").exists() for key in curves.MODELS)


@pytest.mark.parametrize("name", ["adam", "adam-wide", "nesterov"])
@pytest.mark.parametrize("side", ["torch", "ours"])
def test_a_run_done_again_ends_where_the_file_says(name: str, side: str) -> None:
    model, setting = curves.MODELS["mlp"], curves.SETTINGS[name]
    make = (curves.peer if side == "torch" else curves.ours)(model, setting)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = curves.train(model, make, seed=0)
    finally:
        torch.set_num_threads(before)
    on_file = curves.of(curves.results(), "mlp", name, side)[0]
    # Another machine sums in another order: not to the last digit.
    assert again["loss"] == pytest.approx(on_file["loss"], rel=0.01)
    assert again["curve"][0] == pytest.approx(on_file["curve"][0], rel=0.001)
