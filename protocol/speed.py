"""Whether the compiled inner loops of `protocol.kernels` are there and worth their second.

numba is optional (extra `fast`). Loading it and its cached code takes about a second, and
compiling on the very first use some fifteen, so a process loads it only once it has much to do.
Which of the ways did the work never shows in a single bit.
"""

import hashlib
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Final

import numpy as np

WORTH_LOADING_BYTES: Final = 256 << 20

_SAMPLE_BYTES: Final = 1 << 18
_asked = 0


def kernels(size: int) -> ModuleType | None:
    """Return `protocol.kernels` for work on `size` bytes, or None: do it with numpy and hashlib.

    The bytes of all calls in this process are added up; `load` does not wait for them.
    """
    global _asked
    _asked += size  # a lost addition of another thread does no harm
    return load() if _asked >= WORTH_LOADING_BYTES else None


def hashing(size: int, messages: int | None = None) -> ModuleType | None:
    """As `kernels`, for SHA-256 of `messages` messages side by side; None: any number.

    A CPU with SHA instructions hashes one message faster than a few in vector lanes.
    """
    compiled = kernels(size)
    if compiled is None:
        return None
    lanes = compiled.LANES if messages is None else min(messages, compiled.LANES)
    return compiled if lanes >= break_even() else None


@cache
def load() -> ModuleType | None:
    """Return `protocol.kernels`, or None without numba; from now on `kernels` returns the same."""
    global _asked
    _asked = WORTH_LOADING_BYTES
    if find_spec("numba") is None:
        return None
    from protocol import kernels as compiled

    return compiled


@cache
def break_even() -> float:
    """Return how many lanes of `protocol.kernels` are as fast as hashlib, measured here and now."""
    compiled = load()
    if compiled is None:
        return float("inf")
    data = np.zeros(_SAMPLE_BYTES, np.uint8)
    chains, places = compiled.START.copy(), np.empty(compiled.LANES, np.int64)

    def all_lanes() -> None:
        places[:] = data.ctypes.data  # every lane reads the same bytes: only the time counts
        compiled.advance(chains, places, _SAMPLE_BYTES // compiled.BLOCK_BYTES)

    all_lanes()  # compiled here, or loaded
    return _seconds(all_lanes) / _seconds(lambda: hashlib.sha256(data.data))


def _seconds(work: Callable[[], object]) -> float:
    """Return the least of three times of this thread, which a busy machine does not distort."""
    times = []
    for _ in range(3):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)
