"""Plays one schedule and tells it: `python -m tests.faults.play SEED`."""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import CommonweightError
from tests.faults.checks import History, Outcome, check
from tests.faults.masked_checks import MaskedHistory
from tests.faults.schedule import Fault, Schedule
from tests.faults.seeds import make_schedule
from tests.faults.stage import Stage, Stuck


@dataclass(frozen=True)
class Played:
    """A schedule, what became of it, and the trace of who did what when."""

    schedule: Schedule
    outcome: Outcome
    struck: tuple[Fault, ...]
    trace: tuple[str, ...]
    seconds: float

    def story(self) -> str:
        """Return all that helps to find out what went wrong."""
        again = f"play it again: python -m tests.faults.play {self.schedule.seed}"
        head, end = [str(self.schedule), ""], ["", *self.outcome.broken, str(self.outcome), again]
        return "\n".join([*head, *self.trace, *end])

    def to_json(self) -> dict[str, Any]:
        return {
            "seed": self.schedule.seed,
            "struck": [_facts(fault) for fault in self.struck],
            "outcome": self.outcome.to_json(),
            "seconds": round(self.seconds, 1),
        }


def _facts(fault: Fault) -> dict[str, Any]:
    facts = {"kind": fault.kind, "detail": fault.detail, "target": fault.target}
    return {**facts, "point": fault.point, "story": str(fault)}


def play(schedule: Schedule, folder: Path) -> Played:
    """Play a schedule in `folder` and check what is left."""
    started = time.monotonic()
    with Stage(schedule, folder) as stage:
        try:
            stage.play()
            outcome = check(stage, MaskedHistory if schedule.is_masked else History)
        except (Stuck, CommonweightError) as error:
            outcome = Outcome(broken=(str(error),))
        struck = tuple(stage.strikes.struck)
        return Played(schedule, outcome, struck, tuple(stage.trace), time.monotonic() - started)


def main() -> int:
    seed = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        played = play(make_schedule(seed), Path(folder))
    print(played.story())
    return bool(played.outcome.broken)


if __name__ == "__main__":
    sys.exit(main())
