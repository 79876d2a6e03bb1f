"""docs/protocol.md once more, as naively as it can be written: plain integers, hashlib, struct.

It shares nothing with protocol/ on purpose: the golden vectors are computed here, and both must
agree with them. Keccak-256 is the only thing borrowed.
"""

import hashlib
import json
import struct
from base64 import b32encode
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from Crypto.Hash import keccak as _keccak

ZERO = bytes(32)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def keccak256(data: bytes) -> bytes:
    return _keccak.new(digest_bits=256, data=data).digest()


# §2


def encode(value: float, fraction_bits: int) -> int | None:
    """The integer, or None when the value cannot be encoded."""
    if value != value or value in (float("inf"), float("-inf")):
        return None
    rounded = round(Fraction(value) * 2**fraction_bits)  # Python rounds half to even
    return rounded if abs(rounded) < 2**31 else None


# §3


def layer_file(values: list[int], leaf_values: int) -> bytes:
    padding = -len(values) % leaf_values
    return b"".join(struct.pack(">i", value) for value in values + [0] * padding)


# §4


def leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def rows(data: bytes, leaf_bytes: int) -> list[list[bytes]]:
    """Every level of the tree: the leaves padded to a power of two, …, the root alone."""
    row = [leaf(data[i : i + leaf_bytes]) for i in range(0, len(data), leaf_bytes)]
    while len(row) & (len(row) - 1):
        row.append(ZERO)
    levels = [row]
    while len(row) > 1:
        row = [node(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        levels.append(row)
    return levels


def root(data: bytes, leaf_bytes: int) -> bytes:
    return rows(data, leaf_bytes)[-1][0]


def proof(data: bytes, leaf_bytes: int, index: int) -> list[bytes]:
    siblings = []
    for row in rows(data, leaf_bytes)[:-1]:
        siblings.append(row[index ^ 1])
        index //= 2
    return siblings


# §5


def canonical(value: Any) -> bytes:
    """RFC 8785 for what specs and manifests hold: ASCII keys, small integers, short decimals."""
    plain = json.loads(json.dumps(value), parse_float=_shortest)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _shortest(text: str) -> int | float:
    number = float(text)
    assert number == 0 or 1e-4 <= abs(number) < 1e16, "Python and RFC 8785 differ beyond this"
    return int(number) if number == int(number) else number


def cid(data: bytes) -> str:
    packed = b"\x01\x55\x12\x20" + sha256(data)
    return "b" + b32encode(packed).decode().lower().replace("=", "")


# §6


def norm_squared(update: list[int], model: list[int]) -> int:
    return sum((new - old) ** 2 for new, old in zip(update, model, strict=True))


def norm_squared_limit(decimal: str, fraction_bits: int) -> int:
    with localcontext() as context:
        context.prec = 2000
        scaled = Decimal(decimal) * 2**fraction_bits
        return int(scaled * scaled)  # int() of a positive Decimal rounds down


# §7


def average(updates: list[list[int]], weights: list[int]) -> list[int]:
    total = sum(weights)
    means = []
    for column in zip(*updates, strict=True):
        weighted = sum(weight * value for weight, value in zip(weights, column, strict=True))
        means.append((2 * weighted + total) // (2 * total))
    return means


# §8


def word(value: int | bytes | str) -> bytes:
    """One ABI word: a number or address to the right, 32 bytes as they are."""
    if isinstance(value, str):
        value = int(value, 16)
    return value if isinstance(value, bytes) else value.to_bytes(32, "big")


def commitment(
    federation: str,
    round_id: int,
    participant: str,
    root: bytes,
    manifest: bytes,
    examples: int,
    salt: bytes,
) -> bytes:
    words = (federation, round_id, participant, root, manifest, examples, salt)
    return keccak256(b"".join(word(value) for value in words))


def update_digest(root: bytes, manifest: bytes, examples: int) -> bytes:
    return keccak256(word(root) + word(manifest) + word(examples))


def eligibility_draw(seed: bytes, participant: str) -> int:
    return int.from_bytes(keccak256(word(seed) + word(participant)), "big")


def is_eligible(draw: int, fraction: int) -> bool:
    return fraction == 10_000 or draw < (2**256 - 1) // 10_000 * fraction


def verdicts_hash(rows: list[tuple[str, int, int, int]]) -> bytes:
    words = [word(32), word(len(rows))]
    words += [word(value) for row in rows for value in row]
    return keccak256(b"".join(words))


def address(seed: int) -> str:
    """An address for tests, with its EIP-55 capitals."""
    digits = keccak256(seed.to_bytes(32, "big"))[-20:].hex()
    check = keccak256(digits.encode()).hex()
    pairs = zip(digits, check, strict=False)
    return "0x" + "".join(d.upper() if int(c, 16) >= 8 else d for d, c in pairs)


# §9


def payouts(reward: int, rows: list[tuple[str, int, int, int]]) -> dict[str, int]:
    accepted = [row for row in rows if row[3] == 0]
    total = sum(weight * score for _, weight, score, _ in accepted)
    return {
        who: reward * weight * score // total if total else 0 for who, weight, score, _ in accepted
    }
