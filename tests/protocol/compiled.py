"""The compiled loops for tests, whatever the switch of this machine says."""

from importlib.util import find_spec
from math import inf
from types import ModuleType
from typing import Any, Final

import pytest

from protocol import speed

WAYS: Final[list[Any]] = ["plain", "compiled", pytest.param("in lanes", marks=pytest.mark.slow)]
"""Numpy and hashlib; the loops that this machine uses; those and hashing in lanes.

Where hashlib is faster, as on CPUs with SHA instructions, `make setup` leaves hashing in lanes
uncompiled, and compiling it takes longer than every test of it.
"""


def choose_way(way: str, patch: pytest.MonkeyPatch) -> None:
    """Do all work in one of `WAYS`, however little it is; skip the test without numba."""
    has_lanes = way == "in lanes" or (way == "compiled" and uses_lanes())
    compiled = None if way == "plain" else compiled_kernels(with_hashing=has_lanes)
    if way != "plain" and compiled is None:
        pytest.skip("numba is not installed")
    patch.setattr(speed, "kernels", lambda size: compiled)
    patch.setattr(speed, "break_even", lambda: 1.0 if has_lanes else inf)


def uses_lanes() -> bool:
    """Whether `make setup` found hashing in lanes faster here, and so compiled it."""
    if find_spec("numba") is None:
        return False
    from protocol.compiled import kernels, record  # numba is optional

    measured = record.read()
    return measured is not None and measured.break_even_lanes <= kernels.LANES


def compiled_kernels(*, with_hashing: bool) -> ModuleType | None:
    """Return the loops, compiled now where numba's cache lacks them; None without numba."""
    if find_spec("numba") is None:
        return None
    from protocol.compiled import kernels  # numba is optional

    kernels.prepare(with_hashing=with_hashing)
    return kernels
