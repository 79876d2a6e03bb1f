"""Shows that a store takes an upload and gives it back, before anything depends on it.

    prove_store(store, 1_840_000, GatewayStore(…))
    prove_gateway(GatewayStore(…), store)

A store that can be read and not written (a proxy before it that limits bodies, a full disk, a
read-only key) costs a participant the penalty of every round: it commits, and cannot publish. And a
gateway that looks elsewhere for what its store does not hold is a proxy for everybody.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from protocol.canonical import sha256
from protocol.encoding import BLOCK_BYTES
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.types import Digest
from storage.blocks import ReadableStore, Store
from storage.gateway import GatewayStore, Missing

# All of it is put; of a large upload a few blocks are read back, the last and shortest among them.
_READ_BACK: Final = 4

# A gateway knows at once what its own store holds; one that asks its peers takes longer than this
# for what nobody has (a Kubo's 30 s).
_AT_ONCE_S: Final = 10.0


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


def prove_gateway(gateway: GatewayStore, store: Store, elsewhere: Iterable[Digest] = ()) -> None:
    """Return when a gateway answers, and looks nowhere else for what `store` does not hold.

    `elsewhere` are blocks that others have. Raises Unavailable when it does not answer, or does not
    say within 10 s that it lacks a block, and Misconfigured when it serves one of another's.
    """
    gateway.probe()
    # 1. What another has. One is enough: each may be a long search.
    line, wanted = gateway.gateway.line, [each for each in elsewhere if not store.has(each)][:1]
    # 2. What nobody has, and so what a daemon that knows no peer yet would look for in vain.
    wanted.append(sha256(os.urandom(32)))
    for digest in wanted:
        try:
            gateway.get_block(digest, deadline=time.monotonic() + _AT_ONCE_S)
        except Missing:
            continue
        except Unavailable as error:
            raise Unavailable(
                f"{error}: it has no such block and should say so. Does it look for it elsewhere?"
                " Kubo's gateway does without Gateway.NoFetch = true",
                service="storage",
            ) from error
        raise Misconfigured(
            f"{line} serves a block that {store.address} does not hold: anybody could fetch"
            " anything through it. Kubo's gateway is published with Gateway.NoFetch = true"
        )


def _sizes(size: int) -> list[int]:
    return [min(BLOCK_BYTES, size - start) for start in range(0, max(size, 1), BLOCK_BYTES)]
