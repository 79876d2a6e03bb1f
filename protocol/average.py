"""The new model of a round, identical on every machine and on the chain (docs/protocol.md §7).

    S = Σ w·d, held within ±127·W,  W = Σ w,  1 ≤ w,  W < 2^24,  s = 24 - grid
    new = old + floor((2^(s+1) · S + W) / (2 · W)), held within ±(2^31 - 1)

S fits in 32 bits and 2^(s+1) · S in 57, so no step can overflow, and the order of the updates
cannot matter. Golden vectors: tests/vectors/average.json, tests/vectors/moves.json.

Whole checkpoints (`commonweight model average`) are averaged as they are, by `weighted_mean`.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.differences import check_grid
from protocol.encoding import FRACTION_BITS, MAX_STEPS, MAX_VALUE
from protocol.errors import Misconfigured

MAX_TOTAL_WEIGHT: Final = 2**24 - 1

_BLOCK: Final = 32_768  # values at once: an int64 block of them stays in the L2 cache


def most_moved(grid: int) -> int:
    """Return the furthest that a value of the model can move in a round, in quanta: 127 · 2^s."""
    return MAX_STEPS << (FRACTION_BITS - grid)


def move_model(
    before: NDArray[np.int32],
    updates: Sequence[NDArray[np.int8]],
    weights: Sequence[int],
    grid: int,
) -> NDArray[np.int32]:
    """Return the model after a round: `before` moved by the weighted mean of the updates.

    `before` is int32 in either byte order, `updates` int8 of its shape, one per weight, in steps of
    2^-grid; the result has that shape and native byte order. Raises Misconfigured for anything
    else, or for bad weights.
    """
    moved = np.empty(before.shape, dtype=np.int32)
    move_into(moved, before, updates, weights, grid)
    return moved


def move_into(
    target: NDArray[np.int32],
    before: NDArray[np.int32],
    updates: Sequence[NDArray[np.int8]],
    weights: Sequence[int],
    grid: int,
) -> None:
    """As `move_model`, written to `target`, a contiguous int32 array in either byte order."""
    _check_weights(weights)
    _check_arrays([target, before], 4, target.shape)
    _check_arrays(updates, 1, target.shape)
    _check_count(updates, weights)
    flat, old, shift = target.reshape(-1), np.ravel(before), FRACTION_BITS - check_grid(grid)
    sources = [np.ravel(update) for update in updates]
    kernels = speed.kernels(flat.size * len(updates))
    # The compiled loop takes one byte order for both: to mix them is legal, but nobody does.
    if kernels is not None and flat.dtype == old.dtype:
        places = np.array([source.ctypes.data for source in sources], np.int64)
        factors, is_swapped = np.array(weights, np.int64), not flat.dtype.isnative
        kernels.move_into(places, factors, shift, old.ctypes.data, is_swapped, flat.view(np.uint32))
    else:
        move_plain(flat, old, sources, weights, shift)


def move_plain(
    target: NDArray[np.int32],
    before: NDArray[np.int32],
    sources: Sequence[NDArray[np.int8]],
    weights: Sequence[int],
    shift: int,
) -> None:
    """Write the moved model to `target` by numpy alone; all arrays are one-dimensional."""
    total = sum(weights)
    for start in range(0, target.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        sums = _weighted_sum([source[part] for source in sources], weights)
        target[part] = _moved(before[part], sums, total, shift)


def sum_into(
    target: NDArray[np.int32], updates: Sequence[NDArray[np.int8]], weights: Sequence[int]
) -> None:
    """Write S = Σ w·d to `target`, a contiguous int32 array in either byte order.

    With W below 2^24 it cannot overflow. Raises Misconfigured as `move_into` does.
    """
    _check_weights(weights)
    _check_arrays([target], 4, target.shape)
    _check_arrays(updates, 1, target.shape)
    _check_count(updates, weights)
    flat, sources = target.reshape(-1), [np.ravel(update) for update in updates]
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        flat[part] = _weighted_sum([source[part] for source in sources], weights)


def move_by_sum_into(
    target: NDArray[np.int32],
    before: NDArray[np.int32],
    sums: NDArray[np.int32],
    total: int,
    grid: int,
) -> None:
    """Write what `move_into` gives for updates of which only S and W, `total`, are known.

    `sums` may be any 32 bits, as those of masked updates are (docs/protocol.md §13): they are held
    within ±127·W. Raises Misconfigured as `move_into` does.
    """
    _check_weights([total])
    _check_arrays([target, before, sums], 4, target.shape)
    flat, old, every = target.reshape(-1), np.ravel(before), np.ravel(sums)
    shift = FRACTION_BITS - check_grid(grid)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        flat[part] = _moved(old[part], every[part], total, shift)


def move_without_into(
    target: NDArray[np.int32],
    before: NDArray[np.int32],
    sums: NDArray[np.int32],
    update: NDArray[np.integer[Any]],
    weights: tuple[int, int],
    grid: int,
) -> None:
    """Write what `move_into` gives with zeros in the place of one update, and W unchanged.

    `sums` is S over all updates (`sum_into`), and `weights` are that of `update` and W. `update`
    may also be what of it is to be taken away, as whole steps within ±254 (docs/protocol.md §9).
    """
    weight, total = weights
    flat, old, every, one = target.reshape(-1), np.ravel(before), np.ravel(sums), np.ravel(update)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        left = every[part] - one[part].astype(np.int64) * weight
        flat[part] = _moved(old[part], left, total, FRACTION_BITS - grid)


def _weighted_sum(sources: Sequence[NDArray[np.int8]], weights: Sequence[int]) -> NDArray[np.int32]:
    """Return Σ w·d of one-dimensional arrays."""
    sums = np.zeros(sources[0].size, np.int32)  # 128 · W <= 2^31 - 128
    for source, weight in zip(sources, weights, strict=True):
        term = source.astype(np.int32)
        term *= weight
        sums += term
    return sums


def _moved(
    before: NDArray[np.int32], sums: NDArray[np.integer[Any]], total: int, shift: int
) -> NDArray[np.int64]:
    """Return the model after a round from S; all of it fits 64 bits, see above."""
    moved: NDArray[np.int64] = np.clip(sums, -MAX_STEPS * total, MAX_STEPS * total).astype(np.int64)
    moved <<= shift + 1
    moved += total
    moved //= 2 * total  # numpy's // rounds down, also below zero
    moved += before
    np.clip(moved, -MAX_VALUE, MAX_VALUE, out=moved)
    return moved


def weighted_mean(layers: Sequence[NDArray[np.int32]], weights: Sequence[int]) -> NDArray[np.int32]:
    """Return floor((2 · Σ w·x + W) / (2 · W)) as int32: the mean, ties upwards.

    `layers` are int32 arrays of one shape, in either byte order, one per weight; the result has
    that shape and native byte order. Raises Misconfigured for anything else, or for bad weights.
    """
    _check_weights(weights)
    _check_count(layers, weights)
    mean = np.empty(layers[0].shape, dtype=np.int32)
    mean_into(mean, layers, weights)
    return mean


def mean_into(
    target: NDArray[np.int32], layers: Sequence[NDArray[np.int32]], weights: Sequence[int]
) -> None:
    """As `weighted_mean`, written to `target`, a contiguous int32 array in either byte order."""
    _check_weights(weights)
    _check_count(layers, weights)
    _check_arrays([target, *layers], 4, target.shape)
    flat, sources, total = target.reshape(-1), [np.ravel(layer) for layer in layers], sum(weights)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        sums = np.full(flat[part].size, total, np.int64)  # the half that rounding adds
        for source, weight in zip(sources, weights, strict=True):
            term = source[part].astype(np.int64)
            term *= 2 * weight
            sums += term
        sums //= 2 * total
        flat[part] = sums


def _check_weights(weights: Sequence[int]) -> None:
    if not weights:
        raise Misconfigured("nothing to average: no update was given")
    low = min(weights)
    if low < 1:
        raise Misconfigured(f"weight {low} was given, a weight is at least 1")
    if sum(weights) > MAX_TOTAL_WEIGHT:  # beyond, a sum of differences might overflow 32 bits
        raise Misconfigured(f"the weights add up to {sum(weights)}, the limit is 2^24 - 1")


def _check_count(updates: Sequence[NDArray[Any]], weights: Sequence[int]) -> None:
    if len(updates) != len(weights):
        raise Misconfigured(f"{len(updates)} updates and {len(weights)} weights were given")


def _check_arrays(arrays: Sequence[NDArray[Any]], itemsize: int, shape: tuple[int, ...]) -> None:
    for array in arrays:
        if array.dtype.kind != "i" or array.dtype.itemsize != itemsize:
            expected = f"int{8 * itemsize}"
            raise Misconfigured(f"an array is {array.dtype}, {expected} was expected")
        if array.shape != shape:
            raise Misconfigured(f"an array has shape {array.shape}, {shape} was expected")
