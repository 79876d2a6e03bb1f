"""The weighted mean of integers, the same on every machine and on the chain (docs/protocol.md §7).

    mean = floor((2 · Σ w·x + W) / (2 · W)),  W = Σ w,  1 ≤ w,  W < 2^31

Since |x| ≤ 2^31, every partial sum stays within ±2^63: 64-bit integers cannot overflow, and the
order of the updates cannot matter. Golden vectors: tests/vectors/average.json.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.errors import Misconfigured

MAX_TOTAL_WEIGHT: Final = 2**31 - 1

_BLOCK: Final = 65_536  # values at once: two int64 blocks of them stay in the L2 cache


def weighted_mean(
    updates: Sequence[NDArray[np.int32]], weights: Sequence[int]
) -> NDArray[np.int32]:
    """Return the weighted mean, rounded to the nearest integer and a tie upwards, as int32.

    `updates` are int32 arrays of one shape, in either byte order, one per weight; the result has
    that shape and native byte order. Raises Misconfigured on anything else, or on bad weights.
    """
    _check_weights(weights)
    _check_updates(updates, len(weights))
    total = sum(weights)
    mean = np.empty(updates[0].shape, dtype=np.int32)
    target = mean.reshape(-1)
    sources = [update.reshape(-1) for update in updates]
    accumulator = np.empty(min(_BLOCK, target.size), dtype=np.int64)
    product = np.empty_like(accumulator)
    for start in range(0, target.size, _BLOCK):
        part = slice(start, min(start + _BLOCK, target.size))
        numerator, term = accumulator[: part.stop - start], product[: part.stop - start]
        numerator.fill(total)
        for source, weight in zip(sources, weights, strict=True):
            term[:] = source[part]
            term *= 2 * weight
            numerator += term
        numerator //= 2 * total  # numpy's // rounds down, also below zero
        target[part] = numerator
    return mean


def _check_weights(weights: Sequence[int]) -> None:
    if not weights:
        raise Misconfigured("nothing to average: no update was given")
    low = min(weights)
    if low < 1:
        raise Misconfigured(f"weight {low} was given, a weight is at least 1")
    if sum(weights) > MAX_TOTAL_WEIGHT:
        raise Misconfigured(f"the weights add up to {sum(weights)}, the limit is 2^31 - 1")


def _check_updates(updates: Sequence[NDArray[np.int32]], count: int) -> None:
    if len(updates) != count:
        raise Misconfigured(f"{len(updates)} updates and {count} weights were given")
    shape = updates[0].shape
    for update in updates:
        if update.dtype.kind != "i" or update.dtype.itemsize != 4:
            raise Misconfigured(f"an update is {update.dtype}, int32 was expected")
        if update.shape != shape:
            raise Misconfigured(f"an update has shape {update.shape}, the first has {shape}")
