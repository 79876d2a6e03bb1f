"""The record of what `protocol.compiled.warm_up` measured, beside numba's cache."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numba
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

from protocol.compiled import kernels

_NAME: Final = "commonweight-kernels.json"


@dataclass(frozen=True)
class Measured:
    """What the compiled loops are worth on this machine."""

    fingerprint: list[str]
    """`fingerprint()` at the time."""
    move_speedup: float
    """The compiled average's rate over that of numpy; the loops are used where it is above 1."""
    break_even_lanes: float
    """How many messages, one by one in hashlib, take as long as all sixteen lanes side by side."""


def cache_folder() -> Path:
    """Return the folder in which numba keeps the compiled loops."""
    return Path(kernels.advance.stats.cache_path)


def fingerprint() -> list[str]:
    """Return what numba's cache depends on: with another fingerprint it would compile anew."""
    source = Path(kernels.__file__).stat()
    return [
        sys.version,
        numba.__version__,
        get_host_cpu_name(),
        get_host_cpu_features().flatten(),
        f"{source.st_size} {source.st_mtime_ns}",
    ]


def read() -> Measured | None:
    """Return what was measured for just these loops on just this CPU, or None."""
    try:
        measured = Measured(**json.loads((cache_folder() / _NAME).read_bytes()))
    except (OSError, ValueError, TypeError):  # damaged counts as missing: the loops are optional
        return None
    return measured if measured.fingerprint == fingerprint() else None


def write(measured: Measured) -> None:
    """Write the record; OSError when numba's cache folder is not writable."""
    path = cache_folder() / _NAME
    part = path.with_name(f".{_NAME}.{os.getpid()}")
    part.write_text(json.dumps(asdict(measured), indent=2) + "\n")
    part.replace(path)  # a process that starts meanwhile reads the old record or the new one
