"""Draws from the operating system's randomness: for noise and samples that nobody can repeat.

A generator with a seed will not do. Who guesses the seed subtracts the noise, and seeds elsewhere
in this project follow from public values and the data.
"""

import os

import numpy as np
from numpy.typing import NDArray

_BITS = 53  # of a float64's fraction


def uniform(count: int) -> NDArray[np.float64]:
    """Return `count` values from [0, 1), multiples of 2^-53; float64."""
    words = np.frombuffer(os.urandom(8 * count), np.uint64)
    return (words >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS


def gaussian(count: int) -> NDArray[np.float64]:
    """Return `count` values of the standard normal distribution, by Box and Muller; float64."""
    pairs = -(-count // 2)
    # 1 - u is never 0. The largest value is 8.57, which noise exceeds once in 10^17 draws.
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform(pairs)))
    angle = 2.0 * np.pi * uniform(pairs)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def chosen(count: int, rate: float) -> NDArray[np.int64]:
    """Return which of `count` records a step takes, each by itself with probability `rate`."""
    return np.flatnonzero(uniform(count) < rate).astype(np.int64)


def seed() -> int:
    """Return 63 random bits, for what only has to differ, such as dropout."""
    return int.from_bytes(os.urandom(8)) >> 1
