"""docs/protocol.md once more, as naively as it can be written: plain integers, hashlib, struct.

It shares nothing with protocol/ on purpose: the golden vectors are computed here, and both must
agree with them. Only Keccak-256 and ChaCha20-Poly1305 are borrowed, from another library than the
one that protocol/ uses.
"""

import hashlib
import json
import struct
from base64 import b32encode
from decimal import Decimal, localcontext
from fractions import Fraction
from math import isqrt
from typing import Any

from Crypto.Cipher import ChaCha20_Poly1305
from Crypto.Hash import keccak as _keccak

ZERO = bytes(32)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def keccak256(data: bytes) -> bytes:
    return _keccak.new(digest_bits=256, data=data).digest()


# §2


def encode(value: float) -> int | None:
    """The integer, or None when the value cannot be encoded."""
    if value != value or value in (float("inf"), float("-inf")):
        return None
    rounded = round(Fraction(value) * 2**24)  # Python rounds half to even
    return rounded if abs(rounded) < 2**31 else None


def grid_of_round(grid_bits: int, grid_every: int, round_id: int) -> int:
    return grid_bits if grid_every == 0 else min(24, grid_bits + (round_id - 1) // grid_every)


def held(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def difference(before: int, after: float, carried: float, grid: int) -> tuple[int, float]:
    """The step, and what is carried into the next update; the floats are added as written."""
    exact = after - before / 2**24 + carried
    rounded = round(Fraction(exact) * 2**grid)
    step = held(rounded, 127)
    return step, exact - step / 2**grid if step == rounded else 0.0


def choose_grid(differences: list[float]) -> int | None:
    """The grid, or None when there is none."""
    exact = [Fraction(value) for value in differences]
    mean_square = sum(value**2 for value in exact) / len(exact)
    if mean_square == 0:
        return None
    for grid in range(24, -1, -1):
        reach = Fraction(127, 2**grid)
        outside = sum(abs(value) > reach for value in exact)
        if reach**2 >= 9 * mean_square and 1000 * outside <= len(exact):
            return grid
    return None


# §3


def layer_file(values: list[int], kind: str) -> bytes:
    padded = values + [0] * (-len(values) % 256)
    return struct.pack(f">{len(padded)}{'b' if kind == 'update' else 'i'}", *padded)


def blocks(file: bytes) -> list[bytes]:
    return [file[start : start + 2**20] for start in range(0, len(file), 2**20)]


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


def zero_root(leaf_count: int) -> bytes:
    return root(bytes(256 * leaf_count), 256)


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


def norm_squared_limit(decimal: str, grid: int) -> int:
    with localcontext() as context:
        context.prec = 2000
        scaled = Decimal(decimal) * 2**grid
        return int(scaled * scaled)  # int() of a positive Decimal rounds down


def reason(values: list[int], padding: int, grid: int, limit: str | None, least: int) -> int:
    """The lowest number among the checks 7, 8, 9 and 11 that fail; the last values are padding."""
    squares = sum(value**2 for value in values)
    if -128 in values or any(values[len(values) - padding :]):
        return 7
    if limit is not None and squares > norm_squared_limit(limit, grid):
        return 8
    if not any(values):
        return 9
    return 11 if squares < least**2 else 0


def product(a: list[int], b: list[int]) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


def similarity(a: list[int], b: list[int]) -> int:
    if product(a, b) <= 0:
        return 0
    return 10_000 * product(a, b) // isqrt(product(a, a) * product(b, b))


# §7


def move(before: list[int], updates: list[list[int]], weights: list[int], grid: int) -> list[int]:
    total, shift = sum(weights), 24 - grid
    after = []
    for old, column in zip(before, zip(*updates, strict=True), strict=True):
        weighted = sum(weight * step for weight, step in zip(weights, column, strict=True))
        weighted = held(weighted, 127 * total)
        moved = old + (2 ** (shift + 1) * weighted + total) // (2 * total)
        after.append(held(moved, 2**31 - 1))
    return after


def is_bounded(before: list[int], after: list[int], grid: int) -> bool:
    pairs = zip(before, after, strict=True)
    return all(abs(new - old) <= 127 * 2 ** (24 - grid) for old, new in pairs)


def mean(layers: list[list[int]], weights: list[int]) -> list[int]:
    """Of whole checkpoints: no part of the protocol."""
    total = sum(weights)
    means = []
    for column in zip(*layers, strict=True):
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


def seed(federation: str, round_id: int, block_hash: bytes, prevrandao: int) -> bytes:
    return keccak256(word(federation) + word(round_id) + word(block_hash) + word(prevrandao))


def eligibility_draw(seed: bytes, participant: str) -> int:
    return int.from_bytes(keccak256(word(seed) + word(participant)), "big")


def is_eligible(draw: int, active: int, target: int) -> bool:
    return active <= target or draw < (2**256 - 1) // active * target


Row = tuple[str, bytes, int, int, int]
"""A verdict: participant, the first 30 bytes of the update digest, weight, score, reason."""


def verdicts_hash(rows: list[Row]) -> bytes:
    words = [word(32), word(len(rows))]
    for who, revealed, weight, score, reason in rows:
        assert len(revealed) == 30
        words += [word(who), revealed + bytes(2), word(weight), word(score), word(reason)]
    return keccak256(b"".join(words))


def address(seed: int) -> str:
    """An address for tests, with its EIP-55 capitals."""
    digits = keccak256(seed.to_bytes(32, "big"))[-20:].hex()
    check = keccak256(digits.encode()).hex()
    pairs = zip(digits, check, strict=False)
    return "0x" + "".join(d.upper() if int(c, 16) >= 8 else d for d, c in pairs)


# §9


def move_without(
    before: list[int], updates: list[list[int]], weights: list[int], grid: int, out: int
) -> list[int]:
    """The model after a round in which update number `out` is zero everywhere."""
    zero = [[0] * len(before) if k == out else update for k, update in enumerate(updates)]
    return move(before, zero, weights, grid)


def millionths(loss: float) -> int:
    if loss != loss or loss in (float("inf"), float("-inf")):
        return 10**9
    return max(0, min(10**9, round(Fraction(loss) * 10**6)))  # Python rounds half to even


def scores(before: int, average: int, without: list[int]) -> tuple[list[int], list[bool]]:
    """The score of each update, and whether it does harm."""
    gains = [loss - average for loss in without]
    good = [gain for gain in gains if gain > 0]
    if not good:
        return [0] * len(gains), [False] * len(gains)
    reference_gain = Fraction(sum(gain**2 for gain in good), sum(good))
    earned = [
        int(10_000 * min(Fraction(1), gain / reference_gain)) if gain > 0 else 0 for gain in gains
    ]
    harm = [gain < -reference_gain for gain in gains]
    return (earned if average < before else [0] * len(gains)), harm


def coefficients(older: list[list[int]], update: list[int]) -> list[float]:
    """Least squares by Gram and Schmidt, in fractions; what is spanned already gets 0."""
    basis: list[tuple[list[Fraction], list[Fraction]]] = []  # directions, and what they are made of
    for k, vector in enumerate(older):
        left = [Fraction(x) for x in vector]
        made = [Fraction(int(k == n)) for n in range(len(older))]
        for direction, parts in basis:
            share = _dot(left, direction) / _dot(direction, direction)
            left = [x - share * y for x, y in zip(left, direction, strict=True)]
            made = [x - share * y for x, y in zip(made, parts, strict=True)]
        if any(left):
            basis.append((left, made))
    total = [Fraction(0)] * len(older)
    for direction, parts in basis:
        share = _dot([Fraction(x) for x in update], direction) / _dot(direction, direction)
        total = [x + share * y for x, y in zip(total, parts, strict=True)]
    return [float(x) for x in total]


def _dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def repeated_part(older: list[list[int]], factors: list[float]) -> list[int]:
    """Of every value, in float64, which Python's floats are; added in order."""
    parts = []
    for column in zip(*older, strict=True):
        total = 0.0
        for value, factor in zip(column, factors, strict=True):
            total += value * factor
        parts.append(held(round(total), 127))
    return parts


def payouts(update_reward: int, weight_cap: int, rows: list[Row]) -> dict[str, int]:
    return {
        who: update_reward * weight * score // (weight_cap * 10_000)
        for who, _, weight, score, reason in rows
        if reason == 0
    }


def fee(aggregator_fee: int, rows: list[Row], revealed_weight: int) -> int:
    accepted = sum(weight for _, _, weight, _, reason in rows if reason == 0)
    return aggregator_fee * accepted // revealed_weight if revealed_weight else 0


# §13


def block(seed: bytes, leaf: int, counter: int) -> bytes:
    return sha256(seed + struct.pack(">II", leaf, counter))


def stream(seed: bytes, leaf: int) -> list[int]:
    """PRG(seed) of one leaf: 256 numbers below 2^32."""
    data = b"".join(block(seed, leaf, counter) for counter in range(32))
    return [int.from_bytes(data[i : i + 4], "big") for i in range(0, 1024, 4)]


def masked(
    values: list[int],
    weight: int,
    who: str,
    own_seed: bytes,
    pair_seeds: dict[str, bytes],
    leaf: int,
) -> list[int]:
    """One leaf of an update as it is published."""
    result = [
        weight * value + add for value, add in zip(values, stream(own_seed, leaf), strict=True)
    ]
    for peer, seed in pair_seeds.items():
        sign = 1 if int(who, 16) < int(peer, 16) else -1
        result = [value + sign * add for value, add in zip(result, stream(seed, leaf), strict=True)]
    return [value % 2**32 for value in result]


def signed(value: int) -> int:
    value %= 2**32
    return value - 2**32 if value >= 2**31 else value


def move_by_sum(before: list[int], sums: list[int], total: int, grid: int) -> list[int]:
    """As `move`, with Σ w·d given."""
    after = []
    for old, weighted in zip(before, sums, strict=True):
        step = (2 ** (25 - grid) * held(weighted, 127 * total) + total) // (2 * total)
        after.append(held(old + step, 2**31 - 1))
    return after


P25519 = 2**255 - 19


def x25519(private: bytes, public: bytes) -> bytes:
    """RFC 7748 §5, with the names of its pseudocode."""
    clamped = bytearray(private)
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    k = int.from_bytes(clamped, "little")
    u = int.from_bytes(public, "little") % 2**255 % P25519
    x2, z2, x3, z3 = 1, 0, u, 1
    for t in range(254, -1, -1):
        if k >> t & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a, c * b
        x3, z3 = pow(da + cb, 2, P25519), u * pow(da - cb, 2, P25519) % P25519
        aa, bb = a * a, b * b
        e = aa - bb
        x2, z2 = aa * bb % P25519, e * (aa + 121665 * e) % P25519
        if k >> t & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, P25519 - 2, P25519) % P25519).to_bytes(32, "little")


