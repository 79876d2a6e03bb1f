"""Reads the profiles of `profiling.recorder`: the phases of one role in the order they ended."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from profiling.recorder import Meter
from protocol.errors import Misconfigured

_FIGURES: Final = ("seconds", "received", "sent", "read", "written", "peak")


@dataclass(frozen=True)
class Recorded:
    """One run of a phase as recorded in a profile; `start` is Unix time."""

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
    """The profile of one state folder: phases, and (name, bytes) of the spec's layers."""

    phases: list[Recorded] = field(default_factory=list)
    layers: list[tuple[str, int]] = field(default_factory=list)


def read_profile(path: Path) -> Profile:
    """Return the profile at `path`; lines that are not whole are skipped."""
    profile = Profile()
    try:
        with path.open("rb") as file:
            for raw in file:
                # Torn by a crash, or the empty line between two: neither concerns the others.
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    line = json.loads(raw)
                    if "spec" in line:
                        profile.layers = [(str(name), int(size)) for name, size in line["spec"]]
                        continue
                    layers = {int(index): _meter(each) for index, each in line["layers"].items()}
                    recorded = Recorded(
                        role=str(line["role"]),
                        who=str(line["who"]),
                        round=int(line["round"]),
                        phase=str(line["phase"]),
                        start=float(line["start"]),
                        total=_meter([line[name] for name in _FIGURES]),
                        layers=layers,
                        failed=bool(line.get("failed", False)),
                        base_weights=int(line.get("base_weights", 0)),
                    )
                    profile.phases.append(recorded)
    except OSError as error:
        raise Misconfigured(f"profile {path}: {error.strerror}") from error
    return profile


def _meter(values: Sequence[float]) -> Meter:
    seconds, *counts = values
    return Meter(float(seconds), *map(int, counts))
