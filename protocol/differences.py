"""What a participant publishes: the difference that training made, one signed byte a value.

    d = round_half_even((v' - v + c) · 2^G), held within ±127        c' = (v' - v + c) - d · 2^-G

G is the round's grid and c the rounding error carried from the participant's last update
(docs/protocol.md §2). Golden vectors: tests/vectors/differences.json.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.checks import Check
from protocol.encoding import FRACTION_BITS, MAX_STEPS
from protocol.errors import Misconfigured, Rejected

MAX_GRID: Final = FRACTION_BITS
"""The finest grid: a step is one quantum of the model."""

# The trial of `federation create` asks that the range cover so many root mean squares, and that at
# most one value in so many lie outside (§2).
_COVERED_RMS: Final = 3
_VALUES_PER_CLIPPED: Final = 1_000


class Differences(NamedTuple):
    """A layer of an update, in the layer's shape."""

    steps: NDArray[np.int8]
    """d, in steps of 2^-G."""
    carried: NDArray[np.float64]
    """c', what the participant adds to its next update, in the model's units."""
    clipped: int
    """How many values were held at ±127."""


def encode_differences(
    before: NDArray[np.int32],
    after: NDArray[np.floating[Any]],
    carried: NDArray[np.float64] | None,
    grid: int,
) -> Differences:
    """Return what training made of `before`, the encoded model, in steps of 2^-grid.

    All arrays have the layer's shape; `after` is float16, float32 or float64, and no `carried`
    means zeros. Raises Rejected(Check.RANGE) for NaN and infinity in `after`.
    """
    check_grid(grid)
    for name, array in (("after training", after), ("what was carried", carried)):
        if array is not None and array.shape != before.shape:
            raise Misconfigured(f"the model has shape {before.shape}, {name} {array.shape}")
    finite = np.isfinite(after)
    if not finite.all():
        at = int(np.argmin(finite))
        raise Rejected(Check.RANGE, f"value {at} is {after.reshape(-1)[at]} after training")
    exact: NDArray[np.float64] = after.astype(np.float64)
    exact -= before * 2.0**-FRACTION_BITS
    if carried is not None:
        exact += carried
    with np.errstate(over="ignore"):  # an infinite number of steps is held like any other
        steps = np.rint(exact * 2.0**grid)
    held = np.abs(steps) > MAX_STEPS
    np.clip(steps, -MAX_STEPS, MAX_STEPS, out=steps)
    exact -= steps * 2.0**-grid
    exact[held] = 0.0
    return Differences(steps.astype(np.int8), exact, int(np.count_nonzero(held)))


def decode_differences(steps: NDArray[np.int8], grid: int) -> NDArray[np.float64]:
    """Return steps · 2^-grid, exactly, same shape."""
    return steps.astype(np.float64) * 2.0 ** -check_grid(grid)


def choose_grid(differences: Sequence[NDArray[np.float64]]) -> int:
    """Return the finest grid that fits these differences of all layers, without padding (§2).

    127 steps cover three times their root mean square, and at most one value in 1,000 lies outside.
    Raises Misconfigured when there is no such grid, or when nothing moved.
    """
    count = sum(layer.size for layer in differences)
    total = sum(float(np.sum(np.square(layer, dtype=np.float64))) for layer in differences)
    if not np.isfinite(total):
        raise Misconfigured("training gave values that are not numbers: lower the learning rate")
    if total == 0:
        raise Misconfigured("training changed nothing: raise the learning rate or the steps")
    rms = sqrt(total / count)
    for grid in range(MAX_GRID, -1, -1):
        reach = MAX_STEPS * 2.0**-grid
        outside = sum(int(np.count_nonzero(np.abs(layer) > reach)) for layer in differences)
        if reach >= _COVERED_RMS * rms and outside * _VALUES_PER_CLIPPED <= count:
            return grid
    raise Misconfigured(
        f"training moves values by {rms:.3g} (root mean square), which no grid can hold:"
        " lower the learning rate"
    )


def check_grid(grid: int) -> int:
    """Return `grid` if it is one, 0 to 24; else raise Misconfigured."""
    if not 0 <= grid <= MAX_GRID:
        raise Misconfigured(f"the grid is {grid}, 0 to {MAX_GRID} was expected")
    return grid
