"""Cache folders that are complete or absent, even when two processes create the same one."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from protocol.errors import Misconfigured


def create_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Return the folder `target`, created and filled by `fill` if it is absent.

    Raises Misconfigured when the cache cannot be written. Whatever `fill` raises passes through,
    and nothing is left behind.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target: a rename is atomic within one file system only.
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise Misconfigured(f"cannot write the cache folder {target.parent}: {error}") from error
    try:
        fill(temporary)
        temporary.chmod(0o755)  # mkdtemp makes it 0o700
        _like_others(temporary)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _like_others(folder: Path) -> None:
    """Give every file the mode that this process's files have; safetensors writes them 0o600."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)