BASE_POINT = (9).to_bytes(32, "little")


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    padded = key + bytes(64 - len(key))
    inner = sha256(bytes(byte ^ 0x36 for byte in padded) + message)
    return sha256(bytes(byte ^ 0x5C for byte in padded) + inner)


def pair_secret(
    label: bytes,
    chain_id: int,
    federation: str,
    round_id: int,
    private: bytes,
    own: str,
    peer: str,
    peer_key: bytes,
    suffix: bytes = b"",
) -> bytes:
    """s with the label "mask"; with "share" and the dealer's address, the key of a box."""
    own_key = x25519(private, BASE_POINT)
    (low, low_key), (high, high_key) = sorted([(word(own), own_key), (word(peer), peer_key)])
    message = label + word(chain_id) + word(federation)[12:] + word(round_id)
    message += low[12:] + high[12:] + low_key + high_key + suffix
    return hmac_sha256(x25519(private, peer_key), message)


def masked_commitment(
    federation: str, round_id: int, participant: str, key: bytes, examples: int, salt: bytes
) -> bytes:
    words = (federation, round_id, participant, key, examples, salt)
    return keccak256(b"".join(word(value) for value in words))


def bound(manifest: bytes, secrets: bytes) -> bytes:
    return keccak256(word(manifest) + word(secrets))


