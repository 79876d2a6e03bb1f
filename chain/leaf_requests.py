"""Settles overdue leaf requests (docs/protocol.md §11)."""

from collections.abc import Iterator

from chain.events import FederationEvent, LeafRequested
from chain.federation import Federation
from chain.history import LeafRequests
from contracts.reverts import Reverted

# In this order: an answer may still come in time; somebody else has settled or answered it.
_NOTHING_TO_SETTLE = frozenset({"LeafNotLate", "NotRequested"})


def settle_unanswered(
    federation: Federation, requests: LeafRequests
) -> Iterator[tuple[LeafRequested, tuple[FederationEvent, ...]]]:
    """Settle each request that is overdue, or whose proposal no longer stands.

    Yields each settled request with the federation's events. The first overdue request refutes the
    proposal, which makes the others void.
    """
    for request in requests.values():
        # Tried without a check of our own: the contract decides what is overdue, by its block's
        # time.
        try:
            receipt = federation.settle_request(request.root, request.leaf)
        except Reverted as error:
            if error.name not in _NOTHING_TO_SETTLE:
                raise
        else:
            yield request, federation.events_in(receipt)
