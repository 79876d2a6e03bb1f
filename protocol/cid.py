"""IPFS content identifiers (docs/protocol.md §5): CIDv1 of raw blocks, sha2-256, base32.

    'b' + base32(0x01 ‖ 0x55 ‖ 0x12 ‖ 0x20 ‖ digest), lower case, unpadded

0x55 is the codec raw: the digest is the SHA-256 of the content.
Golden vectors: tests/vectors/cids.json.
"""

from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from typing import Final

from protocol.errors import Misconfigured
from protocol.types import Digest

_HEAD: Final = bytes((0x01, 0x55, 0x12, 0x20))
_LENGTH: Final = 59  # 'b' and 58 letters for 36 bytes
_PADDING: Final = "======"  # base32 works in groups of 8 letters: 58 and 6 are 64


def raw_cid(digest: Digest) -> str:
    """Return the CID ("bafkrei…") of a raw block whose SHA-256 is `digest`."""
    return "b" + b32encode(_HEAD + digest).decode("ascii").lower().rstrip("=")


def digest_of_raw_cid(cid: str) -> Digest:
    """Return the SHA-256 in a raw block's CID; Misconfigured unless spelled as `raw_cid` does."""
    try:
        packed = b32decode(cid[1:].upper() + _PADDING) if len(cid) == _LENGTH else b""
    except (Base32Error, ValueError):
        packed = b""
    digest = Digest(packed[len(_HEAD) :])
    # Writing it again refuses capitals, other prefixes and stray bits in the last letter.
    if len(packed) == 36 and raw_cid(digest) == cid:
        return digest
    raise Misconfigured(f"{cid[:80]!r} is not the CIDv1 of a raw block in base32")
