"""How much two updates resemble each other, in exact integers (docs/protocol.md §6, check 12).

    floor(10,000 · ⟨a, b⟩ / isqrt(Σa² · Σb²))

Products and squares are taken block by block and added up by the caller; all of them are Python
integers, so that no sum can overflow. Golden vectors: tests/vectors/similarity.json.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.types import FULL_BASIS_POINTS

SIMILAR: Final = 9_000
"""From here on an update fails check 12, in basis points."""

# |a · b| <= 2^14, so 1,024 products add up to 2^24 at most: integers up to there are exact in
# float32, in whatever order BLAS adds them and with whatever instructions.
_COLUMNS: Final = 1_024


def similarity(product: int, squares_a: int, squares_b: int) -> int:
    """Return the similarity in basis points; 0 for a product below zero and for vectors of zeros.

    `product` is ⟨a, b⟩, the squares are Σa² and Σb².
    """
    if product <= 0 or not squares_a or not squares_b:
        return 0
    return FULL_BASIS_POINTS * product // isqrt(squares_a * squares_b)


def products(
    vectors: Sequence[NDArray[np.int8]], others: Sequence[NDArray[np.int8]] | None = None
) -> list[list[int]]:
    """Return ⟨vectors[i], others[j]⟩ for all i and j, exactly; without `others`, the Gram matrix.

    All are one-dimensional int8 arrays of one size: the same block of each update.
    """
    others = vectors if others is None else others
    sums = np.zeros((len(vectors), len(others)), np.int64)
    size = vectors[0].size if vectors and others else 0
    for start in range(0, size, _COLUMNS):
        part = slice(start, start + _COLUMNS)
        left = np.array([vector[part] for vector in vectors], np.float32)
        right = left
        if others is not vectors:
            right = np.array([other[part] for other in others], np.float32)
        sums += (left @ right.T).astype(np.int64)
    return [[int(product) for product in row] for row in sums]


def movement_products(
    vectors: Sequence[NDArray[np.int8]], movement: NDArray[np.int64]
) -> list[int]:
    """Return ⟨vector, movement⟩ for each vector, exactly, for at most 2^23 values.

    `movement` is new - old of the model in quanta, each |value| <= 2^32.
    """
    # |product| <= 2^7 · 2^32, and 2^23 of them stay within 2^62.
    return [int(vector.astype(np.int64) @ movement) for vector in vectors]


def sum_of_squares(values: NDArray[np.int8]) -> int:
    """Return Σ values² exactly, for a contiguous array of at most 2^48 values."""
    kernels = speed.kernels(values.nbytes)
    if kernels is not None:
        return int(kernels.squares(values.ctypes.data, values.size))
    squares = values.astype(np.int16)
    squares *= squares  # 2^14 at most
    return int(squares.sum(dtype=np.int64))


def movement_squares(movement: NDArray[np.int64]) -> int:
    """Return Σ movement² exactly, for |value| <= 2^32 and at most 2^28 of them.

    Each value is split into high · 2^16 + low with 0 <= low < 2^16 and |high| <= 2^16, so that the
    three sums of products stay within 2^60.
    """
    high, low = movement >> 16, movement & 0xFFFF
    squares_high, mixed, squares_low = high @ high, high @ low, low @ low
    return (int(squares_high) << 32) + (int(mixed) << 17) + int(squares_low)
