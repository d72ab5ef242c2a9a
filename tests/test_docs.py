"""What README, docs and compose.yaml tell people to type is what the commands take."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import statements
from zk_autograd.home import Home

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def _parsers() -> dict[str, ArgumentParser]:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {name: importlib.import_module(target.split(":")[0]).parser() for name, target in scripts.items()}


def _typed_commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                words = shlex.split(line.split("#")[0].rstrip(" &"))
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # USE_TRITON=1 zk-train …
                    words = words[1:]
                if words and words[0].startswith("zk-"):
                    found.append((page.name, words))
    for line in re.findall(r"entrypoint: (\[.*\])", (ROOT / "compose.yaml").read_text()):
        found.append(("compose.yaml", json.loads(line)))
    return found


def test_some_commands_are_shown_for_every_role() -> None:
    shown = {words[0] for _, words in _typed_commands()}
    assert shown == set(_parsers())


@pytest.mark.parametrize(("page", "words"), _typed_commands(), ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_a_shown_command_is_one_that_its_parser_takes(page: str, words: list[str]) -> None:
    _parsers()[words[0]].parse_args(words[1:])


def test_the_table_of_optimizers_is_made_from_their_definitions() -> None:
    text = statements.PAGE.read_text("utf-8")
    assert statements.page(text) == text, "run: python -m bench.statements"


def test_the_table_of_rates_is_made_from_the_definitions() -> None:
    pytest.importorskip("torch")
    from bench import rates

    text = rates.PAGE.read_text("utf-8")
    assert rates.page(text) == text, "run: python -m bench.rates"


@pytest.mark.parametrize("name", sorted(_parsers()))
def test_help_shows_an_example(name: str) -> None:
    text = _parsers()[name].format_help()
    assert "examples:" in text
    assert f"\n  {name} " in text or f"\n  {name}\n" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_loop_in_the_docs_runs(fresh_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("ZK_HOME", str(fresh_home("adam").path))
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own-model.md").read_text(), re.DOTALL)[-1]
    changes = {
        '"default"': '"small"',
        "logrows=16)": "logrows=15)",
        "range(1, 51)": "range(1, 3)",
    }
    for shown, used in changes.items():
        assert shown in code
        code = code.replace(shown, used)
    names: dict[str, object] = {}
    exec(compile(code, "own-model.md", "exec"), names)
    assert names["recorder"].step == 2  # type: ignore[attr-defined]
