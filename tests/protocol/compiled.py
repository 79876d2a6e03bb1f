"""The compiled loops for tests, whatever the switch of this machine says."""

from importlib.util import find_spec
from types import ModuleType


def compiled_kernels() -> ModuleType | None:
    """Return the loops, compiled now where numba's cache lacks them; None without numba."""
    if find_spec("numba") is None:
        return None
    from protocol.compiled import kernels  # numba is optional

    kernels.prepare(with_hashing=True)
    return kernels
