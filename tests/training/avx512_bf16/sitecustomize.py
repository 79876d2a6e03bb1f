"""Makes every Python process with this folder on PYTHONPATH take its CPU for one with AVX512-BF16.

bitsandbytes asks its C library once, while it is imported. Nothing here makes the instructions
work: a process that runs a 4-bit layer's packed weights after all may end by SIGILL.
"""

import ctypes
from typing import Any

_library_class: Any = ctypes.CDLL
_get_symbol = _library_class.__getattr__


def _get_symbol_or_yes(library: ctypes.CDLL, name: str) -> Any:
    return (lambda: True) if name == "has_avx512bf16_cpu" else _get_symbol(library, name)


_library_class.__getattr__ = _get_symbol_or_yes
