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
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple

from protocol.cid import digest_of_raw_cid, raw_cid
from protocol.errors import Misconfigured, Unavailable, WrongBytes
from protocol.types import Digest

PinKind = Literal["recursive", "direct"]

_MULTIHASH: Final = b"\x12\x20"  # SHA-256, 32 bytes


class BlockCount(NamedTuple):
    """The number of blocks in a repository, and their total size."""

    blocks: int
    stored_bytes: int


class BlockRepo:
    """Raw blocks and pins by their SHA-256, in `folder`; safe for many threads.

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

    def block_path(self, digest: Digest) -> Path:
        """Return the path of a block, whether or not it exists."""
        # Kubo's own layout (flatfs, next-to-last/2).
        name = b32encode(_MULTIHASH + digest).decode("ascii").rstrip("=")
        return self.folder / "blocks" / name[-3:-1] / f"{name}.data"

    def put(self, data: bytes) -> Digest:
        """Store a block and return its digest; a damaged one is replaced."""
        digest = Digest(sha256(data).digest())
        self._write(self.block_path(digest), data)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return a block; raise Unavailable if it is missing, WrongBytes if it is damaged."""
        try:
            data = self.block_path(digest).read_bytes()
        except FileNotFoundError:
            raise Unavailable(f"ipld: could not find {raw_cid(digest)}") from None
        if sha256(data).digest() != digest:
            raise WrongBytes(
                f"block in storage has different hash than requested: {raw_cid(digest)}"
            )
        return data

    def size(self, digest: Digest) -> int:
        """Return the size of a block; raise Unavailable if it is missing."""
        try:
            return self.block_path(digest).stat().st_size
        except FileNotFoundError:
            raise Unavailable(f"ipld: could not find {raw_cid(digest)}") from None

    def remove(self, digest: Digest) -> bool:
        """Remove a block; return whether it was there. Misconfigured if it is pinned."""
        with self._pins_lock:
            if kind := self.pin_kind(digest):
                raise Misconfigured(f"pinned: {kind}")
            try:
                self.block_path(digest).unlink()
            except FileNotFoundError:
                return False
        return True

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

    def pin(self, digest: Digest, kind: PinKind) -> None:
        """Record a pin of a block that is here; raise Unavailable if it is missing."""
        with self._pins_lock:
            self.size(digest)
            if kind == "direct" and self.pin_kind(digest) == "recursive":
                raise Misconfigured(f"pin: {raw_cid(digest)} already pinned recursively")
            self._write(self._pin_path(digest), f"{kind}\n".encode())

    def unpin(self, digest: Digest, *, recursive: bool = True) -> None:
        """Remove a pin; raise Misconfigured if there is none, or one of the other kind."""
        with self._pins_lock:
            if not recursive and self.pin_kind(digest) == "recursive":
                raise Misconfigured(f"{raw_cid(digest)} is pinned recursively")
            try:
                self._pin_path(digest).unlink()
            except FileNotFoundError:
                raise Misconfigured("not pinned or pinned indirectly") from None

    def pin_kind(self, digest: Digest) -> PinKind | None:
        """Return how a block is pinned, or None."""
        try:
            text = self._pin_path(digest).read_text()
        except FileNotFoundError:
            return None
        return "direct" if text.startswith("direct") else "recursive"

    def pins(self) -> dict[Digest, PinKind]:
        """Return every pin in the order of the digests."""
        # One that is removed meanwhile is left out.
        pinned = sorted(digest_of_raw_cid(path.name) for path in (self.folder / "pins").iterdir())
        return {digest: kind for digest in pinned if (kind := self.pin_kind(digest))}

    def _pin_path(self, digest: Digest) -> Path:
        return self.folder / "pins" / raw_cid(digest)

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
