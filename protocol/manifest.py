"""The manifest: the table of contents of an update or a model (docs/protocol.md §5).

It is canonical JSON in one raw IPFS block, so its 32-byte digest on the chain both locates and
proves it.
Golden vectors: tests/vectors/manifest.json.
"""

from typing import Annotated, Literal, Self

from pydantic import Field

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
from protocol.encoding import Kind
from protocol.errors import Misconfigured, Rejected
from protocol.types import Digest, parse_digest


class LayerEntry(Part):
    """A layer file as its blocks of 1 MiB, the last one shorter, each by its SHA-256."""

    name: Name
    shape: Shape
    blocks: Annotated[tuple[HexDigest, ...], Field(strict=False)]

    @property
    def digests(self) -> tuple[Digest, ...]:
        """`blocks` as 32 bytes each."""
        return tuple(parse_digest(block) for block in self.blocks)


class Manifest(Document):
    """An update or a model of a federation's round: digests in hex, layers in the spec's order."""

    version: Literal[2] = 2
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
