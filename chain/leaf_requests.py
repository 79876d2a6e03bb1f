"""Demands for leaves, read from a round's events (docs/protocol.md §11)."""

from collections.abc import Iterator, Sequence

from chain.events import (
    AvailabilityChallenged,
    DepositReturned,
    FederationEvent,
    LeafPosted,
    ProposalRefuted,
    Proposed,
)
from chain.federation import Federation
from chain.reverts import Reverted
from protocol.types import Digest

# Still in time for an answer; or somebody was faster.
_NOTHING_TO_SETTLE = frozenset({"LeafNotLate", "NotDemanded"})

Demands = dict[tuple[Digest, int], AvailabilityChallenged]


def open_demands(events: Sequence[FederationEvent]) -> Demands:
    """Return the demands among one round's events that were neither answered nor settled.

    By root and number of the leaf. Those about a refuted proposal are among them; none can be
    answered but those `since_proposal`.
    """
    found: Demands = {}
    for event in events:
        match event:
            case AvailabilityChallenged():
                found[event.root, event.leaf] = event
            case LeafPosted() | DepositReturned():
                found.pop((event.root, event.leaf), None)
    return found


def since_proposal(events: Sequence[FederationEvent]) -> Sequence[FederationEvent]:
    """Return those of one round's events that came after its newest proposal, if that stands."""
    since = len(events)
    for index, event in enumerate(events):
        if isinstance(event, Proposed):
            since = index + 1
        elif isinstance(event, ProposalRefuted):
            since = len(events)
    return events[since:]


def settle_unanswered(
    federation: Federation, demands: Demands
) -> Iterator[tuple[AvailabilityChallenged, tuple[FederationEvent, ...]]]:
    """Settle each demand whose time is over, or whose proposal no longer stands.

    Yields the demand and what the federation said to it: of the first that is late, a
    ProposalRefuted, which leaves the others void.
    """
    for demand in demands.values():
        try:
            receipt = federation.settle_availability(demand.root, demand.leaf)
        except Reverted as error:
            if error.name not in _NOTHING_TO_SETTLE:
                raise
        else:
            yield demand, federation.events_in(receipt)
