"""What goes wrong in a schedule, and when: everything follows from its seed.

The catalogue is every fault at every boundary of a phase that it can hit. Schedule s begins with
entry s of the catalogue (so that as many schedules as there are entries cover all of it) and adds
up to three more, at boundaries or at random moments.
"""

import math
import random
from dataclasses import dataclass
from typing import Final

NAMES: Final = ("ann", "bob", "cem", "dan", "eve", "fay")
CHAIN: Final = "chain"
IPFS: Final = "ipfs"
LEAD: Final = "aggregator"
STANDBY: Final = "standby"
STAYS: Final = "stays"
CLEAR_SEEDS: Final = 460


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

    def is_at(self, who: str, name: str, round_id: int | None) -> bool:
        """Whether `who` gets here; transactions that name no round are taken for the one meant."""
        return (self.role, self.name) == (who, name) and round_id in (None, self.round_id)


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
    stop       SIGTERM of the chain, then started again from its state: anvil keeps no block of the
               last seconds through SIGKILL
    away       SIGKILL of a role, started again only after the deadline it had to keep; with the
               detail STAYS, once the masked sum it was silent about is known or given up
    cut        whatever goes between the role's host and that of `detail` (rpc, ipfs, both) is lost
    rpc        the role's Ethereum RPC answers as `detail` says
    omit       the role's Ethereum RPC leaves out what `detail` says
    lie        the role's IPFS daemon serves content as `detail` says
    drip       the role's Ethereum RPC or its IPFS daemon (`detail`) sends a byte every 50 ms
    full       no byte more can be written to the target's folder
    reorg      the transaction that was about to be sent, and all after it, is dropped later
    undo       the round's transaction `detail`, mined long before, and all after it, is dropped
    withhold   what the target published in the round is in no store any more
    """

    kind: str
    target: str
    at: Point | Moment
    seconds: float = 0.5
    detail: str = ""

    @property
    def point(self) -> str | None:
        """The name of its point; None for a fault at a random moment."""
        return self.at.name if isinstance(self.at, Point) else None

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.kind}{detail} of {self.target}, {self.at}, for {self.seconds:.1f} s"


@dataclass(frozen=True)
class Schedule:
    """One history to be played."""

    seed: int
    participants: int
    has_standby: bool
    confirmations: int
    faults: tuple[Fault, ...]
    is_masked: bool = False

    def __str__(self) -> str:
        standby = ", a standby" if self.has_standby else ""
        masked = "masked, " if self.is_masked else ""
        lines = [
            f"seed {self.seed}: {masked}{self.participants} participants{standby}, "
            f"{self.confirmations} confirmations"
        ]
        return "\n  ".join([*lines, *map(str, self.faults)])

    @property
    def names(self) -> tuple[str, ...]:
        return NAMES[: self.participants]

    @property
    def can_miss_deadlines(self) -> bool:
        return any(fault.kind in ("away", "undo") for fault in self.faults)

    @property
    def aggregators(self) -> tuple[str, ...]:
        return (LEAD, STANDBY) if self.has_standby else (LEAD,)

    @property
    def roles(self) -> tuple[str, ...]:
        return (*self.names, *self.aggregators)


@dataclass(frozen=True)
class Cell:
    """An entry of the catalogue. `who` is "participant", "aggregator", "ipfs" or "chain".

    Without a `point` it happens at a random moment.
    """

    kind: str
    who: str
    by: str
    point: str
    detail: str = ""


_TRAINS: Final = ("fetching model", "trained", "before commit", "after commit", "committed")
_SHOWS: Final = ("pinned", "before reveal", "after reveal", "revealed")
_LEADS: Final = (
    "before openRound",
    "after openRound",
    "opened",
    "before fixSeed",
    "after fixSeed",
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
RPC: Final = ("timeout", "http 500", "http 429", "error", "garbage", "stale")
LIES: Final = ("flip", "truncate", "break_off", "drip", "stall", "lose", "endless")
OMITS: Final = (
    "omits logs",
    "omits the last log",
    "omits receipts",
    "omits transactions",
    "omits blocks",
    "omits values",
)
_DRIPS: Final = ("rpc drips", "rpc drips headers", "ipfs drips", "ipfs drips headers")
_LONG: Final = ("omit", "drip")  # long enough for several requests to run out of time
_DROPPED: Final = {
    "openRound": "aggregator",
    "fixSeed": "aggregator",
    "commit": "participant",
    "reveal": "participant",
    "propose": "aggregator",
    "finalize": "aggregator",
}


def catalogue() -> list[Cell]:
    """Return every fault at every boundary."""
    faults = [*_kills(), *_cuts(), *_rpc_faults(), *_ipfs_faults(), *_full_disks(), *_reorgs()]
    return [*faults, *_at_random(), *_omissions(), *_drips()]


def _kills() -> list[Cell]:
    cells = _at("kill", "participant", "participant", *_TRAINS, *_SHOWS)
    cells += _at("kill", "aggregator", "aggregator", *_LEADS)
    for kind, who in (("kill", IPFS), ("stop", CHAIN)):
        cells += _at(kind, who, "participant", "trained", "committed", "pinned", "after reveal")
        cells += _at(kind, who, "aggregator", "opened", "screening", "averaging")
        cells += _at(kind, who, "aggregator", "before propose", "after propose", "proposed")
    cells += _at("stop", CHAIN, "participant", "before commit", "after commit")
    cells += _at("stop", CHAIN, "aggregator", "before finalize", "after finalize")
    points = ("fetching model", "before commit", "committed", "before reveal")
    cells += 2 * _at("away", "participant", "participant", *points)
    return cells + 2 * _at(
        "away", "aggregator", "aggregator", "opened", "screening", "before propose"
    )


def _at(kind: str, who: str, by: str, *points: str) -> list[Cell]:
    return [Cell(kind, who, by, point) for point in points]


def _cuts() -> list[Cell]:
    return [
        Cell("cut", who, who, point, service)
        for who, points in {
            "participant": ("fetching model", "committed", "pinned", "after commit"),
            "aggregator": ("screening", "averaging", "after propose", "proposed"),
        }.items()
        for point in points
        for service in ("rpc", "ipfs", "both")
    ]


def _rpc_faults() -> list[Cell]:
    return [
        Cell("rpc", who, who, point, detail)
        for who, points in {
            "participant": ("trained", "after commit", "committed", "before reveal", "revealed"),
            "aggregator": ("opened", "screening", "after propose", "proposed", "finalized"),
        }.items()
        for point in points
        for detail in RPC
    ]


def _omissions() -> list[Cell]:
    return 2 * [
        Cell("omit", who, who, point, detail)
        for who, points in {
            "participant": ("trained", "after commit", "committed", "before reveal", "revealed"),
            "aggregator": ("opened", "screening", "after propose", "proposed", "finalized"),
        }.items()
        for point in points
        for detail in OMITS
    ]


def _drips() -> list[Cell]:
    return 3 * [
        Cell("drip", who, who, point, detail)
        for who, points in {
            "participant": ("fetching model", "trained", "committed", "pinned", "after reveal"),
            "aggregator": ("opened", "screening", "averaging", "before propose", "proposed"),
        }.items()
        for point in points
        for detail in _DRIPS
    ]


def _ipfs_faults() -> list[Cell]:
    return [
        Cell("lie", who, who, point, lie)
        for who, point in (("aggregator", "screening"), ("participant", "fetching model"))
        for lie in LIES
    ]


def _full_disks() -> list[Cell]:
    return [
        *_at("full", "participant", "participant", "fetching model", "trained", "committed"),
        *_at("full", "aggregator", "aggregator", "screening", "averaging"),
        *_at("full", IPFS, "participant", "trained", "committed"),
        *_at("full", IPFS, "aggregator", "averaging"),
    ]


def _reorgs() -> list[Cell]:
    return [
        Cell("reorg", CHAIN, who, f"before {name}", name)
        for name, who in _DROPPED.items()
        for _ in range(3)
    ]


def _at_random() -> list[Cell]:
    roles = ("participant", "aggregator")
    cells = [Cell("kill", who, who, "") for who in (*roles, IPFS) for _ in range(3)]
    cells += 3 * [Cell("stop", CHAIN, CHAIN, "")]
    cells += [Cell("cut", who, who, "", line) for who in roles for line in ("rpc", "both")]
    cells += [Cell("rpc", who, who, "", detail) for who in roles for detail in ("timeout", "stale")]
    return [*cells, *(Cell("lie", who, who, "", lie) for who in roles for lie in ("flip", "lose"))]


def make_clear_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed below CLEAR_SEEDS, always the same."""
    rng = random.Random(seed)
    cells = catalogue()
    first = cells[dealt(seed, len(cells))]
    participants = rng.choice((2, 3, 3))
    confirmations = rng.choice((0, 0, 2)) if first.kind == "reorg" else rng.choice((0, 0, 0, 1))
    others = [cell for cell in cells if _goes_with(cell, first)]
    kinds = sorted({cell.kind for cell in others})
    drawn = [first]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        kind = rng.choice(kinds)
        drawn.append(rng.choice([cell for cell in others if cell.kind == kind]))
    faults = tuple(_fault(cell, rng, participants) for cell in drawn)
    is_lead_away = any(f.kind == "away" and f.target == LEAD for f in faults)
    has_standby = is_lead_away and rng.random() < 0.5
    return Schedule(seed, participants, has_standby, confirmations, faults)


def _goes_with(other: Cell, first: Cell) -> bool:
    """Whether a fault may be added to the first of a schedule."""
    if other.kind == "stop" and first.kind == "reorg":  # what is dropped is counted in blocks
        return False
    if other.kind == "away":  # a deadline that passes is no history to be undone
        return other.who == "participant" and first.kind == "away"
    return other.kind != "reorg"


def _fault(cell: Cell, rng: random.Random, participants: int) -> Fault:
    who = rng.choice(NAMES[:participants])
    by = who if cell.by == "participant" else LEAD
    target = {"participant": who, "aggregator": LEAD}.get(cell.who, cell.who)
    point = Point(by, cell.point, rng.choice((1, 2)))
    moment = Moment(round(rng.uniform(0.0, 4.0), 2))
    seconds = round(rng.uniform(0.2, 2.0) + 3.0 * (cell.kind in _LONG), 2)
    return Fault(cell.kind, target, point if cell.point else moment, seconds, cell.detail)


def dealt(number: int, count: int) -> int:
    """Return which of `count` entries a seed begins with: neighbouring seeds differ in kind."""
    # By a step that has no divisor in common with their number.
    step = next(step for step in range(count * 5 // 13, count) if math.gcd(step, count) == 1)
    return number * step % count
