"""When blocks were mined: asked of the node once each, many at a time, within a limit of time.

A page about a round names some hundred blocks. What the node does not say in time is left out, and
is there when the page is asked for again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock
from typing import Final

from web3 import Web3

from chain.events import FederationEvent
from ethereum.rpc import plain_errors
from protocol.errors import Unavailable

_AT_ONCE: Final = 8
_WAIT_S: Final = 0.5  # of the second that a page may take
_KEPT: Final = 20_000  # some 2 MB

Key = tuple[int, bytes]


class BlockTimes:
    """The times of blocks in Unix seconds; thread-safe."""

    def __init__(self, w3: Web3) -> None:
        self._w3 = w3
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="block-times")
        self._lock = Lock()
        self._known: OrderedDict[Key, int] = OrderedDict()
        self._asked: dict[Key, Future[None]] = {}

    def of(
        self, events: Iterable[FederationEvent], wait_s: float | None = None
    ) -> Mapping[int, int]:
        """Return the times of the events' blocks by number, as far as they are known in time."""
        keys = {(event.block_number, bytes(event.block_hash)) for event in events}
        with self._lock:
            for key in keys - self._known.keys() - self._asked.keys():
                self._asked[key] = self._pool.submit(self._ask, key)
            pending = [self._asked[key] for key in keys & self._asked.keys()]
        wait(pending, timeout=_WAIT_S if wait_s is None else wait_s)
        with self._lock:
            return {
                number: time for number, found in keys if (time := self._known.get((number, found)))
            }

    def stop(self) -> None:
        """Ask for nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, key: Key) -> None:
        number, expected = key
        time = None
        try:
            with suppress(Unavailable), plain_errors():
                block = self._w3.eth.get_block(number)
                # Another block of that number: the event's own was undone meanwhile.
                time = int(block["timestamp"]) if bytes(block["hash"]) == expected else None
        finally:
            with self._lock:
                del self._asked[key]
                if time is not None:
                    self._known[key] = time
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
