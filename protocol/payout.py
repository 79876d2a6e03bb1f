"""How a round's reward is shared out (docs/protocol.md §9).

Golden vectors: tests/vectors/payouts.json.
"""

from collections.abc import Sequence

from protocol.types import Address, TokenUnits
from protocol.verdict import Verdict


def compute_payouts(reward: TokenUnits, verdicts: Sequence[Verdict]) -> dict[Address, TokenUnits]:
    """Return each accepted participant's reward · weight·score // Σ(weight·score), in token units.

    Rounded down, so the sum never exceeds `reward`; what is left, less than one unit for each
    participant, stays in escrow. When no share is positive, everybody gets 0.
    """
    shares = {v.participant: v.weight * v.score for v in verdicts if v.is_accepted}
    total = sum(shares.values())
    if total == 0:
        return {participant: TokenUnits(0) for participant in shares}
    return {who: TokenUnits(reward * share // total) for who, share in shares.items()}
