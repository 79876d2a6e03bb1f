"""Sums of a run's time, bytes and memory, by phase and by layer, and its communication.

A run's folder has a profile in each role's state folder (profiling/recorder.py). Figures of several
participants are added up; time during which one participant ran a phase in several threads counts
once. Bytes in and out are those over the network and those of layer files together.

The communication budget is counted as FlowerTune's leaderboard does: the tensors that participants
were sent to train on and those that they sent back, over all rounds, in units of 2^20 bytes, up to
200,000 (`CommunicationTracker` in the FlowerTune template of the Flower repository,
framework/py/flwr/cli/new/templates/app/code/flwr_tune/strategy.py.tpl).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from profiling.recorder import PROFILE, Meter
from profiling.records import Profile, Recorded, read_profile
from protocol.encoding import value_type
from protocol.errors import Misconfigured

BUDGET_BYTES: Final = 200_000 * 2**20

PHASE_ORDER: Final = (
    *("fetch model", "train", "encode", "verify", "verify: fetch", "verify: screen"),
    *("verify: compare", "score", "average", "hash", "prove store", "commit", "pin", "reveal"),
    *("propose", "evaluate"),
)

# Phases whose time has little to do with the bytes of an adapter: a rate would mislead.
_COMPUTING: Final = frozenset({"train", "evaluate", "score"})

# A role's state folder, the folder of its settings, a demo's run, and a folder of roles.
_PLACES: Final = ("", "state", "aggregator/state", "participants/*/state", "*/state", "*")


@dataclass
class Row:
    """Figures of a phase, or of a layer in it, over several runs; seconds and bytes."""

    times: int = 0
    failed: int = 0
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    peak_bytes: int = 0
    intervals: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list), repr=False
    )

    def take_in(self, meter: Meter) -> None:
        """Add one run."""
        self.times += 1
        self.seconds += meter.seconds
        self.peak_bytes = max(self.peak_bytes, meter.peak)
        self.move(meter)

    def move(self, meter: Meter) -> None:
        """Add the bytes of a run."""
        self.bytes_in += meter.received + meter.read
        self.bytes_out += meter.sent + meter.written

    def as_json(self, **names: Any) -> dict[str, Any]:
        """Return the row as JSON values; the rate is None where it has no meaning."""
        moved = 0 if names["phase"] in _COMPUTING else max(self.bytes_in, self.bytes_out)
        rate = round(moved / self.seconds) if moved and self.seconds else None
        return {
            **names,
            "times": self.times,
            "failed": self.failed,
            "seconds": round(self.seconds, 6),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "bytes_per_second": rate,
            "peak_bytes": self.peak_bytes,
        }


def find_profiles(run: Path) -> list[Path]:
    """Return the profiles below the folder of a run or a role; raise Misconfigured if none."""
    if not run.is_dir():
        raise Misconfigured(f"{run} is not a folder: a run's or a role's state was expected")
    # Resolved, and as a set: the patterns overlap.
    found = {
        path.resolve() for place in _PLACES for path in run.glob(f"{place}/{PROFILE}".lstrip("/"))
    }
    if not found:
        raise Misconfigured(f"{run} has no {PROFILE}: no phase of a run was recorded there yet")
    return sorted(found)


def describe_profile(run: Path) -> dict[str, Any]:
    """Return the output of `commonweight profile --json` for the folder of a run or a role."""
    paths = find_profiles(run)
    profiles = [read_profile(path) for path in paths]
    phases = [phase for profile in profiles for phase in profile.phases]
    if not phases:
        raise Misconfigured(f"{paths[0]} has no whole line yet")
    rounds = sorted({phase.round for phase in phases})
    return {
        "profiles": [str(path) for path in paths],
        "roles": dict(sorted({phase.who: phase.role for phase in phases}.items())),
        "rounds": rounds,
        "phases": _phase_rows(phases),
        "by_round": [
            {"round": each, "phases": _phase_rows([p for p in phases if p.round == each])}
            for each in rounds
        ],
        "layers": _layer_rows(profiles),
        "communication": _communication(profiles),
    }


def _phase_rows(phases: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Return one row per phase of a role, in the order of a round."""
    rows: defaultdict[tuple[str, str], Row] = defaultdict(Row)
    for phase in phases:
        row = rows[phase.role, phase.phase]
        row.take_in(phase.total)
        row.failed += phase.failed
        row.intervals[phase.who].append((phase.start, phase.start + phase.total.seconds))
        whole, is_part, _ = phase.phase.partition(": ")
        if is_part:
            rows[phase.role, whole].move(Meter(received=phase.total.received))
    # Not the sum of the runs: threads of one participant that overlap count once.
    for row in rows.values():
        row.seconds = sum(covered(each) for each in row.intervals.values())
    keys = sorted(rows, key=lambda key: (key[0] != "participant", key[0], _place(key[1])))
    return [rows[key].as_json(role=key[0], phase=key[1]) for key in keys]


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of the intervals."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _place(phase: str) -> tuple[int, str]:
    known = PHASE_ORDER.index(phase) if phase in PHASE_ORDER else len(PHASE_ORDER)
    return known, phase


def _layer_rows(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """Return one row per layer of a phase; its time is the sum over threads and updates."""
    rows: defaultdict[tuple[bool, str, tuple[int, str], int, str], Row] = defaultdict(Row)
    names: dict[tuple[bool, str, tuple[int, str], int, str], dict[str, Any]] = {}
    for profile in profiles:
        for phase in profile.phases:
            for index, meter in phase.layers.items():
                # A crash may have torn the line that names the layers.
                name = profile.layers[index][0] if index < len(profile.layers) else str(index)
                key = phase.role != "participant", phase.role, _place(phase.phase), index, name
                rows[key].take_in(meter)
                names[key] = {"role": phase.role, "phase": phase.phase, "layer": name}
    return [rows[key].as_json(**names[key]) for key in sorted(rows)]


def _communication(profiles: Sequence[Profile]) -> dict[str, Any]:
    phases = [phase for profile in profiles for phase in profile.phases]
    budget = sum(tensor_bytes(phase) for phase in phases if phase.role == "participant")
    model = next((sum(size for _, size in p.layers) for p in profiles if p.layers), 0)
    weights = max((phase.base_weights for phase in phases), default=0)
    # Full fine-tuning would have moved all weights as often, and with as many bytes a value.
    full = round(budget * weights * value_type("model").itemsize / model) if model else 0
    return {
        "participants": len({p.who for p in phases if p.role == "participant"}),
        "used_bytes": budget,
        "budget_bytes": BUDGET_BYTES,
        "full_weight_bytes": full or None,
        "base_weights": weights or None,
        "model_bytes": model,
        "received_by_all": sum(phase.total.received for phase in phases),
        "sent_by_all": sum(phase.total.sent for phase in phases),
    }


def tensor_bytes(phase: Recorded) -> int:
    """Return the bytes of layer files that a phase moved over the network, without manifests."""
    if not (phase.total.received or phase.total.sent):
        return 0
    return sum(layer.received + layer.sent for layer in phase.layers.values())
