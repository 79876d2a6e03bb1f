"""Numbers from a seed that are the same on every machine and with every library version.

A frozen LoRA matrix (`ffa`) or a generated model must have the same bits at every participant. No
random generator of numpy or torch promises that across versions and devices; SHAKE-256 does.
tests/training/test_seeded.py holds fixed values.
"""

import hashlib
from math import prod

import numpy as np
from numpy.typing import NDArray


def uniform_values(label: str, shape: tuple[int, ...], bound: float) -> NDArray[np.float32]:
    """Return float32 values of `shape`, uniform in [-bound, bound), determined by `label`."""
    # The top 24 bits of each little-endian word of SHAKE-256(label): as many as float32 holds
    # exactly, so that nothing is rounded before the multiplication by `bound`.
    words = np.frombuffer(hashlib.shake_256(label.encode()).digest(4 * prod(shape)), dtype="<u4")
    unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
    return (unit * np.float32(bound)).reshape(shape)


def shuffled_order(label: str, count: int) -> NDArray[np.int64]:
    """Return the numbers 0 to count-1 in an order determined by `label`; int64, shape (count,)."""
    # Sorting random keys, stably, leaves nothing to the library but the order of integers.
    keys = np.frombuffer(hashlib.shake_256(label.encode()).digest(8 * count), dtype="<u8")
    return np.argsort(keys, kind="stable").astype(np.int64)
