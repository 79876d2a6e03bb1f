"""The chain's clock: the wall clock plus an offset, and always later than the parent block."""

import time
from collections.abc import Callable


class Clock:
    """Gives the timestamp of the next block, in seconds since 1970.

    The next timestamp is max(parent + 1, wall clock + offset), or exactly the pinned one.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._pinned: int | None = None
        self.offset = 0

    def next_timestamp(self, parent: int) -> int:
        """Return the timestamp of a block mined now on a parent with timestamp `parent`."""
        if self._pinned is not None:
            return self._pinned
        return max(parent + 1, int(self._wall()) + self.offset)

    def advanced_offset(self, parent: int, seconds: int) -> int:
        """Return the offset with which the next timestamp is `seconds` later than it is now.

        Counted from the next block, not from the wall clock: many blocks in a second run ahead of
        it, and someone who waits for a deadline by moving the clock must still get past it.
        """
        return self.next_timestamp(parent) - int(self._wall()) + seconds

    def pin(self, timestamp: int) -> None:
        """Fix the timestamp of the next block; the clock goes on from there once it is mined."""
        self._pinned = timestamp

    def unpin(self) -> None:
        """Forget a pinned timestamp."""
        self._pinned = None

    def settle(self) -> None:
        """Note that the next block was mined: a pinned timestamp becomes the clock's reading."""
        if self._pinned is not None:
            self.offset = self._pinned - int(self._wall())
            self._pinned = None
