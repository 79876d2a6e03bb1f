"""Small files that are written whole or not at all, even if the process is killed."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured
from protocol.text import parse_json

_SYNCS_AT_ONCE: Final = 16


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path` so that a reader sees the old bytes or all the new ones.

    The bytes are on disk before the name changes, so a crash afterwards cannot lose them.
    """
    _replace(path, data, mode, is_synced=True)
    _sync(path.parent)  # the new name itself


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` as `write_atomically` does, on disk only after `sync_files`."""
    _replace(path, data, 0o644, is_synced=False)


def sync_files(paths: Sequence[Path]) -> None:
    """Wait until files that `replace_file` wrote are on disk, contents and names.

    All at once: a disk commits many in the time of one, and an adapter has hundreds of layers.
    """
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        # Contents before names: a name that survives a crash must not lead to an empty file.
        for _ in pool.map(_sync, paths):
            pass
        for _ in pool.map(_sync, {path.parent for path in paths}):
            pass


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode(), mode)


def read_json(path: Path) -> Any:
    """Return the JSON value at `path`; a one-line Misconfigured when there is none."""
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise Misconfigured(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read as JSON: {error}") from error


def append_json_line(path: Path, value: Any) -> None:
    """Append `value` as one line; lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # One write under O_APPEND, not a buffered file's several: the kernel places it as a whole.
    line = json.dumps(value, separators=(",", ":")) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone, after waiting until nobody else does.

    The lock ends with the process, however that ends. POSIX only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The lock file stays: a process waiting for a removed one would hold a lock nobody else sees.
    with (folder / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replace(path: Path, data: bytes, mode: int, *, is_synced: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a rename is atomic only within one file system.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if is_synced:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # KeyboardInterrupt too: nobody else would ever remove the part
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
