"""The weighted mean of integers, the same on every machine and on the chain (docs/protocol.md §7).

    mean = floor((2 · Σ w·x + W) / (2 · W)),  W = Σ w,  1 ≤ w,  W < 2^31

Since |x| ≤ 2^31, every partial sum stays within ±2^63: 64-bit integers cannot overflow, and the
order of the updates cannot matter. Golden vectors: tests/vectors/average.json.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.errors import Misconfigured

MAX_TOTAL_WEIGHT: Final = 2**31 - 1

_BLOCK: Final = 32_768  # values at once: an int64 block of them stays in the L2 cache


def weighted_mean(
    updates: Sequence[NDArray[np.int32]], weights: Sequence[int]
) -> NDArray[np.int32]:
    """Return the weighted mean, rounded to the nearest integer and a tie upwards, as int32.

    `updates` are int32 arrays of one shape, in either byte order, one per weight; the result has
    that shape and native byte order. Raises Misconfigured on anything else, or on bad weights.
    """
    _check_weights(weights)
    _check_updates(updates, len(weights))
    mean = np.empty(updates[0].shape, dtype=np.int32)
    mean_into(mean, updates, weights)
    return mean


def mean_into(
    target: NDArray[np.int32], updates: Sequence[NDArray[np.int32]], weights: Sequence[int]
) -> None:
    """Write the weighted mean to `target`, a contiguous int32 array in either byte order."""
    _check_weights(weights)
    _check_updates([*updates, target], len(weights) + 1)
    kernels = speed.kernels(target.nbytes * len(updates))
    mean_of_block = _mean_plain if kernels is None else _mean_compiled
    flat, sources = target.reshape(-1), [update.reshape(-1) for update in updates]
    sums = np.empty(min(_BLOCK, flat.size), dtype=np.int64)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, min(start + _BLOCK, flat.size))
        mean_of_block(
            flat[part], [source[part] for source in sources], weights, sums[: part.stop - start]
        )


def _mean_plain(
    target: NDArray[np.int32],
    sources: Sequence[NDArray[np.int32]],
    weights: Sequence[int],
    sums: NDArray[np.int64],
) -> None:
    total = sum(weights)
    sums.fill(total)
    term = np.empty_like(sums)
    for source, weight in zip(sources, weights, strict=True):
        term[:] = source
        term *= 2 * weight
        sums += term
    sums //= 2 * total  # numpy's // rounds down, also below zero
    target[:] = sums


def _mean_compiled(
    target: NDArray[np.int32],
    sources: Sequence[NDArray[np.int32]],
    weights: Sequence[int],
    sums: NDArray[np.int64],
) -> None:
    kernels = speed.load()
    assert kernels is not None
    total = sum(weights)
    sums.fill(total)
    for source, weight in zip(sources, weights, strict=True):
        values = np.ascontiguousarray(source).view(np.uint32)
        kernels.add_weighted(values, _is_swapped(source), 2 * weight, sums)
    kernels.divide_down(sums, 2 * total, _is_swapped(target), target.view(np.uint32))


def _is_swapped(values: NDArray[np.int32]) -> bool:
    return not values.dtype.isnative


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
