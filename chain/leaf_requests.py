"""Settles leaf requests that were not answered in time (docs/protocol.md §11)."""

from collections.abc import Iterator

from chain.events import AvailabilityChallenged, FederationEvent
from chain.federation import Federation
from chain.history import LeafRequests
from contracts.reverts import Reverted

# Still in time for an answer; or somebody was faster.
_NOTHING_TO_SETTLE = frozenset({"LeafNotLate", "NotDemanded"})


def settle_unanswered(
    federation: Federation, requests: LeafRequests
) -> Iterator[tuple[AvailabilityChallenged, tuple[FederationEvent, ...]]]:
    """Settle each request whose time is over, or whose proposal no longer stands.

    Yields the request and the federation's events: for the first that is late a ProposalRefuted,
    which leaves the others void.
    """
    for request in requests.values():
        try:
            receipt = federation.settle_availability(request.root, request.leaf)
        except Reverted as error:
            if error.name not in _NOTHING_TO_SETTLE:
                raise
        else:
            yield request, federation.events_in(receipt)
