"""The report as a page: what it says, that it stands alone, and that nothing in a log can put anything else into it."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from consumers.audit.cli import main
from consumers.audit.collect import collect
from consumers.audit.collected import Collected
from consumers.audit.outcome import TITLES, Audit
from consumers.audit.page import page, write_page
from schemas.events import RunStarted, StepCommitted
from schemas.wire import open_event_log
from tests.support.forge import Case, flipped
from zk_autograd.errors import UsageError

HOSTILE = "</title><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;<style>*{}</style>"
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "code", "section", "b", "dl", "dt", "dd",
    "div", "table", "thead", "tbody", "tr", "th", "td", "br", "span", "ul", "li", "details", "summary", "pre",
}  # fmt: skip
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class"}


class Parsed(HTMLParser):
    """Collects tags, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def found_in(case: Case) -> Collected:
    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        return collect(log, case.run_id, case.policy)


def paged(case: Case, name: str = "run") -> str:
    return page(case.audit(), found_in(case), name, datetime(2026, 11, 26, 9, 5, tzinfo=UTC))


def assert_inert(text: str) -> Parsed:
    """Only tags and attributes that can do nothing; nothing is fetched; one style, named by its hash."""
    parsed = Parsed(text)
    assert set(parsed.tags) <= ALLOWED
    assert {name for _, name, _ in parsed.attributes} <= ATTRIBUTES
    assert parsed.tags.count("style") == 1
    (policy,) = (
        value for tag, name, value in parsed.attributes if name == "content" and "default-src" in (value or "")
    )
    digest = base64.b64encode(hashlib.sha256(parsed.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in parsed.style
    assert "@import" not in parsed.style
    return parsed


def test_the_page_of_a_sound_run(case: Case) -> None:
    parsed = assert_inert(paged(case))
    assert "Sound" in parsed.words
    assert case.run_id.hex() in parsed.words
    assert "Not proven: that the gradients came from the declared data" in parsed.words
    assert parsed.tags.count("tr") == 1 + len(TITLES) + 1 + 3 + 1 + 1
    assert "entry 3" in parsed.words
    assert "Development evidence (DEV SRS, SIMULATED): for trying things out, not to rely on" in parsed.words
    assert "who made them can forge proofs" in parsed.words
    assert "Made 2026-11-26 09:05 UTC" in parsed.words


def test_a_violation_is_said_with_its_finding(case: Case) -> None:
    record = case.log.find("steps", StepCommitted, step=2)
    case.log.replace(record, flipped(record.value, 40))
    parsed = assert_inert(paged(case))
    assert "Violated" in parsed.words
    assert "leaves a gap" in parsed.words


def test_an_audit_that_could_not_even_begin_has_a_page() -> None:
    out = Audit(bytes(32))
    out.unchecked(2, "the run's circuit is not at hand")
    from schemas.keyring import KeyRing
    from zk_autograd.policy import Policy

    parsed = assert_inert(page(out, Collected(KeyRing(Policy()), Policy(), bytes(32)), ""))
    assert "Could not be checked" in parsed.words


def test_a_hostile_name_is_only_text(case: Case) -> None:
    """The run's name is the trainer's to choose; it is signed, and may hold any printable character."""
    story = case.story()
    story.edit(RunStarted, name=HOSTILE)
    case.retell(story)
    text = paged(case, found_in(case).runs[case.run_id])
    parsed = assert_inert(text)
    assert HOSTILE in "".join(parsed.text)
    assert "<script" not in text
    assert "<img" not in text


def test_hostile_words_are_only_text_wherever_they_stand(case: Case) -> None:
    """Details, findings, noise and what was trusted: every place that a value from a log may reach."""
    out = case.audit()
    for number in range(12):
        out.checks[number].detail = HOSTILE
        out.checks[number].findings = [HOSTILE] * 30
    out.trusted = [HOSTILE]
    out.classes = {HOSTILE, "DEV SRS"}
    text = page(out, found_in(case), HOSTILE)
    assert_inert(text)
    assert "<script" not in text


def test_a_file_that_cannot_be_written_is_said_and_one_that_is_there_replaced(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        write_page(tmp_path / "none" / "x.html", "x")
    write_page(tmp_path / "x.html", "one")
    write_page(tmp_path / "x.html", "two")
    assert (tmp_path / "x.html").read_text() == "two"
    assert [p.name for p in tmp_path.glob("*new*")] == []


def test_the_command_writes_it_beside_its_report(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    target = case.folder / "report.html"
    words = ["--home", str(case.sound.home.path), "--log", case.log.url, "--run", "run", "--dev", "--html", str(target)]
    assert main(words) == 0
    assert "verdict: SOUND" in capsys.readouterr().out
    assert "Taken on trust" in assert_inert(target.read_text("utf-8")).words


@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_and_runs_nothing(case: Case, tmp_path: Path, width: int) -> None:
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    story = case.story()
    story.edit(RunStarted, name=HOSTILE)
    case.retell(story)
    target, picture = tmp_path / "report.html", tmp_path / "report.png"
    write_page(target, paged(case, HOSTILE))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    shot = [f"--screenshot={picture}", f"--window-size={width},1400"]
    done = subprocess.run([browser, *options, *shot, target.as_uri()], capture_output=True, text=True, timeout=120)
    assert picture.stat().st_size > 10_000, done.stderr[-500:]
    done = subprocess.run(
        [browser, *options, "--dump-dom", target.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "<script" not in done.stdout
    assert "Sound" in done.stdout
