"""The keys that two participants of a masked round have in common (docs/protocol.md §13).

Everybody publishes an X25519 key (RFC 7748) for one round and forgets the private one after it.
What a pair derives from it is bound to the round, to both addresses and to both keys as published:
a seat that publishes a copy of somebody's key, or other bytes that lead to the same secret, has
nothing in common with that key's pairs. Golden vectors: tests/vectors/pair_keys.json.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected
from protocol.types import Address, RoundId

KEY_BYTES: Final = 32

_FIELD: Final = 2**255 - 19
# Every u below 2^255 of a point whose order divides 8, on the curve or its twist: a secret made
# with one of them is 0 for everybody. RFC 7748 ignores the highest bit of a key.
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
        _FIELD,
        _FIELD + 1,
    }
)


@dataclass(frozen=True)
class MaskedRound:
    """The round that secrets are for: those of another one, or of another chain, are others."""

    chain_id: int
    federation: Address
    round_id: RoundId


def public_key(private_key: bytes) -> bytes:
    """Return the 32 bytes to publish; `private_key` is any 32 random bytes."""
    return _private(private_key).public_key().public_bytes_raw()


def is_small_order(key: bytes) -> bool:
    """Whether a public key leads to the same secret with every private key."""
    return int.from_bytes(key, "little") % 2**255 in _SMALL_ORDER


def pair_seed(
    of: MaskedRound, private_key: bytes, own: Address, peer: Address, peer_key: bytes
) -> bytes:
    """Return s, the seed of the stream that `own` and `peer` have in common: 32 bytes.

    Raises Rejected(Check.BUNDLE) for a peer's key of small order or of another length.
    """
    return _derive(of, b"mask", private_key, own, peer, peer_key)


def share_key(
    of: MaskedRound,
    private_key: bytes,
    own: Address,
    peer: Address,
    peer_key: bytes,
    dealer: Address,
) -> bytes:
    """Return the key under which `dealer`, one of the two, sends the other its shares: 32 bytes.

    Raises as `pair_seed` does.
    """
    if dealer not in (own, peer):
        raise Misconfigured(f"{dealer} deals no shares between {own} and {peer}")
    return _derive(of, b"share", private_key, own, peer, peer_key, _raw(dealer))


def _derive(
    of: MaskedRound,
    label: bytes,
    private_key: bytes,
    own: Address,
    peer: Address,
    peer_key: bytes,
    suffix: bytes = b"",
) -> bytes:
    if own == peer:
        raise Misconfigured(f"{own} has no secret in common with itself")
    if len(peer_key) != KEY_BYTES:
        raise Rejected(
            Check.BUNDLE, f"the key of {peer} has {len(peer_key)} bytes, not {KEY_BYTES}"
        )
    if is_small_order(peer_key):
        raise Rejected(Check.BUNDLE, f"the key of {peer} is of small order: {peer_key.hex()}")
    private = _private(private_key)
    secret = private.exchange(X25519PublicKey.from_public_bytes(peer_key))
    members = sorted([(_raw(own), private.public_key().public_bytes_raw()), (_raw(peer), peer_key)])
    (lower, lower_key), (higher, higher_key) = members
    message = b"".join(
        (
            label,
            of.chain_id.to_bytes(32),
            _raw(of.federation),
            of.round_id.to_bytes(32),
            lower,
            higher,
            lower_key,
            higher_key,
            suffix,
        )
    )
    return hmac.digest(secret, message, "sha256")


def _private(key: bytes) -> X25519PrivateKey:
    if len(key) != KEY_BYTES:
        raise Misconfigured(f"a private key has {len(key)} bytes, {KEY_BYTES} were expected")
    return X25519PrivateKey.from_private_bytes(key)


def _raw(address: Address) -> bytes:
    return bytes.fromhex(address[2:])
