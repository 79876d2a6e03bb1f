"""Folders whose disk can be filled up: a small file system in memory each, where root allows it."""

import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

_SIZE: Final = "8m"
_FILLER: Final = ".filler"


@cache
def can_mount(folder: Path) -> bool:
    """Whether this process may mount a file system below `folder`."""
    probe = folder / "probe"
    probe.mkdir(exist_ok=True)
    if not mount(probe):
        return False
    unmount(probe)
    return True


def mount(folder: Path) -> bool:
    """Put an empty file system of a few megabytes at `folder`; False when that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    with suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def unmount(folder: Path) -> None:
    """Take it away again."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def fill(folder: Path) -> None:
    """Write until not one byte more fits."""
    handle = os.open(folder / _FILLER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 20, 4096, 1):
        with suppress(OSError):
            while True:
                os.write(handle, bytes(size))
    os.close(handle)


def free(folder: Path) -> None:
    """Make room again."""
    (folder / _FILLER).unlink(missing_ok=True)
