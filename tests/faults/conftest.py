"""`--faults-to FILE` adds a line of JSON for every schedule played: what scripts/… reads."""

import json
from pathlib import Path

import pytest


class Recorder:
    """Writes what the tests record; under xdist their records come from the workers."""

    def __init__(self, target: Path) -> None:
        self.target = target
        target.parent.mkdir(parents=True, exist_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            with self.target.open("a") as file:
                for name, value in report.user_properties:
                    if name == "played":
                        file.write(json.dumps(value) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    target: Path | None = config.getoption("--faults-to", None)
    if target is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(target))
