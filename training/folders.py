"""Cache folders that are whole or absent, also when two processes make the same one at once."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from protocol.errors import Misconfigured


def create_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Return `target`; if it is absent, `fill` a temporary folder beside it and rename that.

    Misconfigured when the cache cannot be written. What `fill` raises passes through, and nothing
    is left behind.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise Misconfigured(f"cannot write the cache folder {target.parent}: {error}") from error
    try:
        fill(temporary)
        temporary.chmod(0o755)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
