"""Sketches: what can be said of an update that only its sum shows (docs/protocol.md §13).

    v_k = Σ r_k·w·d      k = 0 … 127,      r_k a vector of -1, 0, 0, 1

Everybody posts its own v, and Σ v must be that of the sum, so that together participants cannot
say less than is true. A sketch is about as long as its update: 2/128 · Σ v_k² is w²·Σ d² in
expectation. All of it is exact integers. Golden vectors: tests/vectors/sketches.json.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from numpy.typing import NDArray

from protocol.checks import ACCEPTED, Check
from protocol.encoding import LEAF_VALUES
from protocol.errors import Misconfigured, Rejected
from protocol.masking import Mask, add_blocks
from protocol.screening import squared_norm_limit
from protocol.similarity import SIMILAR, similarity
from protocol.types import Digest

SKETCH_SIZE: Final = 128
"""The numbers of a sketch."""
SKETCH_BYTES: Final = 8 * SKETCH_SIZE

_DIGEST_WORDS: Final = 8
_CHUNK_LEAVES: Final = 4  # 512 KiB of r as float32: they stay in the L2 cache
# |r·d| <= 2^7 and |r·s| <= 2^33, and so many of them stay exact in float32 and float64. OpenBLAS
# takes a product as small as 64 x 128 in the calling thread (`protocol.similarity`).
_ROWS: Final = 64
_MOST: Final = 2**33


def compute_sketch_seed(block_hash: Digest, prevrandao: int) -> Digest:
    """Return z, from which a round's r follow.

    `block_hash` is that of the block that sealed the round, `prevrandao` a later block's: nobody
    who chose an update, a bundle or the set of the accepted knew both.
    """
    return Digest(keccak(encode(["bytes32", "uint256"], [block_hash, prevrandao])))


def sketch(values: NDArray[Any], seed: bytes, first_leaf: int) -> list[int]:
    """Return Σ r_k · value over whole leaves, exactly, for each k.

    `values` is one-dimensional, of integers in either byte order: an update's d (times w gives its
    sketch), S, a movement of the model, each read signed, or a stream, read unsigned. Sketches of
    parts add up to that of the whole. Misconfigured for values beyond ±2^33.
    """
    if values.dtype.kind not in "iu" or values.ndim != 1 or values.size % LEAF_VALUES:
        raise Misconfigured(f"{values.size} values of {values.dtype} are no whole leaves")
    exact = np.float32 if values.dtype.itemsize == 1 else np.float64
    if values.size and (values.max() > _MOST or values.min() < -_MOST):
        raise Misconfigured("a value to sketch lies beyond 2^33")
    sums = [0] * SKETCH_SIZE
    for part, r in _with_vectors(values, exact, seed, first_leaf):
        products = np.matmul(part.astype(exact).reshape(-1, 1, _ROWS), r)
        for k, total in enumerate(products.sum(axis=(0, 1), dtype=np.float64)):
            sums[k] += int(total)
    return sums


def sketch_each(values: NDArray[np.float32], seed: bytes) -> NDArray[np.float64]:
    """Return the sketch of each row of `values` to rounding; float64, (rows, 128).

    Rows are whole leaves, from leaf 0 on. The vectors are computed once for all of them.
    """
    sums = np.zeros((len(values), SKETCH_SIZE))
    for part, r in _with_vectors(values, np.float32, seed, 0):
        sums += part @ r.reshape(-1, SKETCH_SIZE)
    return sums


def _with_vectors(
    values: NDArray[Any], kind: type[np.floating[Any]], seed: bytes, first_leaf: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield the values a few leaves at a time, by the last axis, with their r of -1, 0 and 1."""
    ternary = _TERNARY.astype(kind)
    step = _CHUNK_LEAVES * LEAF_VALUES
    for start in range(0, values.shape[-1], step):
        part = values[..., start : start + step]
        leaves = part.shape[-1] // LEAF_VALUES
        rows = np.zeros((leaves, _DIGEST_WORDS * LEAF_VALUES), np.uint32)
        add_blocks(rows, seed, first_leaf + start // LEAF_VALUES, 1)
        bits = rows.astype(">u4").view(np.uint8)
        # Nothing is ever clipped: without the check of bounds it takes a tenth of the time.
        yield part, ternary.take(bits, axis=0, mode="clip").reshape(-1, _ROWS, SKETCH_SIZE)


def pack_sketch(values: Sequence[int]) -> bytes:
    """Return a sketch as 128 signed 64-bit integers, big-endian; Misconfigured for any other."""
    if len(values) != SKETCH_SIZE:
        raise Misconfigured(f"a sketch has {SKETCH_SIZE} numbers, {len(values)} were given")
    try:
        return b"".join(value.to_bytes(8, signed=True) for value in values)
    except OverflowError as error:
        raise Misconfigured("a number of a sketch does not fit 64 bits") from error


def parse_sketch(raw: bytes) -> list[int]:
    """Return the numbers of a posted sketch; Rejected(Check.BLAMED) for another length."""
    if len(raw) != SKETCH_BYTES:
        raise Rejected(Check.BLAMED, f"a sketch has {SKETCH_BYTES} bytes, not {len(raw):,}")
    return [int.from_bytes(raw[i : i + 8], signed=True) for i in range(0, SKETCH_BYTES, 8)]


def adds_up(sketches: Sequence[Sequence[int]], of_sum: Sequence[int]) -> bool:
    """Whether the sketches posted add up to that of S, before it is held; as exact integers."""
    return [sum(column) for column in zip(*sketches, strict=True)] == list(of_sum)


def exceeds_limit(values: Sequence[int], weight: int, max_update_norm: float, grid: int) -> bool:
    """Whether a sketch says that its update is longer than 1.3 · `max_update_norm`.

    Of an update at `max_update_norm` itself it says so in 1.7 of a million rounds.
    """
    most = 169 * SKETCH_SIZE * weight**2 * squared_norm_limit(max_update_norm, grid)
    return 2 * 100 * _squares(values) > most


def is_weak(values: Sequence[int], weight: int, min_norm: int) -> bool:
    """Whether a sketch says that its update is shorter than `min_norm` steps / 1.3."""
    return 2 * 169 * _squares(values) < 100 * SKETCH_SIZE * weight**2 * min_norm**2


def sketch_similarity(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the similarity of two sketches in basis points, as that of updates (check 12)."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return similarity(product, _squares(a), _squares(b))


def judge(
    values: Sequence[int],
    weight: int,
    *,
    max_update_norm: float,
    grid: int,
    min_norm: int,
    earlier: Sequence[Sequence[int]],
) -> int:
    """Return the reason for which a sealed update's score is 0, else `ACCEPTED`.

    `earlier` are the sketches of those who committed before in this round, and that of the model's
    last movement under the same seed.
    """
    if exceeds_limit(values, weight, max_update_norm, grid):
        return Check.NORM
    if is_weak(values, weight, min_norm):
        return Check.WEAK
    if any(sketch_similarity(values, other) >= SIMILAR for other in earlier):
        return Check.SIMILAR
    return ACCEPTED


def is_own(
    values: Sequence[int],
    of_masked: Sequence[int],
    of_masks: Sequence[tuple[Mask, Sequence[int]]],
) -> bool:
    """Whether a posted sketch is that of the masked values that its owner published.

    `of_masked` is the sketch of y, `of_masks` each of its masks with the sketch of its stream; the
    streams are known modulo 2^32, so that is how they compare. r has zeros for this: 2^31 added to
    two values would change no sum of ±1 by anything but multiples of 2^32.
    """
    for k, value in enumerate(values):
        masked = value + sum(mask.sign * numbers[k] for mask, numbers in of_masks)
        if (masked - of_masked[k]) % 2**32:
            return False
    return True


def _squares(values: Sequence[int]) -> int:
    return sum(value * value for value in values)


# The four numbers of a byte of a digest: r_k is bit 2k less bit 2k + 1, the highest bit first.
_TERNARY: Final = np.array(
    [[(byte >> 7 - 2 * k & 1) - (byte >> 6 - 2 * k & 1) for k in range(4)] for byte in range(256)],
    np.int8,
)
