"""Small files that survive being killed at any point: written whole or not at all."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from protocol.errors import Misconfigured


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path` such that a reader sees the old bytes or all the new ones.

    The bytes are on disk before the name changes, so a crash afterwards cannot lose them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode(), mode)


def read_json(path: Path) -> Any:
    """Return the JSON value at `path`; Misconfigured with one line when there is none."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Misconfigured(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read as JSON: {error}") from error


def append_json_line(path: Path, value: Any) -> None:
    """Append `value` as one line; lines of several processes do not mix (one short write each)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(value, separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone, waiting until nobody else does.

    The lock ends with the process, however that ends. POSIX only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
