"""Whether there is room for a job, asked before its first byte instead of in the middle of it."""

import shutil
from pathlib import Path

import psutil

from protocol.errors import Misconfigured


def check_disk(folder: Path, needed: int, purpose: str) -> int:
    """Return the free bytes on the disk of `folder`; Misconfigured when `needed` are not there."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise Misconfigured(
            f"{purpose} takes {needed:,} bytes of disk, {folder} has {free:,} left: "
            f"free {needed - free:,} bytes or use another folder"
        )
    return free


def check_memory(needed: int, purpose: str) -> int:
    """Return the bytes of memory available; Misconfigured when `needed` are not."""
    free: int = psutil.virtual_memory().available  # without swapping
    if needed > free:
        raise Misconfigured(
            f'{purpose} takes {needed:,} bytes of memory, {free:,} are free: use mode "layerwise"'
        )
    return free


def bytes_in(folder: Path) -> int:
    """Return the size of all files below `folder`: what need not be written again."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
