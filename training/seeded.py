"""Numbers from a seed that are the same on every machine and for every library version.

A frozen LoRA matrix (`ffa`) or a model made on the spot must have the same bits at every
participant, and no random generator of numpy or torch promises that from one version or device to
the next. SHAKE-256 does. Test: tests/training/test_seeded.py holds fixed values.
"""

import hashlib
from math import prod

import numpy as np
from numpy.typing import NDArray


def uniform_values(label: str, shape: tuple[int, ...], bound: float) -> NDArray[np.float32]:
    """Return float32 values of `shape`, uniform in [-bound, bound), the same for the same `label`.

    Each value is the top 24 bits of one little-endian word of SHAKE-256(label): exact in float32.
    """
    words = np.frombuffer(hashlib.shake_256(label.encode()).digest(4 * prod(shape)), dtype="<u4")
    unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
    return (unit * np.float32(bound)).reshape(shape)


def shuffled_order(label: str, count: int) -> NDArray[np.int64]:
    """Return the numbers 0 to count-1 in an order fixed by `label`; int64, shape (count,)."""
    keys = np.frombuffer(hashlib.shake_256(label.encode()).digest(8 * count), dtype="<u8")
    return np.argsort(keys, kind="stable").astype(np.int64)
