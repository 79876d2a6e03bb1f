"""The division of a round's reward (docs/protocol.md §9).

Golden vectors: tests/vectors/payouts.json.
"""

from collections.abc import Sequence

from protocol.types import Address, TokenUnits
from protocol.verdict import Verdict


def compute_payouts(reward: TokenUnits, verdicts: Sequence[Verdict]) -> dict[Address, TokenUnits]:
    """Return each accepted participant's reward · weight·score // Σ(weight·score), in token units.

    Shares are rounded down, so their sum never exceeds `reward`; the remainder, less than one unit
    per participant, stays in escrow. When no share is positive, all get 0.
    """
    shares = {v.participant: v.weight * v.score for v in verdicts if v.is_accepted}
    total = sum(shares.values())
    if total == 0:  # all scored 0: the contract pays nobody either
        return {participant: TokenUnits(0) for participant in shares}
    return {who: TokenUnits(reward * share // total) for who, share in shares.items()}
