"""What every store has in common: blocks, named by their SHA-256, and the time one may take."""

import math
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Final, Protocol

from profiling.traffic import TRAFFIC
from protocol.canonical import MAX_DOCUMENT_BYTES
from protocol.canonical import sha256 as compute_sha256
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.encoding import BLOCK_BYTES
from protocol.errors import Misconfigured, Rejected, WrongBytes
from protocol.types import Digest
from storage.http import TimeLimit

MAX_BLOCK_BYTES: Final = max(BLOCK_BYTES, MAX_DOCUMENT_BYTES)
"""The largest block that is put: 1 MiB. Every IPFS daemon stores and passes on such blocks."""

SLOWEST_BYTES_PER_S: Final = 131_072
"""A block may take `timeout_s` plus its time at this rate, and not a day."""

MAX_PASSED_BYTES: Final = 2 << 20
"""The largest block that an IPFS daemon passes on to another."""

_BATCH_BYTES: Final = 16 << 20


class ReadableStore(Protocol):
    """Where blocks can be read."""

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return the block with this SHA-256, which must have `size` bytes where that is known.

        It must have come whole by `deadline`, in seconds of time.monotonic(). Raises Unavailable,
        WrongBytes when other bytes arrive, and Rejected(Check.DIGESTS) when it is the right block,
        but has another size: whoever named it with that size is at fault, and every reader finds
        the same.
        """


class Store(ReadableStore, Protocol):
    """Where a role keeps its own blocks. Any number of threads may share it.

    Every method raises Unavailable, in one line that names the store, when the store does not
    comply; none tries again.
    """

    @property
    def address(self) -> str:
        """What the settings call it, and messages."""

    def put_block(self, data: bytes) -> Digest:
        """Store and pin one block; return its SHA-256. Raises like `put_blocks`."""

    def put_blocks(self, blocks: Iterable[bytes], *, pinned: bool = True) -> list[Digest]:
        """Store and pin each of `blocks`; return their SHA-256, from which their CIDs follow.

        What is not `pinned` may go when the store tidies up. Raises Misconfigured for a block of
        more than `MAX_BLOCK_BYTES`.
        """

    def has(self, digest: Digest) -> bool:
        """Whether the store itself has this block; nobody else is asked."""

    def remove_blocks(self, digests: Collection[Digest], *, also_pinned: bool = True) -> None:
        """Unpin these blocks and remove them; those that are not there need nothing.

        Without `also_pinned` all that is pinned stays, in a store that has pins.
        """


def time_limit(
    size: int, timeout_s: float, slowest_bytes_per_s: int, deadline: float = math.inf
) -> TimeLimit:
    """Return how long `size` bytes may take, by `deadline` at the latest (time.monotonic())."""
    left_s = max(deadline - time.monotonic(), 0.0)
    return TimeLimit(timeout_s, min(timeout_s + size / slowest_bytes_per_s, left_s))


def longest(size: int | None) -> int:
    """Return how many bytes are read of a block that should have `size`, where that is known."""
    # Up to what is passed on at all, to tell a block that is too long from a source that sends too
    # much. The first such block ends the fetching of an update.
    return MAX_BLOCK_BYTES if size is None else MAX_PASSED_BYTES


def join_block(pieces: Iterable[bytes], digest: Digest, size: int | None, source: str) -> bytes:
    """Return the block that arrives in `pieces` from `source`, verified.

    Raises as `ReadableStore.get_block` does.
    """
    cid, most = raw_cid(digest), longest(size)
    data = bytearray()
    for piece in pieces:
        data += piece
        TRAFFIC.add(received=len(piece))
        if len(data) > most:  # counted as it arrives: a source may send without end
            raise WrongBytes(f"{cid}: more than {most} bytes from {source}")
    found = compute_sha256(data)
    if found != digest:
        raise WrongBytes(f"{cid}: sha256 {found.hex()} instead of {digest.hex()}, from {source}")
    if size is not None and len(data) != size:
        raise Rejected(Check.DIGESTS, f"{cid} has {len(data):,} bytes, {size:,} were expected")
    return bytes(data)


def batches(blocks: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    """Yield consecutive blocks in lists of at most `most` blocks and 16 MiB, held in memory.

    Raises Misconfigured for a block of more than `MAX_BLOCK_BYTES`.
    """
    batch: list[bytes] = []
    held = 0
    for block in blocks:
        if len(block) > MAX_BLOCK_BYTES:
            raise Misconfigured(f"a block of {len(block)} bytes: at most {MAX_BLOCK_BYTES} fit one")
        if batch and (len(batch) == most or held + len(block) > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(block)
        held += len(block)
    if batch:
        yield batch
