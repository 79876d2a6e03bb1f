"""Files as DAGs of blocks, cut as `ipfs add` cuts them: the same bytes give the same CID.

    chunks of 262,144 bytes → leaves → nodes of up to 174 links → … → one root

A file of one chunk is a single leaf: with raw leaves, a raw block whose digest is the SHA-256 of
the content. Commonweight always imports with `ImportOptions()` (CIDv1, raw leaves), so a CID in a
manifest can be recomputed from the content without a daemon. No I/O beyond the given stream or
block source. Golden vectors: tests/vectors/cids.json.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from protocol.cid import DAG_PB, RAW
from storage.cid import Cid
from storage.dag_pb import FileRecord, Link, NotAFile, decode_node, encode_node

CHUNK_BYTES: Final = 262_144
MAX_LINKS: Final = 174  # Kubo's width: 8 KiB of links at about 47 bytes each
MAX_DEPTH: Final = 16  # four levels of 174 links already hold 240 TB


class Readable(Protocol):
    """Anything that is read piece by piece: a binary file, a socket, one part of an upload."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        ...


@dataclass(frozen=True)
class ImportOptions:
    """How to cut a file; every field changes the CID of content longer than a chunk.

    The defaults are those of Commonweight and of `ipfs add --cid-version=1`; version 0 without raw
    leaves is a plain `ipfs add` of Kubo.
    """

    cid_version: int = 1
    raw_leaves: bool = True
    chunk_bytes: int = CHUNK_BYTES


class Block(NamedTuple):
    """A block and the identifier that names it."""

    cid: Cid
    data: bytes


class _Branch(NamedTuple):
    link: Link
    file_bytes: int


class DagBuilder:
    """Builds the balanced DAG of a file from its chunks, keeping up to 174 links per level.

    Call `add_chunk` for each chunk in order (all but the last of exactly `chunk_bytes`), then
    `finish`; both return the blocks that are now complete, children before parents.
    """

    def __init__(self, options: ImportOptions | None = None) -> None:
        self._options = options or ImportOptions()
        self._levels: list[list[_Branch]] = []

    def add_chunk(self, chunk: bytes) -> list[Block]:
        """Return the new leaf and every node that was full before it."""
        if self._options.raw_leaves:
            # Raw leaves exist from CIDv1 on: below a version 0 root they are version 1 as well.
            leaf = Block(Cid.of_block(chunk, version=1, codec=RAW), chunk)
            link = Link(leaf.cid, len(chunk))
        else:
            leaf, link = self._node([], FileRecord(chunk, len(chunk), []))
        blocks = [leaf]
        self._append(_Branch(link, len(chunk)), 0, blocks)
        return blocks

    def finish(self) -> tuple[list[Block], Link]:
        """Return the remaining nodes and the link to the root: its CID and the size of all blocks.

        An empty file is one empty leaf.
        """
        blocks = [] if self._levels else self.add_chunk(b"")
        level = 0
        # Closing a level may start the one above: the root is the only branch of the last level.
        while level + 1 < len(self._levels) or len(self._levels[level]) > 1:
            self._close(level, blocks)
            level += 1
        return blocks, self._levels[level][0].link

    def _append(self, branch: _Branch, level: int, blocks: list[Block]) -> None:
        # A full level is closed only when one more child arrives: the last one may be the root.
        if level == len(self._levels):
            self._levels.append([])
        if len(self._levels[level]) == MAX_LINKS:
            self._close(level, blocks)
        self._levels[level].append(branch)

    def _close(self, level: int, blocks: list[Block]) -> None:
        children = self._levels[level]
        self._levels[level] = []  # before `_append`, which may close the level above
        sizes = [child.file_bytes for child in children]
        record = FileRecord(b"", sum(sizes), sizes)
        block, link = self._node([child.link for child in children], record)
        blocks.append(block)
        self._append(_Branch(link, record.file_bytes), level + 1, blocks)

    def _node(self, links: list[Link], record: FileRecord) -> tuple[Block, Link]:
        data = encode_node(links, record)
        cid = Cid.of_block(data, version=self._options.cid_version, codec=DAG_PB)
        return Block(cid, data), Link(cid, len(data) + sum(link.total_bytes for link in links))


def read_chunks(stream: Readable, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the stream in chunks of `chunk_bytes`, except the last, however `read` cuts it."""
    while True:
        parts, missing = [], chunk_bytes
        while missing and (part := stream.read(missing)):
            parts.append(part)
            missing -= len(part)
        if parts:
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        if missing:
            return


def import_file(
    stream: Readable, options: ImportOptions | None = None
) -> Generator[Block, None, Link]:
    """Yield every block of the file, children before parents; return the link to its root."""
    options = options or ImportOptions()
    builder = DagBuilder(options)
    for chunk in read_chunks(stream, options.chunk_bytes):
        yield from builder.add_chunk(chunk)
    blocks, root = builder.finish()
    yield from blocks
    return root


def compute_cid(stream: Readable) -> str:
    """Return the CID under which `ipfs add --cid-version=1` stores the stream's content."""
    builder = DagBuilder()
    for chunk in read_chunks(stream):
        builder.add_chunk(chunk)
    _, root = builder.finish()
    return str(root.cid)


def _open_block(cid: Cid, block: bytes) -> tuple[list[Link], FileRecord]:
    return ([], FileRecord(block, len(block), [])) if cid.codec == RAW else decode_node(block)


GetBlock = Callable[[Cid], bytes]
"""Returns a block whose hash has been checked; may raise anything when it has none."""


def file_bytes(root: Cid, get_block: GetBlock) -> int:
    """Return the file's size in bytes according to its root block; NotAFile if it is no file."""
    _, record = _open_block(root, get_block(root))
    return record.file_bytes


def read_file(
    root: Cid, get_block: GetBlock, offset: int = 0, length: int | None = None
) -> Iterator[bytes]:
    """Yield the file's bytes from `offset` on, at most `length` of them, one block at a time.

    Only blocks that hold wanted bytes are fetched; one block per level is held. Raises NotAFile
    when a block is no file, sizes contradict one another, or the tree is deeper than `MAX_DEPTH`.
    """
    stop = None if length is None else offset + length
    yield from _read(root, get_block, None, offset, stop, MAX_DEPTH)


def _read(
    cid: Cid, get_block: GetBlock, size: int | None, start: int, stop: int | None, depth: int
) -> Iterator[bytes]:
    if depth == 0:
        raise NotAFile(f"{cid}: the file's tree is deeper than {MAX_DEPTH} levels")
    block = get_block(cid)
    links, record = _open_block(cid, block)
    # A parent's sizes decide what is read below it: a false one would shift all that follows.
    if size is not None and record.file_bytes != size:
        raise NotAFile(f"{cid} holds {record.file_bytes} bytes where its parent says {size}")
    if data := record.data[start:stop]:
        yield data
    position = len(record.data)
    for link, child in zip(links, record.block_sizes, strict=True):
        if child == 0:
            # Kubo writes none; refusing them means each block read brings at least one byte.
            raise NotAFile(f"{cid} links to an empty block")
        if start < position + child and (stop is None or position < stop):
            below = None if stop is None else stop - position
            yield from _read(link.cid, get_block, child, max(start - position, 0), below, depth - 1)
        position += child
