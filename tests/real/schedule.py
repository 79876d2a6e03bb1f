"""What goes wrong, and when: everything follows from the seed.

Faults come one after the other, spread over the rounds, so that what a slow machine takes longer
for does not change what is struck in which round.
"""

import random
from dataclasses import dataclass
from typing import Final

from tests.real.founding import AGGREGATOR, AUDITOR, PARTICIPANTS, ROLES

GETH: Final = "geth"
DEEPEST: Final = 6  # blocks that a reorganisation undoes


@dataclass(frozen=True)
class Fault:
    """`kind` happens to `target` in a round, `delay` seconds after its opening was seen.

    stop       geth: SIGTERM, and started again after `seconds`
    hold       a daemon: SIGSTOP for `seconds`
    reorganise geth: the last `blocks` blocks are undone, and their transactions dropped
    kill       a Kubo, or a role's process: SIGKILL, and started again after `seconds`
    collect    a Kubo: `ipfs repo gc`
    """

    round: int
    delay: float
    kind: str
    target: str
    seconds: float = 0.0
    blocks: int = 0

    def __str__(self) -> str:
        blocks = f" by {self.blocks} blocks" if self.blocks else ""
        seconds = f" for {self.seconds:.1f} s" if self.seconds else ""
        what = f"{self.kind} {self.target}{blocks}{seconds}"
        return f"round {self.round}, {self.delay:.1f} s in: {what}"


def kubo(role: str) -> str:
    """Return the name of a role's Kubo; the role's own name is that of its process."""
    return f"kubo of {role}"


def make_schedule(seed: int, faults: int, rounds: int) -> tuple[Fault, ...]:
    """Return `faults` faults spread evenly over all rounds but the last."""
    rng = random.Random(seed)
    places = [1 + number * (rounds - 1) // faults for number in range(faults)]
    return tuple(_draw(rng, place) for place in places)


def _draw(rng: random.Random, place: int) -> Fault:
    delay = round(rng.uniform(0.0, 8.0), 1)
    match rng.choice(("stop", "hold", "reorganise", "reorganise", "kubo", "kubo", "role", "role")):
        case "stop":
            return Fault(place, delay, "stop", GETH, round(rng.uniform(0.5, 6.0), 1))
        case "hold":
            return Fault(place, delay, "hold", GETH, round(rng.uniform(3.0, 20.0), 1))
        case "reorganise":
            return Fault(place, delay, "reorganise", GETH, blocks=rng.randint(1, DEEPEST))
        case "kubo":
            kind = rng.choice(("kill", "hold", "collect"))
            seconds = 0.0 if kind == "collect" else round(rng.uniform(0.5, 8.0), 1)
            return Fault(place, delay, kind, kubo(rng.choice(ROLES)), seconds)
        case _:
            who = rng.choice((AGGREGATOR, AGGREGATOR, AUDITOR, *PARTICIPANTS))
            return Fault(place, delay, "kill", who, round(rng.uniform(0.2, 4.0), 1))
