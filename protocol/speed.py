"""Whether the compiled inner loops of `protocol.kernels` are there and worth their second.

numba is optional (extra `fast`). Loading it and its cached code takes about a second, and
compiling on the very first use some five, so a process loads it only once it has much to do.
Which of the two ways did the work never shows in a single bit.
"""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Final

WORTH_LOADING_BYTES: Final = 256 << 20

_asked = 0


def kernels(size: int) -> ModuleType | None:
    """Return `protocol.kernels` for work on `size` bytes, or None: do it with numpy and hashlib.

    The bytes of all calls in this process are added up; `load` does not wait for them.
    """
    global _asked
    _asked += size  # a lost addition of another thread does no harm
    return load() if _asked >= WORTH_LOADING_BYTES else None


@cache
def load() -> ModuleType | None:
    """Return `protocol.kernels`, or None without numba; from now on `kernels` returns the same."""
    global _asked
    _asked = WORTH_LOADING_BYTES
    if find_spec("numba") is None:
        return None
    from protocol import kernels as compiled

    return compiled
