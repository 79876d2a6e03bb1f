"""What each member of a federation has at stake, earned and lost, and each round in figures.

    totals = Totals()
    totals.follow(history)          # reads only what is new since the last call
    totals.people[address].earned

All of it follows from events, so it costs no question to the node. A round that is over is counted
once, however often its page is asked for.
"""

from dataclasses import dataclass, field
from typing import Any

from chain.events import (
    AggregatorSlashed,
    Committed,
    Finalized,
    Joined,
    Paid,
    Penalized,
    Revealed,
    StakeReleased,
    Withdrawn,
)
from chain.history import History, RoundHistory
from chain.records import Seats
from protocol.types import Address, Digest, RoundId


@dataclass
class Person:
    """One account's figures: amounts in token units, the rest counts of rounds.

    `earned` are prices of updates, `fees` an aggregator's; `lost` are penalties and bonds.
    """

    stake: int = 0
    earned: int = 0
    fees: int = 0
    withdrawn: int = 0
    lost: int = 0
    committed: int = 0
    revealed: int = 0
    paid: int = 0
    led: int = 0


@dataclass(frozen=True)
class RoundFigures:
    """One round in figures; amounts in token units."""

    round_id: RoundId
    asked: int
    committed: int
    revealed: int
    accepted: int
    rejected: int
    paid: int
    fee: int
    refuted: int
    requested: int

    @classmethod
    def of(cls, told: RoundHistory, seats: Seats) -> "RoundFigures":
        """Return the figures of a round."""
        verdicts = told.proposed.verdicts if told.proposed else ()
        accepted = sum(verdict.is_accepted for verdict in verdicts)
        return cls(
            told.round_id,
            asked=sum(told.asks(who, seats) for who in told.members),
            committed=len(told.committed),
            revealed=len(told.revealed),
            accepted=accepted,
            rejected=len(verdicts) - accepted,
            paid=sum(event.amount for event in told.paid),
            fee=told.finalized.fee if told.finalized else 0,
            refuted=len(told.refuted),
            requested=len(told.requested),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        figures = dict(vars(self))
        return {"round": figures.pop("round_id"), **figures}


@dataclass
class Totals:
    """The figures of all accounts and rounds; `follow` brings them up to a history."""

    people: dict[Address, Person] = field(default_factory=dict)
    _last: tuple[Digest, int] | None = None
    _count: int = 0
    _rounds: dict[RoundId, tuple[RoundHistory, RoundFigures]] = field(default_factory=dict)

    def follow(self, history: History) -> None:
        """Count the events that are new; all of them again after a reorganisation."""
        events = history.events
        goes_on = len(events) >= self._count and (
            not self._count or events[self._count - 1].key == self._last
        )
        if not goes_on:
            self.people, self._count, self._last, self._rounds = {}, 0, None, {}
        for event in events[self._count :]:
            self._book(event)
        self._count, self._last = len(events), events[-1].key if events else None

    def figures(self, told: RoundHistory, seats: Seats) -> RoundFigures:
        """Return the figures of a round, counted once as long as its history stays the same."""
        # By identity: a history that goes on shares the rounds that did not change.
        known = self._rounds.get(told.round_id)
        if known is None or known[0] is not told:
            known = self._rounds[told.round_id] = told, RoundFigures.of(told, seats)
        return known[1]

    def _book(self, event: object) -> None:
        match event:
            case Joined():
                self._of(event.participant).stake += event.amount
            case StakeReleased():
                self._of(event.participant).stake -= event.amount
            case Penalized():
                person = self._of(event.participant)
                person.stake -= event.amount
                person.lost += event.amount
            case AggregatorSlashed():
                self._of(event.aggregator).lost += event.amount
            case Committed():
                self._of(event.participant).committed += 1
            case Revealed():
                self._of(event.participant).revealed += 1
            case Paid():
                person = self._of(event.participant)
                person.earned += event.amount
                person.paid += 1
            case Finalized():
                person = self._of(event.aggregator)
                person.fees += event.fee
                person.led += 1
            case Withdrawn():
                self._of(event.account).withdrawn += event.amount

    def _of(self, who: Address) -> Person:
        return self.people.setdefault(who, Person())
