"""An aggregator's verdict on each reveal, and the hash the contract keeps (docs/protocol.md §8).

Golden vectors: tests/vectors/verdicts.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from protocol.checks import ACCEPTED
from protocol.types import FULL_BASIS_POINTS, Address, BasisPoints, Digest

FULL_SCORE: Final[BasisPoints] = FULL_BASIS_POINTS


@dataclass(frozen=True)
class Verdict:
    """One reveal's outcome: `reason` is 0 when accepted, else the number of the failed check.

    `revealed` is the first 30 bytes of the update digest (`protocol.commitment`): a verdict stands
    for what was revealed and nothing else. An accepted update has weight 1 or more and score
    10,000; a rejected one has weight and score 0. One that was sealed into a masked sum stays in
    the average whatever is found later: then it has its weight, score 0 and a reason.
    """

    participant: Address
    revealed: bytes
    weight: int
    score: BasisPoints
    reason: int

    @property
    def is_accepted(self) -> bool:
        """Whether the update passed every check."""
        return self.reason == ACCEPTED

    @property
    def is_averaged(self) -> bool:
        """Whether the update went into the average."""
        return self.weight != 0


def compute_weight(examples: int, weight_cap: int) -> int:
    """Return min(examples, weight_cap): to claim more data than the cap gains nothing."""
    return min(examples, weight_cap)


def verdicts_hash(verdicts: Sequence[Verdict]) -> Digest:
    """Return keccak256(abi.encode(Verdict[])), Verdict = (address, bytes30, uint32, uint16, uint8).

    The order matters: the contract accepts verdicts in ascending order of participant only.
    """
    rows = [(v.participant, v.revealed, v.weight, v.score, v.reason) for v in verdicts]
    return Digest(keccak(encode(["(address,bytes30,uint32,uint16,uint8)[]"], [rows])))
