"""Whether a contract's terms are those of its spec (docs/protocol.md §10, step 1).

The contract has only the spec's digest, and its own copies of what it computes with.
"""

from typing import Final, Literal

from chain.records import Terms
from contracts.enums import Privacy, Scoring
from protocol.errors import Misconfigured
from protocol.spec import Spec

SCORING_NAMES: Final[dict[Scoring, Literal["equal", "heldOut"]]] = {
    Scoring.EQUAL: "equal",
    Scoring.HELD_OUT: "heldOut",
}
"""What the spec and the configuration call the contract's ways of scoring."""

PRIVACY_NAMES: Final[dict[Privacy, Literal["clear", "masked"]]] = {
    Privacy.CLEAR: "clear",
    Privacy.MASKED: "masked",
}
"""What they call whether updates can be read."""


def disagreements(terms: Terms, spec: Spec) -> list[str]:
    """Return one line for each term that the contract has otherwise than the spec."""
    identity, encoding = terms.identity, spec.encoding
    pairs = {
        "leaves": (identity.leaf_count, spec.leaf_count),
        "depth": (identity.tree_depth, spec.tree_depth),
        "grid": (identity.grid_bits, encoding.grid_bits),
        "rounds per bit of the grid": (identity.grid_every, encoding.grid_every),
        "zero root": (identity.zero_root.hex(), spec.zero_root.hex()),
        "scoring": (SCORING_NAMES[terms.rules.scoring], spec.scoring),
        "privacy": (PRIVACY_NAMES[terms.rules.privacy], spec.privacy),
    }
    return [
        f"{name}: {found} in the contract, {expected} by the spec"
        for name, (found, expected) in pairs.items()
        if found != expected
    ]


def require_agreement(terms: Terms, spec: Spec) -> None:
    """Raise Misconfigured when the contract's terms are not those of its spec.

    No proof of a leaf would fit then, or every average be wrong.
    """
    if wrong := disagreements(terms, spec):
        raise Misconfigured(f"the contract disagrees with its spec: {'; '.join(wrong)}")
