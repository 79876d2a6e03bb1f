"""What a federation's events tell of each round."""

from collections.abc import Sequence
from dataclasses import dataclass

from chain.events import (
    Abandoned,
    Committed,
    FederationEvent,
    Finalized,
    Joined,
    Left,
    Paid,
    Penalized,
    ProposalRefuted,
    Proposed,
    Revealed,
    RoundEvent,
    RoundOpened,
)
from chain.rounds import standing_proposal
from protocol.errors import Unavailable
from protocol.reveal import Reveal
from protocol.types import Address, RoundId


@dataclass(frozen=True)
class RoundHistory:
    """A round that was opened, as the events tell it."""

    round_id: RoundId
    opened: RoundOpened
    committed: tuple[Committed, ...]
    revealed: tuple[Revealed, ...]
    proposed: Proposed | None
    finalized: Finalized | None
    paid: tuple[Paid, ...]
    refuted: tuple[ProposalRefuted, ...]
    abandoned: Abandoned | None

    def events(self) -> list[RoundEvent]:
        """All events of the round that are told here, in the order of the chain."""
        held = [value if isinstance(value, tuple) else (value,) for value in vars(self).values()]
        events = [event for each in held for event in each if isinstance(event, RoundEvent)]
        return sorted(events, key=lambda event: (event.block_number, event.log_index))

    @property
    def ended(self) -> bool:
        """Whether nothing can be added to the round any more, but a penalty."""
        return self.finalized is not None or self.abandoned is not None

    def reveals(self) -> list[Reveal]:
        """The reveals in the order in which their participants committed."""
        by_participant = {e.participant: e for e in self.revealed}
        return [
            Reveal(e.participant, r.root, r.manifest, r.examples)
            for e in self.committed
            if (r := by_participant.get(e.participant)) is not None
        ]


def round_histories(events: Sequence[FederationEvent]) -> list[RoundHistory]:
    """Return every round that was opened, in order; of several proposals the last one stands.

    A proposal that was refuted does not count. Unavailable when a round's opening is missing.
    """
    rounds: dict[RoundId, list[RoundEvent]] = {}
    for event in events:
        if isinstance(event, RoundEvent) and event.round:
            rounds.setdefault(event.round, []).append(event)
    return [_history(round_id, of_round) for round_id, of_round in sorted(rounds.items())]


def active_at_opening(events: Sequence[FederationEvent]) -> dict[RoundId, frozenset[Address]]:
    """Return who could have been drawn for each round: joined before, not left, not penalized."""
    active: set[Address] = set()
    found: dict[RoundId, frozenset[Address]] = {}
    for event in events:
        if isinstance(event, Joined):
            active.add(event.participant)
        elif isinstance(event, Left | Penalized):
            active.discard(event.participant)
        elif isinstance(event, RoundOpened):
            found[event.round] = frozenset(active)
    return found


def _history(round_id: RoundId, events: Sequence[RoundEvent]) -> RoundHistory:
    standing = standing_proposal(events)
    settled = [e for e in events if isinstance(e, Finalized)]
    ended = [e for e in events if isinstance(e, Abandoned)]
    opened = [e for e in events if isinstance(e, RoundOpened)]
    if not opened:
        raise Unavailable(
            f"the node does not have all logs: none says that round {round_id} was opened"
        )
    return RoundHistory(
        round_id,
        opened[0],
        tuple(e for e in events if isinstance(e, Committed)),
        tuple(e for e in events if isinstance(e, Revealed)),
        standing,
        settled[0] if settled else None,
        tuple(e for e in events if isinstance(e, Paid)),
        tuple(e for e in events if isinstance(e, ProposalRefuted)),
        ended[0] if ended else None,
    )
