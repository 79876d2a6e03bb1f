"""Compile the loops into numba's cache, and measure whether they are faster on this CPU.

    python -m protocol.compiled.warm_up

`make setup` runs it. It has to run again after an update of this package, of Python or of numba,
and on another CPU; until then `protocol.speed` leaves the compiled loops off.
"""

import hashlib
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Final

import numpy as np

from protocol.average import move_plain

# A quarter of a megabyte takes a millisecond or less: long for a clock, and inside the L2 cache, so
# that the loops are compared and not the memory.
_SAMPLE_BYTES: Final = 1 << 18
_UPDATES: Final = 4
_TRIES: Final = 5


def measure(kernels: ModuleType) -> tuple[float, float]:
    """Return the average's speedup over numpy, and how many lanes are as fast as hashlib."""
    # 1. Hashing: sixteen lanes side by side against one message by hashlib.
    data = np.zeros(_SAMPLE_BYTES, np.uint8)
    chains, places = kernels.START.copy(), np.empty(kernels.LANES, np.int64)

    def all_lanes() -> None:
        places[:] = data.ctypes.data  # every lane reads the same bytes: only the time counts
        kernels.advance(chains, places, _SAMPLE_BYTES // kernels.BLOCK_BYTES)

    lanes = _seconds(all_lanes) / _seconds(lambda: hashlib.sha256(data.data))
    # 2. The average of a few updates over a model as it lies in layer files, big-endian.
    size = _SAMPLE_BYTES // _UPDATES
    updates = list((np.arange(_SAMPLE_BYTES) % 255 - 127).astype(np.int8).reshape(_UPDATES, size))
    before, target = np.arange(size).astype(">i4"), np.empty(size, ">i4")
    weights, shift = list(range(1, _UPDATES + 1)), 11
    sources = np.array([update.ctypes.data for update in updates], np.int64)
    factors = np.array(weights, np.int64)
    compiled_s = _seconds(
        lambda: kernels.move_into(
            sources, factors, shift, before.ctypes.data, True, target.view(np.uint32)
        )
    )
    plain_s = _seconds(lambda: move_plain(target, before, updates, weights, shift))
    return plain_s / compiled_s, lanes


def _seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of several tries, which a busy machine does not distort."""
    times = []
    for _ in range(_TRIES):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def main() -> int:
    """Compile, measure and record; return the exit code."""
    if find_spec("numba") is None:
        print("numba is not installed: numpy and hashlib do all the work")
        return 0
    from protocol.compiled import kernels, record  # with numba, which is optional

    # 1. Compile what it takes to measure.
    start = time.monotonic()
    kernels.prepare(with_hashing=False)
    speedup, lanes = measure(kernels)
    # 2. Compile the rest of hashing only where it wins: that is most of the time.
    is_hashing_faster = lanes <= kernels.LANES
    if is_hashing_faster:
        kernels.prepare(with_hashing=True)
    # 3. The record comes last: it promises that all it turns on is in the cache.
    try:
        record.write(record.Measured(record.fingerprint(), speedup, lanes))
    except OSError as error:
        print(f"the compiled loops stay off: {error}", file=sys.stderr)
        return 1
    hashing = f"SHA-256 in lanes is faster from {lanes:.1f} messages on"
    print(
        f"compiled loops: ready after {time.monotonic() - start:.1f} s;"
        f" the average runs at {speedup:.1f} times numpy's rate;"
        f" {hashing if is_hashing_faster else 'SHA-256 is left to hashlib, which is faster here'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
