"""Peak memory of stretches of time that may overlap: in parallel threads, or one within another.

Linux keeps one high-water mark of a process's resident memory (VmHWM) and resets it on request
(proc(5), clear_refs). It is reset where a stretch begins or ends, after every open stretch has
taken it into account. A peak is therefore that of the whole process, libraries and other threads
included, during that stretch. Where the mark cannot be reset, it is the peak since the process
began.
"""

import os
import resource
import sys
import threading
from contextlib import suppress
from typing import Final

_STATUS: Final = "/proc/self/status"
_CLEAR_REFS: Final = "/proc/self/clear_refs"
_RESET_MARK: Final = b"5"  # proc(5): reset the peak resident set size


class Stretch:
    """A stretch of this process's time; `peak`, in bytes, is final once it has ended."""

    def __init__(self) -> None:
        self.peak = 0


class PeakMemory:
    """Any number of open stretches, begun and ended by any thread."""

    def __init__(self) -> None:
        self._open: set[Stretch] = set()
        # Reentrant: the garbage collector may close a generator, and so end a stretch, in the
        # middle of another call by the same thread.
        self._lock = threading.RLock()

    def begin(self) -> Stretch:
        """Begin a stretch and return it."""
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
        # Every open stretch, not only the one that begins or ends: the reset loses it for all.
        mark = _read_mark()
        for stretch in tuple(self._open):  # a copy: see the lock
            stretch.peak = max(stretch.peak, mark)
        with suppress(OSError):  # not Linux, or a sandbox: the mark stays the process's
            descriptor = os.open(_CLEAR_REFS, os.O_WRONLY)
            try:
                os.write(descriptor, _RESET_MARK)
            finally:
                os.close(descriptor)


def _read_mark() -> int:
    """Return the high-water mark of resident memory in bytes."""
    # Opened each time, since a descriptor kept over a fork would be the parent's; without pathlib,
    # which takes longer than the kernel does. psutil has no high-water mark on Linux.
    try:
        descriptor = os.open(_STATUS, os.O_RDONLY)
        try:
            status = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        return int(status[status.index(b"VmHWM:") :].split(None, 2)[1]) * 1024
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, else KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


PEAK_MEMORY: Final = PeakMemory()
