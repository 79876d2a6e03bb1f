"""What goes wrong in a schedule of masked rounds, and when: everything follows from its seed.

As in tests/faults/schedule.py. An entry of this catalogue may have several faults that belong
together: two who are silent, or one who is while another is killed.
"""

import random
from dataclasses import dataclass, replace
from typing import Final

from tests.faults.schedule import (
    CHAIN,
    CLEAR_SEEDS,
    IPFS,
    LEAD,
    LIES,
    NAMES,
    OMITS,
    RPC,
    STAYS,
    Fault,
    Point,
    Schedule,
    dealt,
)

MASKED_SEEDS: Final = 240
_PLACES: Final = tuple(f"p{place}" for place in range(len(NAMES)))

_TRAINS: Final = (
    "fetching model",
    "trained",
    "before commitMasked",
    "after commitMasked",
    "committed",
)
_SHOWS: Final = ("pinned", "before revealMasked", "after revealMasked", "revealed")
_OPENS: Final = ("before unmask", "after unmask", "unmasked")
_LEADS: Final = (
    "before openRound",
    "after openRound",
    "opened",
    "before fixSeed",
    "after fixSeed",
    "screening",
    "accepted",
    "before sealSet",
    "after sealSet",
    "sealed",
    "before fixSketch",
    "after fixSketch",
    "asking to unmask",
    "averaging",
    "before propose",
    "after propose",
    "proposed",
    "before finalize",
    "after finalize",
    "finalized",
)
_DROPPED: Final = {
    "commitMasked": "p0",
    "revealMasked": "p0",
    "sealSet": LEAD,
    "fixSketch": LEAD,
    "unmask": "p0",
    "propose": LEAD,
    "finalize": LEAD,
}


@dataclass(frozen=True)
class Plan:
    """An entry of the catalogue: faults of one round, and the federation that they take.

    Participants are p0, p1, … until a schedule says who they are.
    """

    participants: int
    faults: tuple[Fault, ...]
    has_standby: bool = False

    @property
    def kind(self) -> str:
        return self.faults[0].kind


def masked_catalogue() -> list[Plan]:
    """Return every fault at every boundary, and who drops out of every phase."""
    return [*_kills(), *_drop_outs(), *_leads_away(), *_reorgs(), *_undone(), *_lines(), *_disks()]


def _at(kind: str, target: str, by: str, *points: str, detail: str = "") -> list[Fault]:
    return [Fault(kind, target, Point(by, point, 1), detail=detail) for point in points]


def _alone(faults: list[Fault]) -> list[Plan]:
    return [Plan(4, (fault,)) for fault in faults]


def _gone(point: str, *places: str, detail: str = "") -> tuple[Fault, ...]:
    """Who is away from a point on, past the deadline of what it had to do there."""
    return tuple(Fault("away", who, Point(who, point, 1), detail=detail) for who in places)


_ONE_SILENT: Final = _gone("revealed", "p3", detail=STAYS)
_TWO_SILENT: Final = _gone("revealed", "p2", "p3", detail=STAYS)  # of four: too many


def _kills() -> list[Plan]:
    faults = _at("kill", "p0", "p0", *_TRAINS, *_SHOWS, *_OPENS)
    faults += _at("kill", LEAD, LEAD, *_LEADS)
    faults += _at("kill", IPFS, "p0", "pinned", "revealed", "unmasked")
    faults += _at("kill", IPFS, LEAD, "screening", "sealed", "averaging", "proposed")
    points = "before commitMasked", "committed", "pinned", "before unmask", "unmasked"
    faults += _at("stop", CHAIN, "p0", *points)
    points = "screening", "sealed", "before propose", "after propose", "before finalize"
    faults += _at("stop", CHAIN, LEAD, *points)
    helping = _at("kill", "p0", "p0", "before assist", "after assist", "assisted")
    helping += _at("kill", LEAD, LEAD, "before unmask", "after unmask", "recovered")
    ending = _at("kill", LEAD, LEAD, "before voidRound", "after voidRound", "voided")
    ending += _at("kill", "p0", "p0", "before voidRound", "after voidRound")
    return [
        *_alone(faults),
        *(Plan(4, (fault, *_ONE_SILENT)) for fault in helping),
        *(Plan(4, (fault, *_TWO_SILENT)) for fault in ending),
    ]


def _drop_outs() -> list[Plan]:
    """One, several, and too many for the round to go on, at each phase.

    Three must commit and reveal, and of six who committed, four peers recover a silent one.
    """
    plans = []
    for point in ("fetching model", "trained", "before commitMasked"):
        plans += [Plan(4, _gone(point, "p0")), Plan(5, _gone(point, "p0", "p1"))]
        plans += [Plan(4, _gone(point, "p0", "p1"))]
    # The latter two are late: their masked bytes are there, and their reveals are not.
    for point in ("committed", "pinned", "before revealMasked"):
        plans += [Plan(4, _gone(point, "p0")), Plan(6, _gone(point, "p0", "p1"))]
        plans += [Plan(4, _gone(point, "p0", "p1"))]
    for participants, count in ((4, 1), (6, 2), (4, 2)):
        plans.append(Plan(participants, _withheld(*_PLACES[:count])))
    for point in ("revealed", "before unmask"):
        for participants, count in ((4, 1), (6, 2), (4, 2), (6, 3)):
            plans.append(Plan(participants, _gone(point, *_PLACES[:count], detail=STAYS)))
        plans += [Plan(4, _gone(point, "p0")), Plan(4, _gone(point, "p0", "p1"))]
    silent = _gone("revealed", "p5", detail=STAYS)
    return [
        *plans,
        Plan(6, (*_gone("trained", "p0"), *_gone("pinned", "p1"))),
        Plan(6, (*_gone("trained", "p0"), *silent)),
        Plan(6, (*_gone("committed", "p0"), *silent)),
        Plan(6, (*_withheld("p0"), *silent)),
    ]


