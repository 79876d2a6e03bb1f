"""A role's progress, as lines of JSON that anybody on the machine can follow.

    {"time": 1781234567.1, "who": "cardiology", "phase": "training", "round": 2, "step": 3, …}

Several processes may write to one file. Lines inform; nothing is decided from them.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from runtime.events import Event, Report, ignore, parse
from storage.files import append_json_line, replace_file

DOING: Final = "doing.json"
"""In a role's state folder: its newest line, for `commonweight participant status`."""


@dataclass(frozen=True)
class Line:
    """An event, the role that reported it, and the time in seconds since 1970."""

    time: float
    who: str
    event: Event

    @classmethod
    def now(cls, who: str, event: Event) -> Self:
        """Return the line of an event that happened just now."""
        return cls(round(time.time(), 3), who, event)

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """Return the line; None for an event that this version does not know."""
        line = json.loads(raw)
        written, who, phase = (line.pop(name) for name in ("time", "who", "phase"))
        event = parse(phase, line)
        return None if event is None else cls(written, who, event)

    def as_json(self) -> dict[str, Any]:
        """Return the line as a JSON object."""
        return {
            "time": self.time,
            "who": self.who,
            "phase": self.event.phase,
            **self.event.facts(),
        }


def reporter(path: Path | None, who: str) -> Report:
    """Return a report that appends lines to `path`, or does nothing without one."""
    if path is None:
        return ignore
    return lambda event: append_json_line(path, Line.now(who, event).as_json())


def last_line_reporter(state: Path, who: str) -> Report:
    """Return a report that keeps the newest line in a role's state folder."""
    phase, written_at = "", 0.0

    def report(event: Event) -> None:
        nonlocal phase, written_at
        line = Line.now(who, event)
        if phase == event.phase and line.time - written_at < 1.0:
            return  # training steps may come many times a second
        phase, written_at = event.phase, line.time
        # The file only informs: a full disk must not stop the role, and the write is not synced.
        with suppress(OSError):
            replace_file(state / DOING, json.dumps(line.as_json()).encode() + b"\n")

    return report


def combine(*reports: Report) -> Report:
    """Return a report that passes each event to all of `reports`."""

    def report(event: Event) -> None:
        for each in reports:
            each(event)

    return report


def read_progress(path: Path, start: int = 0) -> Iterator[tuple[int, Line]]:
    """Yield (offset after the line, line) for every complete line of `path` from offset `start`.

    Skips lines that this version does not know: a run may be older than the program.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        offset = start
        for raw in file:
            # A process that was killed, or is still writing, leaves a line without its end.
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            if (line := Line.parse(raw)) is not None:
                yield offset, line
