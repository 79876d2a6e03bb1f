"""JSON as one sequence of bytes only: RFC 8785 (docs/protocol.md §5)."""

from hashlib import sha256 as _sha256
from typing import Any, Final

import rfc8785

from protocol.errors import Misconfigured
from protocol.quantities import Digest

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""A spec or manifest is one IPFS block, and a block is 1 MiB at most."""


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value: sorted keys, no spaces, one form of number.

    Raises Misconfigured for what JSON cannot hold: NaN, integers from 2^53 on, lone surrogates.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise Misconfigured(f"this cannot be written as canonical JSON: {error}") from error


def sha256(data: bytes | bytearray | memoryview) -> Digest:
    """Return the SHA-256 of `data`."""
    return Digest(_sha256(data).digest())
