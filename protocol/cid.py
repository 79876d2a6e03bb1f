"""IPFS content identifiers (docs/protocol.md §5): CIDv1, sha2-256, base32.

    'b' + base32(0x01 ‖ codec ‖ 0x12 ‖ 0x20 ‖ digest), lower case, unpadded

The codec is 0x55 (raw: the digest is the SHA-256 of the content) or 0x70 (dag-pb: the root of a
file cut into chunks). Golden vectors: tests/vectors/cids.json.
"""

from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from typing import Final

from protocol.errors import Misconfigured
from protocol.types import Digest

RAW: Final = 0x55
DAG_PB: Final = 0x70

_LENGTH: Final = 59  # 'b' and 58 letters for 36 bytes
_PADDING: Final = "======"  # base32 works in groups of 8 letters: 58 and 6 are 64


def format_cid(codec: int, digest: Digest) -> str:
    """Return the CIDv1 of a block with this codec and SHA-256 digest."""
    packed = bytes((0x01, codec, 0x12, 0x20)) + digest
    return "b" + b32encode(packed).decode("ascii").lower().rstrip("=")


def parse_cid(cid: str) -> tuple[int, Digest]:
    """Return codec and digest; Misconfigured unless spelled exactly as `format_cid` does."""
    try:
        packed = b32decode(cid[1:].upper() + _PADDING) if len(cid) == _LENGTH else b""
    except (Base32Error, ValueError):
        packed = b""
    if len(packed) == 36:
        codec, digest = packed[1], Digest(packed[4:])
        # Writing it again refuses capitals, other prefixes and stray bits in the last letter: two
        # spellings of one CID would give two digests of one manifest.
        if codec in (RAW, DAG_PB) and format_cid(codec, digest) == cid:
            return codec, digest
    raise Misconfigured(f"{cid[:80]!r} is not a CIDv1 of a raw or dag-pb block in base32")


def raw_cid(digest: Digest) -> str:
    """Return the CID ("bafkrei…") of a raw block whose SHA-256 is `digest`."""
    return format_cid(RAW, digest)


def digest_of_raw_cid(cid: str) -> Digest:
    """Return the SHA-256 in a raw block's CID; Misconfigured for any other CID."""
    codec, digest = parse_cid(cid)
    if codec != RAW:
        raise Misconfigured(f"{cid!r} does not name a raw block")
    return digest
