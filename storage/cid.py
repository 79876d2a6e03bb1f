"""Content identifiers in every spelling that a daemon may use.

    CIDv0   base58btc(0x12 ‖ 0x20 ‖ digest), "Qm…", always a dag-pb block
    CIDv1   multibase(0x01 ‖ codec ‖ 0x12 ‖ 0x20 ‖ digest): base32 "b…", base58btc "z…", base16 "f…"

The protocol's records hold only the spelling of `protocol.cid`. A daemon may answer with another
spelling for the same block, so answers are compared as `Cid`, never as text. Only sha2-256 is
supported. Golden vectors: tests/vectors/cids.json.
"""

import hashlib
from base64 import b32decode
from contextlib import suppress
from typing import Final, NamedTuple

from protocol.cid import DAG_PB, RAW, format_cid
from protocol.errors import Misconfigured
from protocol.types import Digest

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHA2_256: Final = b"\x12\x20"  # multihash code and length in bytes
_MAX_TEXT: Final = 120  # a base16 CIDv1 takes 73 characters


class Cid(NamedTuple):
    """The version (0 or 1), codec (raw or dag-pb) and SHA-256 digest that name a block."""

    version: int
    codec: int
    digest: bytes

    def __str__(self) -> str:
        """Return the usual spelling: base58btc for version 0, base32 for version 1."""
        if self.version == 0:
            return to_base58(_SHA2_256 + self.digest)
        return format_cid(self.codec, Digest(self.digest))

    def to_bytes(self) -> bytes:
        """Return the binary form used in dag-pb links: 34 (v0) or 36 (v1) bytes."""
        prefix = b"" if self.version == 0 else bytes((1, self.codec))
        return prefix + _SHA2_256 + self.digest

    @classmethod
    def of_block(cls, data: bytes, *, version: int, codec: int) -> "Cid":
        """Return the identifier of a block by hashing it."""
        return cls(version, codec, hashlib.sha256(data).digest())

    @classmethod
    def from_bytes(cls, packed: bytes) -> "Cid":
        """Return the identifier in `packed`; raises Misconfigured for unsupported CIDs."""
        if len(packed) == 34 and packed.startswith(_SHA2_256):
            return cls(0, DAG_PB, packed[2:])
        if len(packed) == 36 and packed[0] == 1 and packed[2:4] == _SHA2_256:
            codec = packed[1]
            if codec in (RAW, DAG_PB):
                return cls(1, codec, packed[4:])
        raise Misconfigured(
            f"invalid cid: 0x{packed[:40].hex()} is not a raw or dag-pb block under sha2-256"
        )

    @classmethod
    def parse(cls, text: str) -> "Cid":
        """Return the identifier spelled `text`; raises Misconfigured for unsupported CIDs."""
        base, letters = text[:1], text[1:]
        packed: bytes | None = None
        # The length first: decoding base58 takes quadratic time, and the text is the daemon's.
        if len(text) <= _MAX_TEXT:
            with suppress(ValueError):  # letters outside of the alphabet
                if len(text) == 46 and text.startswith("Qm"):  # version 0 has no multibase letter
                    packed = _from_base58(text)
                elif base == "b" and letters == letters.lower():
                    packed = b32decode(letters.upper() + "=" * (-len(letters) % 8))
                elif base == "z":
                    packed = _from_base58(letters)
                elif base == "f" and letters == letters.lower():
                    packed = bytes.fromhex(letters)
        if packed is None:
            raise Misconfigured(f"invalid cid: {text[:_MAX_TEXT]!r} cannot be decoded")
        return cls.from_bytes(packed)


def to_base58(data: bytes) -> str:
    """Return bytes in Bitcoin's base 58, the spelling of CIDv0 and peer IDs."""
    number = int.from_bytes(data, "big")
    letters = ""
    while number:
        number, index = divmod(number, 58)
        letters = _BASE58[index] + letters
    # A number has no leading zeros: base58 spells each zero byte in front as one "1".
    zeros = len(data) - len(data.lstrip(b"\0"))
    return _BASE58[0] * zeros + letters


def _from_base58(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number * 58 + _BASE58.index(letter)
    zeros = len(text) - len(text.lstrip(_BASE58[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
