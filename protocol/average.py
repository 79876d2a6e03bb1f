"""The weighted mean of integers, identical on every machine and on the chain (docs/protocol.md §7).

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
    """Return the weighted mean as int32, rounded to the nearest integer, ties upwards.

    `updates` are int32 arrays of one shape, in either byte order, one per weight; the result has
    that shape and native byte order. Raises Misconfigured for anything else, or for bad weights.
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
    flat, sources = target.reshape(-1), [np.ravel(update) for update in updates]
    kernels = speed.kernels(target.nbytes * len(updates))
    # The compiled loop takes one byte order for all: to mix them is legal, but nobody does.
    if kernels is not None and len({source.dtype for source in sources}) == 1:
        places = np.array([source.ctypes.data for source in sources], np.int64)
        factors, swapped = np.array(weights, np.int64), _is_swapped(sources[0])
        kernels.mean_into(places, factors, swapped, flat.view(np.uint32), _is_swapped(target))
    else:
        mean_plain(flat, sources, weights)


def mean_plain(
    target: NDArray[np.int32], sources: Sequence[NDArray[np.int32]], weights: Sequence[int]
) -> None:
    """Write the weighted mean to `target` by numpy alone; all arrays are one-dimensional."""
    total = sum(weights)
    for start in range(0, target.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        sums = np.full(target[part].size, total, np.int64)  # the half that rounding adds
        for source, weight in zip(sources, weights, strict=True):
            term = source[part].astype(np.int64)
            term *= 2 * weight
            sums += term
        sums //= 2 * total  # numpy's // rounds down, also below zero
        target[part] = sums


def _is_swapped(values: NDArray[np.int32]) -> bool:
    return not values.dtype.isnative


def _check_weights(weights: Sequence[int]) -> None:
    if not weights:
        raise Misconfigured("nothing to average: no update was given")
    low = min(weights)
    if low < 1:
        raise Misconfigured(f"weight {low} was given, a weight is at least 1")
    if sum(weights) > MAX_TOTAL_WEIGHT:  # beyond, a sum might overflow 64 bits
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
