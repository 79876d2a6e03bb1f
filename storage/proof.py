"""Shows that a store takes an upload and gives it back, before anything depends on it.

    prove_store(store, 1_840_000, GatewayStore(…))

A store that can be read and not written (a proxy before it that limits bodies, a full disk, a
read-only key) costs a participant the penalty of every round: it commits, and cannot publish.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from protocol.canonical import sha256
from protocol.encoding import BLOCK_BYTES
from protocol.errors import CommonweightError, Unavailable
from protocol.types import Digest
from storage.blocks import ReadableStore, Store

# All of it is put; of a large upload a few blocks are read back, the last and shortest among them.
_READ_BACK: Final = 4


def prove_store(store: Store, size: int, public: ReadableStore | None = None) -> float:
    """Write `size` random bytes, read from them where others will, remove them; return the seconds.

    Random, so that nothing on the way has them already. Without `public` they are read from the
    store itself. Raises Unavailable, naming what failed, when they do not come back.
    """
    began, sizes = time.monotonic(), _sizes(size)
    digests: list[Digest] = []

    def blocks() -> Iterator[bytes]:
        for length in sizes:
            block = os.urandom(length)
            digests.append(sha256(block))
            yield block

    try:
        store.put_blocks(blocks())
        for digest, length in list(zip(digests, sizes, strict=True))[-_READ_BACK:]:
            if not store.has(digest):
                raise Unavailable(f"{store.address} has lost what it took", service="storage")
            (public or store).get_block(digest, length)
    except CommonweightError:
        with suppress(Unavailable):  # what failed says more
            store.remove_blocks(digests)
        raise
    store.remove_blocks(digests)
    return time.monotonic() - began


def _sizes(size: int) -> list[int]:
    return [min(BLOCK_BYTES, size - start) for start in range(0, max(size, 1), BLOCK_BYTES)]
