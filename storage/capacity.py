"""Checks of free disk and memory, before the first byte of a job instead of in its middle."""

import os
import shutil
from pathlib import Path

from protocol.errors import Misconfigured


def check_disk(folder: Path, needed: int, purpose: str) -> int:
    """Return the free bytes on the disk of `folder`; Misconfigured when fewer than `needed`."""
    # The folder may not exist yet; its nearest parent lies on the same disk.
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise Misconfigured(
            f"{purpose} takes {needed:,} bytes of disk, {folder} has {free:,} left: "
            f"free {needed - free:,} bytes or use another folder"
        )
    return free


def check_memory(needed: int, purpose: str) -> int:
    """Return the available bytes of memory; Misconfigured when fewer than `needed`."""
    free = free_memory()
    if needed > free:
        raise Misconfigured(
            f'{purpose} takes {needed:,} bytes of memory, {free:,} are free: use mode "layerwise"'
        )
    return free


def free_memory() -> int:
    """Return the bytes of memory that are available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: caches count as taken here
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kilobytes) * 1024


def bytes_in(folder: Path) -> int:
    """Return the size of all files below `folder`, which need not be written again."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
