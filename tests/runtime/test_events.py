"""Events: each is written and read back as it was, and nowhere else do its words stand."""

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from protocol.errors import CommonweightError, Misconfigured, Unavailable, WrongBytes
from protocol.types import RoundId
from runtime import events
from runtime.events import Event
from runtime.progress import Line, combine, last_line_reporter, read_progress, reporter

ROOT = Path(__file__).parents[2]
ROOMS = ("aggregator", "node", "runtime", "commonweight", "rounds", "benchmarks")
KINDS = Event.__subclasses__()
PHASES = {kind.phase for kind in KINDS}


def example(kind: type[Event], *, whole: bool) -> Event:
    """Return an event with a value of the right type in each field, or only in the needed ones."""
    values: dict[str, Any] = {"int": 3, "float": 0.25, "str": "two words", "Mapping": {"empty": 2}}
    hints = get_type_hints(kind)
    needed = [each for each in fields(kind) if whole or each.default is not None]
    facts = {}
    for field in needed:
        text = str(field.type if isinstance(field.type, str) else hints[field.name])
        known = next((values[name] for name in values if name in text), None)
        facts[field.name] = values["int"] if "RoundId" in text or "Token" in text else known
        if "Address" in text or "Literal" in text:
            facts[field.name] = "chain"
    return kind(**facts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [True, False])
def test_an_event_is_read_back_as_it_was_written(
    kind: type[Event], whole: bool, tmp_path: Path
) -> None:
    event, path = example(kind, whole=whole), tmp_path / "progress.jsonl"
    reporter(path, "ann")(event)
    ((offset, line),) = read_progress(path)
    assert (line.who, line.event) == ("ann", event)
    assert offset == path.stat().st_size
    written = json.loads(path.read_bytes())
    assert list(written)[:3] == ["time", "who", "phase"]
    assert list(written)[3:] == [
        field.name for field in fields(kind) if getattr(event, field.name) is not None
    ]


def test_every_event_has_words_of_its_own() -> None:
    assert len(PHASES) == len(KINDS) > 40
    for kind in KINDS:
        assert kind.__doc__ is not None
        assert "phase" in vars(kind)


def test_a_fact_that_is_unknown_is_left_out() -> None:
    waiting = events.Waiting(reason="disk full", seconds=1.5)
    assert waiting.facts() == {"reason": "disk full", "seconds": 1.5}
    failed = events.Waiting(reason="no block", seconds=1.5, service="chain")
    assert list(failed.facts()) == ["reason", "seconds", "service"]


@pytest.mark.parametrize(
    "facts", [{"phase": "dancing"}, {"phase": "opened", "round": 1, "gas": 2, "colour": "blue"}]
)
def test_lines_of_another_version_are_passed_over(facts: Mapping[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    known = Line(1.0, "ann", events.Stopped())
    lines = [{"time": 0.5, "who": "ann", **facts}, known.as_json()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"time"')
    assert [line for _, line in read_progress(path)] == [known]


def test_the_newest_line_is_kept_but_for_steps_that_come_fast(tmp_path: Path) -> None:
    heard: list[Event] = []
    report = combine(last_line_reporter(tmp_path, "ann"), heard.append)
    for step in (1, 2):
        report(events.Training(round=RoundId(1), step=step, steps=9, loss=0.5))
    assert len(heard) == 2
    assert json.loads((tmp_path / "doing.json").read_bytes())["step"] == 1
    report(events.Stopped())
    assert json.loads((tmp_path / "doing.json").read_bytes())["phase"] == "stopped"


def test_a_failure_carries_its_service() -> None:
    assert CommonweightError("a bug").service is None
    assert Unavailable("no block", service="chain").service == "chain"
    assert Misconfigured("another chain", service="chain").service == "chain"
    wrong: list[Unavailable] = [WrongBytes("a block"), WrongBytes("a log", service="chain")]
    assert [error.service for error in wrong] == ["storage", "chain"]


# ------------------------------------------------------- one place for the words


def matched_phases(tree: ast.AST) -> Iterator[str]:
    """Yield the phases that code reports, or compares something with, as string literals."""
    for node in ast.walk(tree):
        looked_at: list[ast.expr] = []
        if isinstance(node, ast.Compare) and "phase" in ast.unparse(node.left):
            looked_at = node.comparators
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            looked_at = node.args if called in ("report", "tell") else []
        for inner in (each for expression in looked_at for each in ast.walk(expression)):
            if isinstance(inner, ast.Constant) and inner.value in PHASES:
                yield str(inner.value)
        # Several words are nobody else's, so these must not stand anywhere.
        if isinstance(node, ast.Constant) and node.value in PHASES and " " in node.value:
            yield node.value


def test_no_phase_is_a_literal_elsewhere() -> None:
    assert set(matched_phases(ast.parse('line["phase"] in ("opened", "x")'))) == {"opened"}
    assert set(matched_phases(ast.parse('self.report("left", a=1)'))) == {"left"}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        if path != ROOT / "runtime" / "events.py":
            found = set(matched_phases(ast.parse(path.read_text())))
            assert not found, f"{path.relative_to(ROOT)} names the phases {found}"
