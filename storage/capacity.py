"""Checks of free disk and memory, before the first byte of a job instead of in its middle."""

import shutil
from pathlib import Path

import psutil

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
    free: int = psutil.virtual_memory().available  # without swapping
    if needed > free:
        raise Misconfigured(
            f'{purpose} takes {needed:,} bytes of memory, {free:,} are free: use mode "layerwise"'
        )
    return free


def bytes_in(folder: Path) -> int:
    """Return the size of all files below `folder`, which need not be written again."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
