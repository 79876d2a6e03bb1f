"""Digests that the contract computes too: Keccak-256 over the ABI encoding (docs/protocol.md §8).

Golden vectors: tests/vectors/commitments.json and tests/vectors/eligibility.json.
"""

from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from protocol.errors import Misconfigured
from protocol.types import FULL_BASIS_POINTS, Address, BasisPoints, Digest, RoundId

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
    """Return what a participant publishes before it reveals.

    The federation, round and participant are part of it, so nobody can copy a commitment or use
    one twice; the 32-byte salt keeps the root from being guessed. Misconfigured if it is not 32.
    """
    if len(salt) != 32:
        raise Misconfigured(f"the salt has {len(salt)} bytes, 32 were expected")
    types = ["address", "uint256", "address", "bytes32", "bytes32", "uint256", "bytes32"]
    values = [federation, round_id, participant, root, manifest, examples, salt]
    return Digest(keccak(encode(types, values)))


def compute_update_digest(root: Digest, manifest: Digest, examples: int) -> Digest:
    """Return the one word by which the contract remembers a revealed update."""
    return Digest(keccak(encode(["bytes32", "bytes32", "uint256"], [root, manifest, examples])))


def is_eligible(seed: Digest, participant: Address, fraction: BasisPoints) -> bool:
    """Whether the round with this seed asks this participant, when it asks `fraction` of all.

    Eligible when uint256(keccak256(abi.encode(seed, participant))) < ((2^256 - 1) // 10,000) ·
    fraction, and always at 10,000.
    """
    if not 0 <= fraction <= FULL_BASIS_POINTS:
        raise Misconfigured(f"the sampling fraction is {fraction}, 0 to 10,000 was expected")
    if fraction == FULL_BASIS_POINTS:
        return True
    draw = int.from_bytes(keccak(encode(["bytes32", "address"], [seed, participant])), "big")
    return draw < _ELIGIBILITY_STEP * fraction
