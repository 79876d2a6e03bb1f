"""A folder of blocks and pins that is consistent after a kill at any point.

blocks/AB/<multihash in base32>.data    one file per block; AB is the next-to-last pair of letters
pins/<CID>                              one file per pin: "recursive" or "direct"
tmp/                                    half-written files, emptied at start
identity                                the 32 bytes that the peer ID is made of
lock                                    held by the one process that uses the folder
"""

import fcntl
import os
import threading
from base64 import b32encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple

from protocol.cid import RAW
from protocol.errors import Misconfigured, Unavailable, WrongBytes
from storage.cid import Cid
from storage.dag_pb import decode_node
from storage.unixfs import MAX_DEPTH

PinKind = Literal["recursive", "direct"]

_MULTIHASH: Final = b"\x12\x20"  # SHA-256, 32 bytes


class BlockCount(NamedTuple):
    """The number of blocks in a repository, and their total size."""

    blocks: int
    stored_bytes: int


class BlockRepo:
    """Blocks by their SHA-256 and pins by their CID, in `folder`; safe for many threads.

    Raises Misconfigured when the folder cannot be used or another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            for name in ("blocks", "pins", "tmp"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._lock_file = (folder / "lock").open("a")
        except OSError as error:
            reason = error.strerror or str(error)
            raise Misconfigured(f"{folder} cannot hold an IPFS repository: {reason}") from None
        # The kernel releases it when the process ends, however it ends: no stale lock is left.
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise Misconfigured(f"{folder} is in use by another dev IPFS daemon") from None
        self._pins_lock = threading.Lock()
        # Only now that the lock is held: another daemon may be writing them.
        for leftover in (folder / "tmp").iterdir():
            leftover.unlink()

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock_file.close()

    def block_path(self, cid: Cid) -> Path:
        """Return the path of a block, whether or not it exists."""
        # Kubo's own layout (flatfs, next-to-last/2).
        name = b32encode(_MULTIHASH + cid.digest).decode("ascii").rstrip("=")
        return self.folder / "blocks" / name[-3:-1] / f"{name}.data"

    def put(self, cid: Cid, data: bytes) -> None:
        """Store a block whose digest the caller has just computed, replacing a damaged one."""
        self._write(self.block_path(cid), data)

    def get(self, cid: Cid) -> bytes:
        """Return a block; raise Unavailable if it is missing, WrongBytes if it is damaged."""
        try:
            data = self.block_path(cid).read_bytes()
        except FileNotFoundError:
            raise Unavailable(f"ipld: could not find {cid}") from None
        if sha256(data).digest() != cid.digest:
            raise WrongBytes(f"block in storage has different hash than requested: {cid}")
        return data

    def count(self) -> BlockCount:
        """Return the number and total size of all blocks, pinned or not."""
        blocks = stored_bytes = 0
        for path in (self.folder / "blocks").glob("*/*.data"):
            blocks += 1
            stored_bytes += path.stat().st_size
        return BlockCount(blocks, stored_bytes)

    def peer_key(self) -> bytes:
        """Return the 32 random bytes that identify this folder."""
        path = self.folder / "identity"
        if not path.exists():
            self._write(path, os.urandom(32))
        return path.read_bytes()

    def pin(self, cid: Cid, kind: PinKind) -> None:
        """Record a pin if all below it is here; raise Unavailable if a block is missing."""
        if kind == "direct":
            self.get(cid)
            if self.pin_kind(cid) == "recursive":
                raise Misconfigured(f"pin: {cid} already pinned recursively")
        else:
            # Raw leaves are only looked for, not read: they are most of the bytes.
            for each in (cid, *self.descendants(cid)):
                if not self.block_path(each).exists():
                    raise Unavailable(f"ipld: could not find {each}")
        with self._pins_lock:
            self._write(self._pin_path(cid), f"{kind}\n".encode())

    def unpin(self, cid: Cid) -> None:
        """Remove a pin; raise Misconfigured if the CID itself is not pinned."""
        with self._pins_lock:
            try:
                self._pin_path(cid).unlink()
            except FileNotFoundError:
                raise Misconfigured("not pinned or pinned indirectly") from None

    def pin_kind(self, cid: Cid) -> PinKind | None:
        """Return how the CID itself is pinned, or None."""
        try:
            text = self._pin_path(cid).read_text()
        except FileNotFoundError:
            return None
        return "direct" if text.startswith("direct") else "recursive"

    def pins(self) -> dict[Cid, PinKind]:
        """Return every pin in the order of their CIDs."""
        # One that is removed meanwhile is left out.
        cids = sorted(Cid.parse(path.name) for path in (self.folder / "pins").iterdir())
        return {cid: kind for cid in cids if (kind := self.pin_kind(cid))}

    def descendants(self, root: Cid) -> Iterator[Cid]:
        """Yield every CID below `root`, each once, without reading raw blocks."""
        seen: set[Cid] = set()
        level = [root]
        # Level by level, and no deeper than any file can be.
        for _ in range(MAX_DEPTH):
            children = [
                link.cid
                for cid in level
                for link in ([] if cid.codec == RAW else decode_node(self.get(cid))[0])
            ]
            level = [cid for cid in dict.fromkeys(children) if cid not in seen]
            seen.update(level)
            yield from level

    def _pin_path(self, cid: Cid) -> Path:
        return self.folder / "pins" / str(cid)

    def _write(self, path: Path, data: bytes) -> None:
        # Renamed into place: a file is either whole or not there. It is not synced: after a power
        # cut a block may be missing or damaged, which `get` finds.
        part = self.folder / "tmp" / f"{threading.get_ident()}-{path.name}"
        part.write_bytes(data)
        try:
            part.replace(path)
        except FileNotFoundError:  # the first block of its shard
            path.parent.mkdir(exist_ok=True)
            part.replace(path)
