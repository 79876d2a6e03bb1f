"""`--faults-to FILE` keeps what became of every schedule, for docs/reliability.md."""

import json
from pathlib import Path
from typing import Any

import pytest

_played: list[dict[str, Any]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the records of the tests; under xdist they come from the workers."""
    if report.when == "call":
        _played.extend(value for name, value in report.user_properties if name == "played")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write them, in the order of their seeds; only where no worker's own session ends."""
    target: Path | None = session.config.getoption("--faults-to")
    if target is None or hasattr(session.config, "workerinput"):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(each) for each in sorted(_played, key=lambda each: each["seed"])]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n")
