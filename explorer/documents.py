"""Small documents of a store, by their digest: fetched in the background, kept once they came.

A page waits a moment for one. What does not come by then, or is not there, is left out of the page
and asked for again after a while.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, Final

from protocol.errors import Rejected, Unavailable
from protocol.types import Digest
from storage.blocks import ReadableStore

_AGAIN_S: Final = 15.0
_WAIT_S: Final = 0.1  # of the time that a page may take
_AT_ONCE: Final = 4


class Documents:
    """Parsed documents of one store; thread-safe. `on_new` is called when one has come."""

    def __init__(self, store: ReadableStore, on_new: Callable[[], None] = lambda: None) -> None:
        self._store, self._on_new = store, on_new
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="documents")
        self._found: dict[Digest, Any] = {}
        self._fetches: dict[Digest, tuple[float, Future[None]]] = {}

    def get(self, digest: Digest, parse: Callable[[bytes], Any], wait_s: float = _WAIT_S) -> Any:
        """Return what `parse` makes of a document, or None if it does not come by then.

        `parse` raises Rejected for what it cannot read.
        """
        if digest in self._found:
            return self._found[digest]
        asked_at, fetch = self._fetches.get(digest, (-_AGAIN_S, None))
        if (fetch is None or fetch.done()) and time.monotonic() - asked_at >= _AGAIN_S:
            fetch = self._pool.submit(self._fetch, digest, parse)
            self._fetches[digest] = time.monotonic(), fetch
        if fetch is not None:
            wait([fetch], timeout=wait_s)
        return self._found.get(digest)

    def stop(self) -> None:
        """Fetch nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, digest: Digest, parse: Callable[[bytes], Any]) -> None:
        with suppress(Unavailable, Rejected):
            self._found[digest] = parse(self._store.get_block(digest))
            self._on_new()
