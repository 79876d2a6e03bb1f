"""Peak memory of stretches of time that may overlap: threads side by side, one within another.

Linux keeps one high-water mark of a process's resident memory (VmHWM) and resets it on request
(proc(5), clear_refs). It is reset where a stretch begins or ends; before that every stretch that is
open takes it in. A peak is therefore the whole process's, libraries and other threads included, but
only of that stretch. Where the mark cannot be reset it is the highest since the process began.
"""

import os
import resource
import sys
import threading
from contextlib import suppress
from typing import Final

_STATUS: Final = "/proc/self/status"
_CLEAR_REFS: Final = "/proc/self/clear_refs"
_RESET_MARK: Final = b"5"


class Stretch:
    """Some time of this process; `peak` in bytes is whole once it has ended."""

    def __init__(self) -> None:
        self.peak = 0


class PeakMemory:
    """Any number of stretches, begun and ended by any thread."""

    def __init__(self) -> None:
        self._open: set[Stretch] = set()
        # The collector may end a stretch in the middle of another call.
        self._lock = threading.RLock()

    def begin(self) -> Stretch:
        """Return a stretch that begins now."""
        stretch = Stretch()
        with self._lock:
            self._take_in()
            self._open.add(stretch)
        return stretch

    def end(self, stretch: Stretch) -> int:
        """End a stretch and return its peak in bytes."""
        with self._lock:
            self._take_in()
            self._open.discard(stretch)
        return stretch.peak

    def _take_in(self) -> None:
        mark = _read_mark()
        for stretch in tuple(self._open):
            stretch.peak = max(stretch.peak, mark)
        with suppress(OSError):
            _reset_mark()


def _read_mark() -> int:
    """Return the high-water mark of resident memory in bytes."""
    try:
        status = _read_status()
        return int(status[status.index(b"VmHWM:") :].split(None, 2)[1]) * 1024
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# Opened each time, since another process would come of a fork; not with pathlib, which takes longer
# than the kernel does.


def _read_status() -> bytes:
    descriptor = os.open(_STATUS, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _reset_mark() -> None:
    descriptor = os.open(_CLEAR_REFS, os.O_WRONLY)
    try:
        os.write(descriptor, _RESET_MARK)
    finally:
        os.close(descriptor)


PEAK_MEMORY: Final = PeakMemory()
