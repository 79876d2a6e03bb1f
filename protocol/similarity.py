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

# Of each matrix at a time. |a · b| <= 2^14, so 256 products add up to 2^22 at most: integers up to
# 2^24 are exact in float32, in whatever order BLAS adds them and with whatever instructions. And
# OpenBLAS takes products as small as 32 x 32 x 256 in the calling thread: in larger ones its
# threads wait for one another by spinning, ten times slower on a busy machine (measured).
_ROWS: Final = 32
_COLUMNS: Final = 256


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
    is_symmetric = others is None
    left = _as_matrices(vectors)
    right = left if others is None else _as_matrices(others)
    sums = np.zeros((left.shape[1], right.shape[1]), np.int64)
    for i in range(0, len(sums), _ROWS):
        for j in range(i if is_symmetric else 0, sums.shape[1], _ROWS):
            tile = left[:, i : i + _ROWS] @ right[:, j : j + _ROWS].transpose(0, 2, 1)
            # Each is at most 2^22, so their sums are exact in float64 as well.
            exact = tile.sum(axis=0, dtype=np.float64).astype(np.int64)
            sums[i : i + _ROWS, j : j + _ROWS] = exact
            if is_symmetric:
                sums[j : j + _ROWS, i : i + _ROWS] = exact.T
    return [[int(product) for product in row] for row in sums]


def _as_matrices(vectors: Sequence[NDArray[np.int8]]) -> NDArray[np.float32]:
    """Return float32 of shape (matrices, vectors, `_COLUMNS`), filled up with zeros."""
    size = vectors[0].size if len(vectors) else 0
    whole = -(-size // _COLUMNS)
    padded = np.zeros((len(vectors), whole * _COLUMNS), np.float32)
    for row, vector in zip(padded, vectors, strict=True):
        row[:size] = vector
    return padded.reshape(len(vectors), whole, _COLUMNS).transpose(1, 0, 2)


def movement_products(
    vectors: Sequence[NDArray[np.int8]], movement: NDArray[np.int64]
) -> list[int]:
    """Return ⟨vector, movement⟩ for each vector, exactly, for at most 2^23 values.

    `movement` is new - old of the model in quanta, each |value| <= 2^32.
    """
    # |product| <= 2^7 · 2^32, and 2^23 of them stay within 2^62.
    return [int(vector.astype(np.int64) @ movement) for vector in vectors]


def sum_of_squares(values: NDArray[np.int8]) -> int:
    """Return Σ values² exactly, for a contiguous array of at most 2^39 values."""
    kernels = speed.kernels(values.nbytes)
    if kernels is not None:
        return int(kernels.squares(values.ctypes.data, values.size))
    squares = np.square(values, dtype=np.int16)  # at most 2^14
    return int(squares.sum(dtype=np.int64))


def movement_squares(movement: NDArray[np.int64]) -> int:
    """Return Σ movement² exactly, for |value| <= 2^32 and at most 2^28 of them.

    Each value is split into high · 2^16 + low with 0 <= low < 2^16 and |high| <= 2^16, so that the
    three sums of products stay within 2^60.
    """
    high, low = movement >> 16, movement & 0xFFFF
    squares_high, mixed, squares_low = high @ high, high @ low, low @ low
    return (int(squares_high) << 32) + (int(mixed) << 17) + int(squares_low)
