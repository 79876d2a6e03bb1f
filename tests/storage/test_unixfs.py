"""Files as DAGs, against CIDs of a real daemon and against the bytes themselves."""

import io
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.cid import DAG_PB, RAW
from storage.cid import Cid
from storage.dag_pb import FileRecord, Link, NotAFile, decode_node, encode_node
from storage.unixfs import (
    MAX_DEPTH,
    MAX_LINKS,
    Block,
    ImportOptions,
    compute_cid,
    file_bytes,
    import_file,
    read_chunks,
    read_file,
)
from tests.storage.content import content

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cids.json").read_text())
Blocks = dict[bytes, bytes]


def import_bytes(data: bytes, options: ImportOptions) -> tuple[Link, Blocks]:
    blocks: Blocks = {}
    roots: list[Link] = []

    def collect() -> Iterator[Block]:
        roots.append((yield from import_file(io.BytesIO(data), options)))

    for block in collect():
        blocks[block.cid.digest] = block.data
    return roots[0], blocks


def getter(blocks: Blocks) -> Callable[[Cid], bytes]:
    return lambda cid: blocks[cid.digest]


def put_node(blocks: Blocks, links: list[Link], record: FileRecord) -> Cid:
    block = encode_node(links, record)
    cid = Cid.of_block(block, version=1, codec=DAG_PB)
    blocks[cid.digest] = block
    return cid


def put_raw(blocks: Blocks, data: bytes) -> Cid:
    blocks[sha256(data).digest()] = data
    return Cid.of_block(data, version=1, codec=RAW)


@pytest.mark.parametrize("case", VECTORS["files"], ids=lambda case: case["cid"][:12])
def test_files_get_the_cids_a_real_daemon_gave_them(case: dict[str, Any]) -> None:
    # The answers of js-ipfs, as the file says: Kubo's own binary could not be had.
    data = content(case["size"])
    assert sha256(data).hexdigest() == case["sha256"]
    root, _ = import_bytes(data, ImportOptions(case["cid_version"], case["raw_leaves"]))
    assert (str(root.cid), root.total_bytes) == (case["cid"], case["total_bytes"])


@pytest.mark.parametrize("case", VECTORS["texts"], ids=lambda case: case["cid"][:12])
def test_texts_get_their_well_known_cids(case: dict[str, Any]) -> None:
    options = ImportOptions(case["cid_version"], case["raw_leaves"])
    root, _ = import_bytes(case["text"].encode(), options)
    assert str(root.cid) == case["cid"]


def test_one_chunk_is_named_by_the_hash_of_the_content() -> None:
    data = content(262_144)
    assert Cid.parse(compute_cid(io.BytesIO(data))) == Cid(1, RAW, sha256(data).digest())


OPTIONS = st.builds(ImportOptions, st.sampled_from([0, 1]), st.booleans(), st.integers(1, 7))


@given(st.binary(max_size=900), OPTIONS, st.data())
def test_what_was_imported_is_read_back(data: bytes, options: ImportOptions, draw: Any) -> None:
    root, blocks = import_bytes(data, options)
    assert all(sha256(block).digest() == digest for digest, block in blocks.items())
    assert file_bytes(root.cid, getter(blocks)) == len(data)
    offset = draw.draw(st.integers(0, len(data) + 3))
    length = draw.draw(st.none() | st.integers(0, len(data) + 3))
    end = None if length is None else offset + length
    read = b"".join(read_file(root.cid, getter(blocks), offset, length))
    assert read == data[offset:end]


@pytest.mark.parametrize(
    ("leaves", "levels"),
    [(1, 0), (2, 1), (MAX_LINKS, 1), (MAX_LINKS + 1, 2), (MAX_LINKS**2 + 1, 3)],
)
def test_full_levels_grow_a_new_root(leaves: int, levels: int) -> None:
    root, blocks = import_bytes(content(leaves), ImportOptions(chunk_bytes=1))
    depth, cid = 0, root.cid
    while cid.codec == DAG_PB:
        links, _ = decode_node(blocks[cid.digest])
        assert len(links) <= MAX_LINKS
        depth, cid = depth + 1, links[-1].cid
    assert depth == levels
    assert b"".join(read_file(root.cid, getter(blocks))) == content(leaves)


def test_a_part_is_read_without_fetching_the_rest() -> None:
    root, blocks = import_bytes(content(1000), ImportOptions(chunk_bytes=10))
    fetched: list[Cid] = []

    def get(cid: Cid) -> bytes:
        fetched.append(cid)
        return blocks[cid.digest]

    assert b"".join(read_file(root.cid, get, 500, 15)) == content(1000)[500:515]
    assert len(fetched) == 3  # the root and two leaves


class Sluggish(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 3))


@given(st.binary(max_size=100), st.integers(1, 10))
def test_chunks_are_whole_however_little_a_read_returns(data: bytes, size: int) -> None:
    chunks = list(read_chunks(Sluggish(data), size))
    assert b"".join(chunks) == data
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(chunks)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_node_are_refused(data: bytes) -> None:
    try:
        links, record = decode_node(data)
    except NotAFile:
        return
    assert len(links) == len(record.block_sizes)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_node_is_refused_or_still_consistent(position: int, value: int) -> None:
    _, blocks = import_bytes(content(40), ImportOptions(chunk_bytes=10))
    node = bytearray(next(block for block in blocks.values() if len(block) > 100))
    node[position % len(node)] = value
    try:
        links, record = decode_node(bytes(node))
    except NotAFile:
        return
    assert record.file_bytes == len(record.data) + sum(record.block_sizes)
    assert len(links) == len(record.block_sizes)


def test_a_directory_is_no_file() -> None:
    with pytest.raises(NotAFile, match="type 1"):
        decode_node(bytes.fromhex("0a020801"))  # the empty directory, QmUNLLsPACCz…


def test_a_tree_without_end_is_cut_off() -> None:
    blocks: Blocks = {}
    cid = put_raw(blocks, b"x")
    for _ in range(MAX_DEPTH):
        cid = put_node(blocks, [Link(cid, 1)], FileRecord(b"", 1, [1]))
    with pytest.raises(NotAFile, match="deeper"):
        list(read_file(cid, getter(blocks)))


def test_empty_blocks_are_refused_so_that_reading_makes_progress() -> None:
    blocks: Blocks = {}
    cid = put_raw(blocks, b"")
    for _ in range(3):
        cid = put_node(blocks, [Link(cid, 1)] * 100, FileRecord(b"", 0, [0] * 100))
    with pytest.raises(NotAFile, match="empty block"):
        list(read_file(cid, getter(blocks)))


def test_a_child_of_another_size_than_its_parent_says_is_refused() -> None:
    blocks: Blocks = {}
    leaf = put_raw(blocks, b"four")
    cid = put_node(blocks, [Link(leaf, 4)], FileRecord(b"", 5, [5]))
    with pytest.raises(NotAFile, match="holds 4 bytes where its parent says 5"):
        list(read_file(cid, getter(blocks)))
