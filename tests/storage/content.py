"""The content that tests/vectors/cids.json speaks of."""

from hashlib import sha256
from pathlib import Path

from protocol.types import Digest
from storage.unixfs import compute_cid

_PERIOD = bytes((31 * i + 7) % 251 for i in range(251))


def content(size: int) -> bytes:
    """Return `size` bytes: byte i is (31 * (i mod 251) + 7) mod 251."""
    return (_PERIOD * (size // 251 + 1))[:size]


def write(path: Path, size: int) -> tuple[str, Digest]:
    """Write such content to `path`; return its CID and SHA-256."""
    data = content(size)
    path.write_bytes(data)
    with path.open("rb") as file:
        return compute_cid(file), Digest(sha256(data).digest())
