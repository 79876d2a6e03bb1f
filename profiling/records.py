"""Reads what `profiling.recorder` wrote: the phases of one role in the order of their ends."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from profiling.recorder import Meter
from protocol.errors import Misconfigured

_FIGURES: Final = ("seconds", "received", "sent", "read", "written", "peak")


@dataclass(frozen=True)
class Recorded:
    """One run of a phase, as it stands in a profile; `start` is Unix time."""

    role: str
    who: str
    round: int
    phase: str
    start: float
    total: Meter
    layers: dict[int, Meter]
    failed: bool
    base_weights: int


@dataclass
class Profile:
    """What one state folder's profile has: the phases, and (name, bytes) of the spec's layers."""

    phases: list[Recorded] = field(default_factory=list)
    layers: list[tuple[str, int]] = field(default_factory=list)


def read_profile(path: Path) -> Profile:
    """Return what is recorded at `path`; lines that are not whole are left out."""
    profile = Profile()
    try:
        with path.open("rb") as file:
            for raw in file:
                _take_line(raw, profile)
    except OSError as error:
        raise Misconfigured(f"profile {path}: {error.strerror}") from error
    return profile


def _take_line(raw: bytes, profile: Profile) -> None:
    try:
        line = json.loads(raw)
        if "spec" in line:
            profile.layers = [(str(name), int(size)) for name, size in line["spec"]]
        else:
            profile.phases.append(_parse(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # torn, or the empty line between two


def _parse(line: dict[str, Any]) -> Recorded:
    return Recorded(
        role=str(line["role"]),
        who=str(line["who"]),
        round=int(line["round"]),
        phase=str(line["phase"]),
        start=float(line["start"]),
        total=_meter([line[name] for name in _FIGURES]),
        layers={int(index): _meter(values) for index, values in line["layers"].items()},
        failed=bool(line.get("failed", False)),
        base_weights=int(line.get("base_weights", 0)),
    )


def _meter(values: Sequence[float]) -> Meter:
    seconds, *counts = values
    return Meter(float(seconds), *map(int, counts))
