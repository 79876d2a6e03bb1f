"""Sources that look for one block side by side; the first verified bytes win."""

import queue
import threading
import time
from contextvars import copy_context

from protocol.cid import raw_cid
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.types import Digest
from storage.blocks import ReadableStore


class Race:
    """Sources that look for one block side by side."""

    def __init__(self, digest: Digest, size: int | None, deadline: float) -> None:
        self._wanted = (digest, size, deadline)
        self._results: queue.SimpleQueue[tuple[ReadableStore, bytes | Exception]] = (
            queue.SimpleQueue()
        )
        self._running = 0
        self._newest: ReadableStore | None = None
        self._won: tuple[ReadableStore, bytes] | None = None
        self._failures: list[CommonweightError] = []

    def start(self, source: ReadableStore) -> None:
        """Ask one more source."""

        def run() -> None:
            try:
                self._results.put((source, source.get_block(*self._wanted)))
            except Exception as error:  # a fault of ours is raised below: nobody waits for ever
                self._results.put((source, error))

        self._newest = source
        self._running += 1
        # In a copy of the caller's context: the phase that wants the block pays for its bytes.
        in_context = copy_context().run
        # A daemon's thread: the process need not wait for those that lost.
        threading.Thread(target=in_context, args=(run,), daemon=True, name="source").start()

    def is_won(self, seconds: float) -> bool:
        """Wait for a block; give up after `seconds`, or when the newest source has failed."""
        until = time.monotonic() + seconds
        while self._running and self._won is None:
            try:
                source, result = self._results.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                return False
            self._running -= 1
            if isinstance(result, bytes):
                self._won = (source, result)
            elif not isinstance(result, Unavailable | Misconfigured):
                # Rejected: it is the right block, and every source has the same.
                raise result
            else:
                self._failures.append(result)
                if source is self._newest:
                    return False
        return self._won is not None

    def result(self) -> tuple[ReadableStore, bytes]:
        """Wait for those that run; return the block and who had it, or raise the first failure.

        The deadline holds here too: not every source can be told when to end.
        """
        deadline = self._wanted[2]
        while self._running and self._won is None:
            left_s = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
            if left_s <= 0:
                break
            self.is_won(left_s)
        if self._won is None:
            raise self._failure()
        return self._won

    def _failure(self) -> CommonweightError:
        if not self._failures:
            why = "no source had it in time" if self._running else "there is no source to ask"
            return Unavailable(f"{raw_cid(self._wanted[0])}: {why}", service="storage")
        if len(self._failures) == 1:
            return self._failures[0]
        told = dict.fromkeys(str(each) for each in self._failures)
        first, *others = told
        more = f"; {others[-1]}" if others else ""
        further = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        return Unavailable(f"{first}{more}{further}", service="storage")
