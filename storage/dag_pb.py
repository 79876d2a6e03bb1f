"""The bytes of one dag-pb node and of the UnixFS record inside it.

    node    field 2 (repeated) link, then field 1 data: links first, as IPFS has always written it
    link    field 1 hash (binary CID), field 2 name (empty in a file), field 3 total size
    record  field 1 type (2 = file), field 2 data, field 3 file size, field 4 (repeated) block sizes

https://ipld.io/specs/codecs/dag-pb/spec/ and https://specs.ipfs.tech/unixfs/. The few fields are
written by hand: a protobuf library would be larger than this file and may order fields in its own
way, but identifiers depend on every byte. Golden vectors: tests/vectors/cids.json.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from protocol.errors import CommonweightError, Misconfigured
from storage.cid import Cid

_VARINT: Final = 0
_BYTES: Final = 2
_MAX_VARINT_BYTES: Final = 10  # 64 bits, 7 to a byte
_RAW_TYPE: Final = 0
_FILE_TYPE: Final = 2


class NotAFile(CommonweightError):
    """A block matches its CID and yet is no part of a UnixFS file: no daemon can mend that."""


class Link(NamedTuple):
    """A node's link to a child; `total_bytes` counts the child's block and all blocks below it."""

    cid: Cid
    total_bytes: int


class FileRecord(NamedTuple):
    """A UnixFS node's record of the file below it: `data` comes first, then one block per link."""

    data: bytes
    file_bytes: int
    block_sizes: list[int]


def encode_node(links: Sequence[Link], record: FileRecord) -> bytes:
    """Return the block of a UnixFS file node, byte for byte as Kubo writes it."""
    # The links come before the data though their field number is higher, and an empty name is
    # written though protobuf would leave it out: the CID depends on both.
    node = bytearray()
    for link in links:
        cid, total = _bytes_field(1, link.cid.to_bytes()), _varint_field(3, link.total_bytes)
        node += _bytes_field(2, cid + _bytes_field(2, b"") + total)
    content = bytearray(_varint_field(1, _FILE_TYPE))
    if record.data:
        content += _bytes_field(2, record.data)
    content += _varint_field(3, record.file_bytes)
    for size in record.block_sizes:
        content += _varint_field(4, size)
    return bytes(node + _bytes_field(1, bytes(content)))


def decode_node(block: bytes) -> tuple[list[Link], FileRecord]:
    """Return links and record of a UnixFS file node; NotAFile for any other bytes."""
    links: list[Link] = []
    record: FileRecord | None = None
    for number, value in _fields(block):
        if not isinstance(value, bytes):
            raise NotAFile("a dag-pb node has a number where links and data belong")
        if number == 2:
            links.append(_decode_link(value))
        elif number == 1 and record is None:
            record = _decode_record(value)
        else:
            raise NotAFile(f"a dag-pb node has an unexpected field {number}")
    if record is None:
        raise NotAFile("a dag-pb node has no UnixFS record")
    # A reader seeks by the sizes and follows the links: both must tell of the same children.
    if len(links) != len(record.block_sizes):
        found = f"{len(links)} links and {len(record.block_sizes)} block sizes"
        raise NotAFile(f"a UnixFS node has {found}: one size per link was expected")
    if record.file_bytes != len(record.data) + sum(record.block_sizes):
        raise NotAFile("a UnixFS node's file size is not the sum of its parts")
    return links, record


def _decode_link(data: bytes) -> Link:
    # Names and unknown fields are skipped: they change no byte of the file.
    cid, total = None, 0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            try:
                cid = Cid.from_bytes(value)
            except Misconfigured as error:
                raise NotAFile(f"a link's {error}") from error
        elif number == 3 and isinstance(value, int):
            total = value
    if cid is None:
        raise NotAFile("a dag-pb link names no block")
    return Link(cid, total)


def _decode_record(data: bytes) -> FileRecord:
    kind, content, file_bytes, sizes = None, b"", None, []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            content = value
        elif number == 3 and isinstance(value, int):
            file_bytes = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
    # Type raw (0) is deprecated, but leaves of older files have it.
    if kind not in (_RAW_TYPE, _FILE_TYPE):
        raise NotAFile(f"a UnixFS node is of type {kind}: only files (2) are read")
    return FileRecord(content, len(content) if file_bytes is None else file_bytes, sizes)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each protobuf field's number and value; NotAFile when the bytes are cut short."""
    offset = 0
    while offset < len(data):
        key, offset = _read_varint(data, offset)
        value, offset = _read_varint(data, offset)
        # Both wire types begin with a varint: the value itself, or the length of what follows.
        if key & 7 == _VARINT:
            yield key >> 3, value
        elif key & 7 == _BYTES and value <= len(data) - offset:
            yield key >> 3, data[offset : offset + value]
            offset += value
        else:
            raise NotAFile("a dag-pb block is not well-formed protobuf")


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    number = 0
    # At most ten bytes: a longer one would be a number without end, in quadratic time.
    for position, byte in enumerate(data[offset : offset + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return number, offset + position + 1
    raise NotAFile("a dag-pb block is cut short inside a number")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varint_field(field: int, number: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(number)


def _bytes_field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data
