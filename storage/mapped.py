"""A file read through the page cache, without a copy and with little memory counted against us.

Reading a cached file copies every byte; mapping it does not, and halved the time of averaging.
Mapping has two consequences. Whoever truncates a mapped file while it is read kills this process,
so only files of our own state folder are mapped. And touched pages count as this process's memory
until `forget`.
"""

import mmap
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from protocol.errors import Misconfigured

HUGE_PAGE_BYTES: Final = 2 << 20


class MappedFile:
    """`size` bytes of a file from `start` on, as the uint8 array `data`.

    `start` is a multiple of the page size. `window` is roughly the number of bytes read before they
    are forgotten: where it is less than a huge page, small pages are mapped, so that touching one
    byte does not count as two megabytes.
    Raises Misconfigured when the file ends before, or `size` is 0.
    """

    def __init__(
        self, path: Path, size: int, window: int = HUGE_PAGE_BYTES, start: int = 0
    ) -> None:
        file = os.open(path, os.O_RDONLY)
        try:
            if os.fstat(file).st_size < start + size:
                raise Misconfigured(
                    f"{path} is shorter than the {start + size:,} bytes the spec asks for"
                )
            if not size:
                raise Misconfigured(f"{path} is empty")
            self._map = mmap.mmap(file, size, access=mmap.ACCESS_READ, offset=start)
        finally:
            os.close(file)
        if size > window:  # else it is read in one go
            self._map.madvise(mmap.MADV_SEQUENTIAL)
            if window < HUGE_PAGE_BYTES and hasattr(mmap, "MADV_NOHUGEPAGE"):
                self._map.madvise(mmap.MADV_NOHUGEPAGE)
        self.data: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def forget(self, start: int, stop: int) -> None:
        """Release the memory of the bytes from `start` to `stop`, which may be read again.

        Both are rounded down to a page, so that consecutive windows leave nothing behind.
        """
        start -= start % mmap.PAGESIZE
        if stop < len(self.data):
            stop -= stop % mmap.PAGESIZE
        if start < stop and stop - start < len(self.data):  # `close` forgets all of it
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def close(self) -> None:
        """Release everything; arrays made from `data` must no longer be used."""
        self.data = np.empty(0, np.uint8)
        with suppress(BufferError):  # an array is still in use: the map closes with it
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
