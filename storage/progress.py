"""What a role is doing, as lines of JSON that anybody on the machine can follow.

    {"time": 1781234567.1, "who": "cardiology", "phase": "training", "round": 2, "step": 3, …}

Lines of several processes go to one file. They inform; nothing is decided from them.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from storage.files import append_json_line

Report = Callable[..., None]


def reporter(path: Path | None, who: str) -> Report:
    """Return `report(phase, **facts)`, which appends a line to `path`, or does nothing if None."""
    if path is None:
        return lambda phase, **facts: None
    target = path

    def report(phase: str, **facts: Any) -> None:
        line = {"time": round(time.time(), 3), "who": who, "phase": phase, **facts}
        append_json_line(target, line)

    return report


def combine(*reports: Report) -> Report:
    """Return a report that every one of `reports` hears."""

    def report(phase: str, **facts: Any) -> None:
        for each in reports:
            each(phase, **facts)

    return report


def read_progress(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (offset behind the line, line) for every whole line of `path` from offset `start`."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, line