def _withheld(*places: str) -> tuple[Fault, ...]:
    return tuple(Fault("withhold", who, Point(LEAD, "screening", 1)) for who in places)


def _leads_away() -> list[Plan]:
    points = ("opened", "screening", "before sealSet", "sealed", "asking to unmask")
    away = _at("away", LEAD, LEAD, *points, "averaging", "before propose")
    plans = [Plan(4, (fault,), stands) for fault in away for stands in (True, True, False)]
    silent = [Plan(4, (away[place], *_ONE_SILENT), has_standby=True) for place in (3, 4)]
    return [*plans, *silent]


def _reorgs() -> list[Plan]:
    faults = [
        Fault("reorg", CHAIN, Point(by, f"before {name}", 1), detail=name)
        for name, by in _DROPPED.items()
        for _ in range(3)
    ]
    assist = Fault("reorg", CHAIN, Point("p0", "before assist", 1), detail="assist")
    void = Fault("reorg", CHAIN, Point(LEAD, "before voidRound", 1), detail="voidRound")
    helping, ending = Plan(4, (assist, *_ONE_SILENT)), Plan(4, (void, *_TWO_SILENT))
    return [*_alone(faults), *2 * [helping], *2 * [ending]]


def _undone() -> list[Plan]:
    """Secrets are opened, and then the chain no longer knows what for."""
    opened = [Point("p0", "unmasked", 1), Point(LEAD, "averaging", 1)]
    faults = [Fault("undo", CHAIN, at, detail="sealSet") for at in opened for _ in range(3)]
    for name in ("revealMasked", "commitMasked"):
        faults += [Fault("undo", CHAIN, at, detail=name) for at in opened]
    # The next seal cannot name who is gone, so that it is another set.
    again = faults[0], Fault("withhold", "p3", opened[0])
    return [*_alone(faults), *3 * [Plan(5, (*again, *_ONE_SILENT))]]


def _lines() -> list[Plan]:
    """What a role hears of chain and store, and what it does not."""
    faults = []
    for service in ("rpc", "ipfs", "both"):
        points = "committed", "pinned", "revealed", "before unmask"
        faults += _at("cut", "p0", "p0", *points, detail=service)
        points = "screening", "sealed", "averaging", "proposed"
        faults += _at("cut", LEAD, LEAD, *points, detail=service)
    for how in RPC:
        faults += _at("rpc", "p0", "p0", "revealed", detail=how)
        faults += _at("rpc", LEAD, LEAD, "sealed", detail=how)
    for how in OMITS:
        faults += _at("omit", "p0", "p0", "revealed", "unmasked", detail=how)
        faults += _at("omit", LEAD, LEAD, "sealed", "proposed", detail=how)
    for how in LIES:
        faults += _at("lie", "p0", "p0", "revealed", detail=how)
        faults += _at("lie", LEAD, LEAD, "screening", detail=how)
    return _alone(faults)


def _disks() -> list[Plan]:
    faults = _at("full", "p0", "p0", "trained", "committed", "revealed")
    faults += _at("full", LEAD, LEAD, "screening", "averaging")
    faults += _at("full", IPFS, "p0", "committed", "revealed")
    return _alone(faults)


def make_masked_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed from CLEAR_SEEDS on, always the same."""
    rng = random.Random(seed)
    plans = masked_catalogue()
    first = plans[dealt(seed - CLEAR_SEEDS, len(plans))]
    others = [plan for plan in plans if _goes_with(plan, first)]
    kinds = sorted({plan.kind for plan in others})
    drawn = [first]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        kind = rng.choice(kinds)
        drawn.append(rng.choice([plan for plan in others if plan.kind == kind]))
    names = rng.sample(NAMES[: first.participants], first.participants)
    faults = [fault for plan in drawn for fault in _played(plan, rng, names)]
    confirmations = rng.choice((0, 0, 0, 1))
    stands = first.has_standby
    count = first.participants
    return Schedule(seed, count, stands, confirmations, tuple(faults), is_masked=True)


def _goes_with(other: Plan, first: Plan) -> bool:
    """Whether a plan may be added to the first of a schedule."""
    if other.kind == "stop" and first.kind in ("reorg", "undo"):  # which count blocks
        return False
    return len(other.faults) == 1 and other.kind not in ("away", "withhold", "reorg", "undo")


def _played(plan: Plan, rng: random.Random, names: list[str]) -> list[Fault]:
    """Return a plan's faults as somebody's, in one of the rounds, for some time."""
    round_id = rng.choice((1, 2))
    who = dict(zip(_PLACES, names, strict=False))
    faults = []
    for fault in plan.faults:
        assert isinstance(fault.at, Point)
        at = replace(fault.at, role=who.get(fault.at.role, fault.at.role), round_id=round_id)
        seconds = round(rng.uniform(0.2, 2.0) + 3.0 * (fault.kind == "omit"), 2)
        target = who.get(fault.target, fault.target)
        faults.append(replace(fault, target=target, at=at, seconds=seconds))
    return faults
