"""The manifest: the table of contents of an update or a model (docs/protocol.md §5).

It is canonical JSON in one raw IPFS block, so its 32-byte digest on the chain both locates and
proves it.
Golden vectors: tests/vectors/manifest.json.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from protocol.canonical import (
    ChecksumAddress,
    Count,
    Document,
    HexDigest,
    Name,
    Part,
    PositiveCount,
    Shape,
)
from protocol.checks import Check
from protocol.cid import parse_cid
from protocol.errors import Misconfigured, Rejected
from protocol.types import Digest, parse_digest

Kind = Literal["update", "model"]


def _checked_cid(text: str) -> str:
    try:
        parse_cid(text)
    except Misconfigured as error:
        raise ValueError(str(error)) from error  # pydantic reports a ValueError with its place
    return text


class LayerEntry(Part):
    """A layer file's CID and the SHA-256 of its bytes."""

    name: Name
    shape: Shape
    cid: Annotated[str, AfterValidator(_checked_cid)]
    sha256: HexDigest

    @property
    def digest(self) -> Digest:
        """`sha256` as 32 bytes."""
        return parse_digest(self.sha256)


class Manifest(Document):
    """An update or a model of a federation's round: digests in hex, layers in the spec's order."""

    version: Literal[1] = 1
    chain_id: PositiveCount
    federation: ChecksumAddress
    round: Count
    kind: Kind
    spec: HexDigest
    root: HexDigest
    layers: Annotated[tuple[LayerEntry, ...], Field(strict=False)]

    @property
    def root_digest(self) -> Digest:
        """`root` as 32 bytes."""
        return parse_digest(self.root)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the manifest in canonical JSON bytes; Rejected(Check.MANIFEST) otherwise."""
        try:
            return cls._parse(raw)
        except (ValueError, Misconfigured) as error:
            # Rejected, whatever is wrong: the bytes are the sender's, and so is the fault.
            raise Rejected(Check.MANIFEST, f"the manifest is malformed: {error}") from error
