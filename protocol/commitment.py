"""Digests that the contract computes as well: Keccak-256 of an ABI encoding (docs/protocol.md §8).

Golden vectors: tests/vectors/commitments.json and tests/vectors/eligibility.json.
"""

from collections.abc import Sequence
from typing import Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from protocol.errors import Misconfigured
from protocol.types import Address, Digest, RoundId

PREFIX_BYTES: Final = 30
"""How much of a commitment or update digest the contract keeps, from its beginning."""


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


def compute_masked_commitment(
    federation: Address,
    round_id: RoundId,
    participant: Address,
    public_key: bytes,
    examples: int,
    salt: bytes,
) -> Digest:
    """Return the digest with which a participant commits to a masked round (§13).

    It fixes the key and the weight, before anybody masks; the update is bound by the reveal.
    Misconfigured unless key and salt have 32 bytes each.
    """
    if len(salt) != 32 or len(public_key) != 32:
        raise Misconfigured(
            f"a key of {len(public_key)} and a salt of {len(salt)} bytes, 32 were expected"
        )
    types = ["address", "uint256", "address", "bytes32", "uint256", "bytes32"]
    values = [federation, round_id, participant, public_key, examples, salt]
    return Digest(keccak(encode(types, values)))


def compute_update_digest(root: Digest, manifest: Digest, examples: int) -> Digest:
    """Return the digest of a revealed update; the contract keeps its first `PREFIX_BYTES`."""
    return Digest(keccak(encode(["bytes32", "bytes32", "uint256"], [root, manifest, examples])))


def bind_secrets(manifest: Digest, secrets: Digest) -> Digest:
    """Return what a masked update's digest has in the manifest's place: keccak256(both) (§13).

    `secrets` is Keccak-256 over the commitments in its bundle.
    """
    return Digest(keccak(encode(["bytes32", "bytes32"], [manifest, secrets])))


def bind_opened(bound: Digest, own_seed: bytes, seeds: Sequence[bytes]) -> Digest:
    """Return what stands there once its secrets are known: keccak256(`bind_secrets`, seeds) (§13).

    `seeds` are those with who is outside the set, in ascending order of address.
    """
    return Digest(keccak(b"".join([bound, own_seed, *seeds])))


def compute_members_hash(members: Sequence[Address]) -> Digest:
    """Return keccak256 of the addresses that committed to a masked round, in ascending order."""
    return Digest(keccak(pack_members(members)))


def pack_members(members: Sequence[Address]) -> bytes:
    """Return these addresses as 20 bytes each, one behind the other."""
    return b"".join(bytes.fromhex(member[2:]) for member in members)


def compute_seed(
    federation: Address, round_id: RoundId, block_hash: Digest, prevrandao: int
) -> Digest:
    """Return the seed of a round's draw.

    `block_hash` is that of the block in which the round was opened, `prevrandao` that of the later
    block in which the seed was fixed: whoever opens the round knows neither.
    """
    types = ["address", "uint256", "bytes32", "uint256"]
    return Digest(keccak(encode(types, [federation, round_id, block_hash, prevrandao])))


def is_eligible(seed: Digest, participant: Address, active: int, round_target: int) -> bool:
    """Whether the round with this seed asks this participant, one of `active` seats.

    About `round_target` are asked, and all when no more are active. A seat is asked when
    uint256(keccak256(abi.encode(seed, participant))) < ((2^256 - 1) // active) · round_target.
    """
    if active < 1 or round_target < 1:
        raise Misconfigured(f"{active} seats and a target of {round_target}: each is at least 1")
    if active <= round_target:
        return True
    draw = int.from_bytes(keccak(encode(["bytes32", "address"], [seed, participant])), "big")
    # Divided first, as the contract does: the product would overflow its words.
    return draw < (2**256 - 1) // active * round_target
