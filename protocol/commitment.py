"""Digests that the contract computes as well: Keccak-256 of an ABI encoding (docs/protocol.md §8).

Golden vectors: tests/vectors/commitments.json and tests/vectors/eligibility.json.
"""

from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from protocol.errors import Misconfigured
from protocol.types import FULL_BASIS_POINTS, Address, BasisPoints, Digest, RoundId

# Divided first, as the contract does: (2^256 - 1) · fraction would overflow its words.
_ELIGIBILITY_STEP: Final = (2**256 - 1) // 10_000


def compute_commitment(
    federation: Address,
    round_id: RoundId,
    participant: Address,
    root: Digest,
    manifest: Digest,
    examples: int,
    salt: bytes,
) -> Digest:
    """Return the digest that a participant publishes before it reveals.

    It covers federation, round and participant, so nobody can copy a commitment or reuse one. The
    32-byte salt keeps the root from being guessed; Misconfigured for any other length.
    """
    if len(salt) != 32:
        raise Misconfigured(f"the salt has {len(salt)} bytes, 32 were expected")
    types = ["address", "uint256", "address", "bytes32", "bytes32", "uint256", "bytes32"]
    values = [federation, round_id, participant, root, manifest, examples, salt]
    return Digest(keccak(encode(types, values)))


def compute_update_digest(root: Digest, manifest: Digest, examples: int) -> Digest:
    """Return the one word that the contract stores for a revealed update."""
    return Digest(keccak(encode(["bytes32", "bytes32", "uint256"], [root, manifest, examples])))


def is_eligible(seed: Digest, participant: Address, fraction: BasisPoints) -> bool:
    """Whether the round with this seed draws this participant, at a sampling rate of `fraction`.

    Eligible when uint256(keccak256(abi.encode(seed, participant))) < ((2^256 - 1) // 10,000) ·
    fraction, and always at 10,000.
    """
    if not 0 <= fraction <= FULL_BASIS_POINTS:
        raise Misconfigured(f"the sampling fraction is {fraction}, 0 to 10,000 was expected")
    if fraction == FULL_BASIS_POINTS:  # by itself, as the step is rounded down
        return True
    draw = int.from_bytes(keccak(encode(["bytes32", "address"], [seed, participant])), "big")
    return draw < _ELIGIBILITY_STEP * fraction
