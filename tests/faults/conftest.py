"""Which schedules are played, and what is kept of them.

`--faults-to FILE` adds a line of JSON for every schedule played, which tests/faults/table.py reads;
those that it says were survived are not played again. `--faults-part N/M` plays one part of M.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.seeds import SEEDS, part_of_seeds
from tests.faults.table import read_records, survived

FINISHED: Any = pytest.StashKey[set[int]]()


class Recorder:
    """Writes what the tests record; under xdist their records come from the workers."""

    def __init__(self, target: Path, finished: set[int]) -> None:
        self.target = target
        self.finished = finished
        target.parent.mkdir(parents=True, exist_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            with self.target.open("a") as file:
                for name, value in report.user_properties:
                    if name == "played":
                        file.write(json.dumps(value) + "\n")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        # Every worker must collect the same, also one that starts when the file has grown.
        node.workerinput["finished"] = sorted(self.finished)


def pytest_configure(config: pytest.Config) -> None:
    target: Path | None = config.getoption("--faults-to", None)
    if hasattr(config, "workerinput"):
        config.stash[FINISHED] = set(config.workerinput.get("finished", []))
    elif target is not None:
        config.stash[FINISHED] = survived(read_records(target))
        config.pluginmanager.register(Recorder(target, config.stash[FINISHED]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(range(SEEDS))
    if part := config.getoption("--faults-part", None):
        try:
            wanted = part_of_seeds(part)
        except ValueError as error:
            raise pytest.UsageError(f"--faults-part: {error}") from error
    if FINISHED in config.stash:
        wanted -= config.stash[FINISHED]
    left_out = [item for item in items if _seed(item) not in {None, *wanted}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _seed(item: pytest.Item) -> int | None:
    """Return the seed of a schedule, None for a test of another kind."""
    if item.path.parent != Path(__file__).parent:
        return None
    callspec: Any = getattr(item, "callspec", None)
    seed: int | None = callspec.params.get("seed") if callspec else None
    return seed