def opened(bound_manifest: bytes, seeds: list[bytes]) -> bytes:
    return keccak256(bound_manifest + b"".join(seeds))


def members_hash(members: list[str]) -> bytes:
    return keccak256(b"".join(bytes.fromhex(member[2:]) for member in members))


def gf_product(a: int, b: int) -> int:
    """In GF(2^8): as polynomials over bits, then the remainder by x^8 + x^4 + x^3 + x + 1."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << bit - 8
    return product


def gf_power(a: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = gf_product(result, a)
    return result


def split(secret: bytes, threshold: int, places: list[int], randomness: bytes) -> list[bytes]:
    shares = []
    for x in places:
        share = bytearray(secret)
        for power in range(1, threshold):
            row = randomness[(power - 1) * len(secret) : power * len(secret)]
            for i, coefficient in enumerate(row):
                share[i] ^= gf_product(coefficient, gf_power(x, power))
        shares.append(bytes(share))
    return shares


def recover(shares: dict[int, bytes]) -> bytes:
    size = len(next(iter(shares.values())))
    secret = bytearray(size)
    for x, share in shares.items():
        factor = 1
        for other in shares:
            if other != x:
                inverse = gf_power(other ^ x, 254)
                factor = gf_product(factor, gf_product(other, inverse))
        for i in range(size):
            secret[i] ^= gf_product(factor, share[i])
    return bytes(secret)


def sealed(key: bytes, plain: bytes, nonce: bytes) -> bytes:
    ciphertext, tag = ChaCha20_Poly1305.new(key=key, nonce=nonce).encrypt_and_digest(plain)
    return nonce + ciphertext + tag


def bundle(
    dealer: str,
    own_seed: bytes,
    pair_seeds: dict[str, bytes],
    share_keys: dict[str, bytes],
    threshold: int,
    randomness: bytes,
) -> bytes:
    """A bundle's bytes; of `randomness` come the coefficients of each secret, then each nonce."""
    peers = sorted(pair_seeds, key=lambda who: int(who, 16))
    everybody = sorted([dealer, *peers], key=lambda who: int(who, 16))
    places = [1 + everybody.index(peer) for peer in peers]
    secrets = [own_seed, *(pair_seeds[peer] for peer in peers)]
    size = 32 * (threshold - 1)
    shares = [
        split(secret, threshold, places, randomness[size * i : size * (i + 1)])
        for i, secret in enumerate(secrets)
    ]
    nonces = randomness[size * len(secrets) :]
    data = bytes([1, len(peers)]) + b"".join(word(peer)[12:] for peer in peers)
    data += b"".join(keccak256(secret) for secret in secrets)
    for j, peer in enumerate(peers):
        plain = b"".join(row[j] for row in shares)
        data += sealed(share_keys[peer], plain, nonces[12 * j : 12 * (j + 1)])
    for j in range(len(peers)):
        data += b"".join(keccak256(row[j]) for row in shares)
    return data


