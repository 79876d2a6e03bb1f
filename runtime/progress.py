"""What a role is doing, as lines of JSON that anybody on the machine can follow.

    {"time": 1781234567.1, "who": "cardiology", "phase": "training", "round": 2, "step": 3, …}

Lines of several processes go to one file. They inform; nothing is decided from them.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from storage.files import append_json_line, replace_file

Report = Callable[..., None]

DOING: Final = "doing.json"
"""In a role's state folder: its newest line, for `commonweight participant status`."""


def reporter(path: Path | None, who: str) -> Report:
    """Return `report(phase, **facts)`, which appends a line to `path`, or does nothing if None."""
    if path is None:
        return lambda phase, **facts: None
    target = path

    def report(phase: str, **facts: Any) -> None:
        line = {"time": round(time.time(), 3), "who": who, "phase": phase, **facts}
        append_json_line(target, line)

    return report


def last_line_reporter(state: Path, who: str) -> Report:
    """Return a report that keeps the newest line in a role's state folder."""

    written = ("", 0.0)

    def report(phase: str, **facts: Any) -> None:
        nonlocal written
        now = time.time()
        if written[0] == phase and now - written[1] < 1.0:
            return  # steps of training may come faster than a disk likes
        written = phase, now
        line = {"time": round(now, 3), "who": who, "phase": phase, **facts}
        # Only informs: a full disk must not stop the role here, nor does it wait for the disk.
        with suppress(OSError):
            replace_file(state / DOING, json.dumps(line).encode() + b"\n")

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
