"""What goes wrong in a schedule, and when: everything follows from its seed.

The catalogue is every fault at every boundary of a phase that it can hit. Schedule s begins with
entry s of the catalogue (so that as many schedules as there are entries cover all of it) and adds
up to three more, at boundaries or at random moments.
"""

import random
from dataclasses import dataclass
from typing import Final

NAMES: Final = ("ann", "bob", "cem")
CHAIN: Final = "chain"
IPFS: Final = "ipfs"
LEAD: Final = "aggregator"
STANDBY: Final = "standby"


@dataclass(frozen=True)
class Point:
    """A boundary: `role` gets to `name` in round `round_id`, for the first time.

    `name` is what the role reports ("trained"), or "before" or "after" a transaction of the
    contract's function: the node has not got it yet; it was mined and the role does not know.
    """

    role: str
    name: str
    round_id: int

    def __str__(self) -> str:
        return f"{self.role} at {self.name!r} in round {self.round_id}"


@dataclass(frozen=True)
class Moment:
    """Seconds after the first round was opened."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s"


@dataclass(frozen=True)
class Fault:
    """`kind` happens to `target` at a point or moment, and is mended after `seconds`.

    kill       SIGKILL, then started again
    away       SIGKILL of a role, started again only after the deadline it had to keep
    cut        the role's line to `detail` (rpc, ipfs, both) is down
    hold       the same, but nothing is refused: whatever is asked waits
    rpc        the role's Ethereum RPC answers as `detail` says
    lie        the role's IPFS daemon serves content as `detail` says
    full       no byte more can be written to the target's folder
    reorg      the transaction that was about to be sent, and all after it, is dropped later
    """

    kind: str
    target: str
    at: Point | Moment
    seconds: float = 0.5
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind}{detail} of {self.target}, {self.at}, for {self.seconds:.1f} s"


@dataclass(frozen=True)
class Schedule:
    """One history to be played."""

    seed: int
    chain: str  # "dev chain" or "anvil"
    participants: int
    has_standby: bool
    confirmations: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        standby = ", a standby" if self.has_standby else ""
        lines = [
            f"seed {self.seed}: {self.chain}, {self.participants} participants{standby}, "
            f"{self.confirmations} confirmations"
        ]
        return "\n  ".join([*lines, *map(str, self.faults)])

    @property
    def names(self) -> tuple[str, ...]:
        return NAMES[: self.participants]


@dataclass(frozen=True)
class Cell:
    """An entry of the catalogue. `who` is "participant", "aggregator", "ipfs" or "chain"."""

    kind: str
    who: str
    by: str
    point: str
    detail: str = ""
    chain: str = "dev chain"


_TRAINS: Final = ("fetching model", "trained", "before commit", "after commit", "committed")
_SHOWS: Final = ("pinned", "before reveal", "after reveal", "revealed")
_LEADS: Final = (
    "before openRound",
    "after openRound",
    "opened",
    "screening",
    "accepted",
    "averaging",
    "before propose",
    "after propose",
    "proposed",
    "before finalize",
    "after finalize",
    "finalized",
)
_RPC: Final = ("timeout", "http 500", "http 429", "error", "garbage", "stale")
_LIES: Final = ("flip", "truncate", "break_off", "drip", "stall", "lose", "endless")
_DROPPED: Final = {
    "openRound": "aggregator",
    "commit": "participant",
    "reveal": "participant",
    "propose": "aggregator",
    "finalize": "aggregator",
}


def catalogue() -> list[Cell]:
    """Return every fault at every boundary."""
    return [*_kills(), *_cuts(), *_rpc_faults(), *_ipfs_faults(), *_full_disks(), *_reorgs()]


def _kills() -> list[Cell]:
    cells = [Cell("kill", "participant", "participant", p) for p in (*_TRAINS, *_SHOWS)]
    cells += [Cell("kill", "aggregator", "aggregator", p) for p in _LEADS]
    for who in ("ipfs", "chain"):
        points = ("trained", "committed", "pinned", "after reveal")
        cells += [Cell("kill", who, "participant", p) for p in points]
        points = ("opened", "screening", "averaging", "before propose", "after propose", "proposed")
        cells += [Cell("kill", who, "aggregator", p) for p in points]
    cells += [Cell("kill", "chain", "participant", p) for p in ("before commit", "after commit")]
    cells += [Cell("kill", "chain", "aggregator", p) for p in ("before finalize", "after finalize")]
    cells += [Cell("away", "participant", "participant", p) for p in ("before commit", "committed")]
    cells += [Cell("away", "aggregator", "aggregator", p) for p in ("screening", "before propose")]
    return cells


def _cuts() -> list[Cell]:
    cells = []
    for kind in ("cut", "hold"):
        for line in ("rpc", "ipfs", "both"):
            for point in ("fetching model", "committed", "pinned", "after commit"):
                cells.append(Cell(kind, "participant", "participant", point, line))
            for point in ("screening", "averaging", "after propose", "proposed"):
                cells.append(Cell(kind, "aggregator", "aggregator", point, line))
    return cells


def _rpc_faults() -> list[Cell]:
    cells = []
    for detail in _RPC:
        for point in ("trained", "after commit", "committed", "before reveal", "revealed"):
            cells.append(Cell("rpc", "participant", "participant", point, detail))
        for point in ("opened", "screening", "after propose", "proposed", "finalized"):
            cells.append(Cell("rpc", "aggregator", "aggregator", point, detail))
    return cells


def _ipfs_faults() -> list[Cell]:
    cells = [Cell("lie", "aggregator", "aggregator", "screening", lie) for lie in _LIES]
    return cells + [
        Cell("lie", "participant", "participant", "fetching model", lie) for lie in _LIES
    ]


def _full_disks() -> list[Cell]:
    cells = [
        Cell("full", "participant", "participant", p)
        for p in ("fetching model", "trained", "committed")
    ]
    cells += [Cell("full", "aggregator", "aggregator", p) for p in ("screening", "averaging")]
    cells += [Cell("full", "ipfs", "participant", p) for p in ("trained", "committed")]
    cells += [Cell("full", "ipfs", "aggregator", "averaging")]
    cells += [Cell("full", "chain", "participant", p) for p in ("before commit", "before reveal")]
    return [*cells, Cell("full", "chain", "aggregator", "before propose")]


def _reorgs() -> list[Cell]:
    return [
        Cell("reorg", "chain", who, f"before {name}", name, chain)
        for name, who in _DROPPED.items()
        for chain in ("dev chain", "anvil", "anvil")
    ]


def make_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed, always the same."""
    rng = random.Random(seed)
    cells = catalogue()
    # A step that has no divisor in common with their number: neighbouring seeds differ in kind.
    cell = cells[seed * _coprime(len(cells)) % len(cells)]
    participants = rng.choice((2, 3, 3))
    chain = cell.chain
    confirmations = rng.choice((0, 0, 2)) if cell.kind == "reorg" else rng.choice((0, 0, 0, 1))
    faults = [_fault(cell, rng, participants)]
    extras = rng.choice((0, 0, 1, 1, 2, 3))
    for _ in range(extras):
        other = rng.choice([c for c in cells if _goes_with(c, chain, cell)])
        extra = _fault(other, rng, participants)
        if other.kind in ("kill", "cut", "rpc", "lie") and rng.random() < 0.5:
            moment = Moment(round(rng.uniform(0.0, 4.0), 2))
            extra = Fault(extra.kind, extra.target, moment, extra.seconds, extra.detail)
        faults.append(extra)
    away = any(f.kind == "away" and f.target == LEAD for f in faults)
    has_standby = away and rng.random() < 0.5
    return Schedule(seed, chain, participants, has_standby, confirmations, tuple(faults))


def _goes_with(other: Cell, chain: str, first: Cell) -> bool:
    """Whether a fault may be added: anvil keeps its chain in memory, and one deadline is enough."""
    if chain == "anvil" and (other.who == CHAIN or other.detail == "stale"):
        return False
    return other.kind not in ("away", "reorg") and other.chain == "dev chain"


def _fault(cell: Cell, rng: random.Random, participants: int) -> Fault:
    names = NAMES[:participants]
    who = rng.choice(names)
    by = who if cell.by == "participant" else LEAD
    target = {"participant": who, "aggregator": LEAD}.get(cell.who, cell.who)
    point = Point(by, cell.point, rng.choice((1, 2)))
    seconds = round(rng.uniform(0.2, 2.0), 2)
    return Fault(cell.kind, target, point, seconds, cell.detail)


def _coprime(count: int) -> int:
    import math

    return next(step for step in range(count * 5 // 13, count) if math.gcd(step, count) == 1)
