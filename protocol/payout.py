"""What a round pays: a posted price for each accepted update (docs/protocol.md §9).

Golden vectors: tests/vectors/payouts.json.
"""

from collections.abc import Sequence

from protocol.types import FULL_BASIS_POINTS, Address, TokenUnits
from protocol.verdict import Verdict


def compute_payouts(
    update_reward: TokenUnits, weight_cap: int, verdicts: Sequence[Verdict]
) -> dict[Address, TokenUnits]:
    """Return update_reward · weight · score // (weight_cap · 10,000) of each accepted participant.

    In token units, rounded down. It does not depend on who else takes part.
    """
    full = weight_cap * FULL_BASIS_POINTS
    return {
        v.participant: TokenUnits(update_reward * v.weight * v.score // full)
        for v in verdicts
        if v.is_averaged
    }


def compute_half_price(update_reward: TokenUnits, weight_cap: int, weight: int) -> TokenUnits:
    """Return update_reward · weight // (2 · weight_cap): what a voided masked round pays (§13)."""
    return TokenUnits(update_reward * weight // (2 * weight_cap))


def compute_fee(
    aggregator_fee: TokenUnits, verdicts: Sequence[Verdict], revealed_weight: int
) -> TokenUnits:
    """Return the aggregator's fee, scaled by averaged over revealed weight and rounded down.

    `revealed_weight` is Σ min(examples, weight cap) over all reveals of the round; where nothing
    was revealed, there is no fee.
    """
    if not revealed_weight:
        return TokenUnits(0)
    accepted = sum(v.weight for v in verdicts)
    return TokenUnits(aggregator_fee * accepted // revealed_weight)
