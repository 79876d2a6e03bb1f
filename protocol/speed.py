"""The switch between the loops of `protocol.compiled` and plain numpy and hashlib.

numba is optional (extra `fast`). Compiling the loops takes many seconds and must not happen while a
round waits, so `python -m protocol.compiled.warm_up`, a part of `make setup`, compiles them into
numba's cache and records beside it whether they are faster on this CPU. Without that record, or
with one of another CPU, version of numba or source, the loops stay off. Which of the two did the
work never shows in a single bit.
"""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Final

# Loading numba and the cached loops takes about a second, which less work would not win back.
WORTH_LOADING_BYTES: Final = 256 << 20

_asked = 0


def kernels(size: int) -> ModuleType | None:
    """Return the compiled loops for work on `size` bytes, or None: use numpy and hashlib.

    The bytes of all calls in this process are added up; `load` does not wait for them.
    """
    global _asked
    _asked += size  # no lock: an addition lost between threads only puts the loading off
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
    """Return `protocol.compiled.kernels`, ready to run, or None where the switch is off.

    Once it has been called, `kernels` returns the same for any size.
    """
    global _asked
    _asked = WORTH_LOADING_BYTES
    if find_spec("numba") is None:
        return None
    from protocol.compiled import kernels as compiled  # with numba, which is optional
    from protocol.compiled import record

    measured = record.read()
    if measured is None or measured.move_speedup <= 1:
        return None
    # From the cache, which the fingerprint in the record vouches for.
    compiled.prepare(with_hashing=measured.break_even_lanes <= compiled.LANES)
    return compiled


@cache
def break_even() -> float:
    """Return how many messages fill enough lanes to beat hashlib; infinite with the loops off."""
    if load() is None:
        return float("inf")
    from protocol.compiled import record

    measured = record.read()
    return float("inf") if measured is None else measured.break_even_lanes
