"""The secrets of a silent member of the set, put together from shares (docs/protocol.md §13)."""

from chain.history import RoundHistory
from chain.records import Secrets
from protocol.bundle import Bundle, commit
from protocol.reveal import Reveal
from protocol.shares import default_threshold
from protocol.types import Address


def recover_secrets(told: RoundHistory, silent: Reveal, bundle: Bundle) -> Secrets | None:
    """Return a silent member's secrets; None while there are too few true shares.

    A share counts when it is the one that the member's own bundle promises. Raises
    Rejected(Check.BUNDLE) when enough of those are not of what the member committed to.
    """
    helped: dict[Address, tuple[bytes, ...]] = {}
    for event in told.masking.assisted:
        if event.silent == silent.participant and event.helper in bundle.peers:
            helped.setdefault(event.helper, event.shares)
    threshold = default_threshold(len(bundle.peers))
    numbers = [0, *(1 + bundle.peers.index(who) for who in told.outside)]
    seeds = []
    for place, number in enumerate(numbers):
        shares = {
            helper: given[place]
            for helper, given in helped.items()
            if commit(given[place]) == bundle.share_digests[bundle.peers.index(helper)][number]
        }
        if len(shares) < threshold:
            return None
        chosen = dict(list(shares.items())[:threshold])
        seeds.append(bundle.recover_secret(number, chosen, silent.participant))
    return Secrets(silent, told.committers, bundle.commitments, tuple(seeds))