def sketch_seed(block_hash: bytes, prevrandao: int) -> bytes:
    return keccak256(word(block_hash) + word(prevrandao))


def ternary(z: bytes, leaf: int, position: int) -> list[int]:
    """The r_k of one coordinate."""
    bits = "".join(f"{byte:08b}" for byte in block(z, leaf, position))
    return [int(bits[2 * k]) - int(bits[2 * k + 1]) for k in range(128)]


def sketch(values: list[int], z: bytes, leaf: int) -> list[int]:
    """Of whole leaves from `leaf` on."""
    sums = [0] * 128
    for i, value in enumerate(values):
        for k, r in enumerate(ternary(z, leaf + i // 256, i % 256)):
            sums[k] += r * value
    return sums


def exceeds_limit(values: list[int], weight: int, decimal: str, grid: int) -> bool:
    """Whether √(2 · mean v²) > 1.3 · w · limit, both sides squared."""
    mean = Fraction(sum(value**2 for value in values), 128)
    return 2 * mean > Fraction(13, 10) ** 2 * weight**2 * norm_squared_limit(decimal, grid)


def is_weak(values: list[int], weight: int, least: int) -> bool:
    mean = Fraction(sum(value**2 for value in values), 128)
    return 2 * mean * Fraction(13, 10) ** 2 < weight**2 * least**2
