"""Shares of a secret, of which so many recover it and fewer say nothing (docs/protocol.md §13).

Shamir's scheme (1979) byte by byte over GF(2^8) with x^8 + x^4 + x^3 + x + 1, and the boxes in
which a dealer sends its shares: ChaCha20-Poly1305 (RFC 8439). No library that is kept and audited
takes the x of a share from outside (docs/decisions/0020).

Products are looked up in tables, so their time may depend on what is multiplied, as in AES without
instructions for it. A secret lives for one round, and is split once, on its owner's own machine.
Golden vectors: tests/vectors/shares.json.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from numpy.typing import NDArray

from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected

SHARE_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


def default_threshold(peers: int) -> int:
    """Return how many of so many peers recover a secret: ⌊2k/3⌋ + 1, and all of up to four."""
    return peers if peers <= 4 else 2 * peers // 3 + 1


def split(secret: bytes, threshold: int, places: Sequence[int], randomness: bytes) -> list[bytes]:
    """Return the share of each place, as long as the secret.

    A place is the x of a share, 1 to 255, each once. `randomness` is (threshold - 1) · len(secret)
    bytes from the operating system, used once: the coefficients of x, then those of x², and so on.
    """
    if not 1 <= threshold <= len(places):
        raise Misconfigured(f"{threshold} of {len(places)} shares cannot be asked for")
    if len(set(places)) != len(places) or not all(0 < place < 256 for place in places):
        raise Misconfigured("the places of shares are 1 to 255, each once")
    if len(randomness) != (threshold - 1) * len(secret):
        raise Misconfigured(
            f"{len(randomness)} random bytes, {(threshold - 1) * len(secret)} were expected"
        )
    rows = [secret, *(randomness[i : i + len(secret)] for i in _starts(randomness, secret))]
    coefficients = [np.frombuffer(row, np.uint8) for row in rows]
    shares = []
    for place in places:
        share = coefficients[-1].copy()
        for coefficient in coefficients[-2::-1]:  # Horner's rule
            share = _PRODUCTS[place][share] ^ coefficient
        shares.append(share.tobytes())
    return shares


def recover(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret that these shares, by place, are of; as many as `threshold` are used.

    Other bytes come back when one of them is false: whoever asks compares a commitment.
    Misconfigured for fewer shares, or of different lengths.
    """
    if len(shares) < threshold or threshold < 1:
        raise Misconfigured(f"{len(shares)} shares, {max(threshold, 1)} are needed")
    places = sorted(shares)[:threshold]
    if len({len(shares[place]) for place in places}) != 1 or not 0 < places[0] <= places[-1] < 256:
        raise Misconfigured("shares of one secret are of one length, at places 1 to 255")
    secret = np.zeros(len(shares[places[0]]), np.uint8)
    for place in places:
        # Lagrange's coefficient at x = 0: the product of other / (other - place).
        factor = 1
        for other in places:
            if other != place:
                factor = int(_PRODUCTS[factor, _PRODUCTS[other, _INVERSES[other ^ place]]])
        secret ^= _PRODUCTS[factor][np.frombuffer(shares[place], np.uint8)]
    return secret.tobytes()


def seal_shares(key: bytes, shares: Sequence[bytes], nonce: bytes) -> bytes:
    """Return the box of these shares: the nonce, then ciphertext and tag.

    `nonce` is 12 random bytes, used with this key once.
    """
    if len(nonce) != NONCE_BYTES:
        raise Misconfigured(f"the nonce has {len(nonce)} bytes, {NONCE_BYTES} were expected")
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, b"".join(shares), None)


def open_shares(key: bytes, box: bytes) -> list[bytes]:
    """Return the shares in a box, 32 bytes each; Rejected(Check.BUNDLE) when it does not open."""
    try:
        plain = ChaCha20Poly1305(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as error:
        raise Rejected(Check.BUNDLE, "a box of shares does not open with its key") from error
    if len(plain) % SHARE_BYTES:
        raise Rejected(Check.BUNDLE, f"a box has {len(plain)} bytes, which are no whole shares")
    return [plain[start : start + SHARE_BYTES] for start in range(0, len(plain), SHARE_BYTES)]


def _starts(randomness: bytes, secret: bytes) -> range:
    return range(0, len(randomness), max(len(secret), 1))


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the products of any two bytes in GF(2^8), and the inverse of each (0 for 0)."""
    powers, value = [], 1
    for _ in range(255):  # 3 generates the group
        powers.append(value)
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)
    exponents = {power: i for i, power in enumerate(powers)}
    products, inverses = np.zeros((256, 256), np.uint8), np.zeros(256, np.uint8)
    for a in range(1, 256):
        inverses[a] = powers[-exponents[a] % 255]
        for b in range(1, 256):
            products[a, b] = powers[(exponents[a] + exponents[b]) % 255]
    return products, inverses


_PRODUCTS, _INVERSES = _tables()
