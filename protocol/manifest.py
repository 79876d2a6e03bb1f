"""The manifest: the table of contents of an update or a model (docs/protocol.md §5).

It is canonical JSON in one raw IPFS block, so its 32-byte digest on the chain both locates and
proves it.
Golden vectors: tests/vectors/manifest.json.
"""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

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
from protocol.encoding import PublishedKind
from protocol.errors import Misconfigured, Rejected
from protocol.scoring import HIGHEST_LOSS
from protocol.types import Digest, parse_digest

Loss = Annotated[int, Field(ge=0, le=HIGHEST_LOSS)]
"""A held-out loss in millionths of a nat per answer token."""


class LayerEntry(Part):
    """A layer file as its blocks of 1 MiB, the last one shorter, each by its SHA-256."""

    name: Name
    shape: Shape
    blocks: Annotated[tuple[HexDigest, ...], Field(strict=False)]

    @property
    def digests(self) -> tuple[Digest, ...]:
        """`blocks` as 32 bytes each."""
        return tuple(parse_digest(block) for block in self.blocks)


class LossWithout(Part):
    """The loss of a round's average with one participant's update taken out of it."""

    participant: ChecksumAddress
    loss: Loss


class Losses(Part):
    """The losses that a round's scores follow from (docs/protocol.md §9).

    `average` is that of all updates that passed checks 1 to 12, and `without` has one entry for
    each, in ascending order of participant.
    """

    before: Loss
    average: Loss
    without: Annotated[tuple[LossWithout, ...], Field(min_length=1, max_length=64, strict=False)]

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        for first, second in pairwise(each.participant for each in self.without):
            if int(first, 16) >= int(second, 16):
                raise ValueError(f"losses must be in order of participant: {second} after {first}")
        return self


class Manifest(Document):
    """An update or a model of a federation's round: digests in hex, layers in the spec's order.

    A masked update has the digest of its `bundle` (§13), a model whose round was paid by measured
    help the `losses` that the scores follow from.
    """

    OPTIONAL: ClassVar = frozenset({"losses", "bundle"})
    version: Literal[2] = 2
    chain_id: PositiveCount
    federation: ChecksumAddress
    round: Count
    kind: PublishedKind
    spec: HexDigest
    root: HexDigest
    layers: Annotated[tuple[LayerEntry, ...], Field(strict=False)]
    losses: Losses | None = None
    bundle: HexDigest | None = None

    @model_validator(mode="after")
    def _masked_updates_have_bundles(self) -> Self:
        if (self.bundle is not None) != (self.kind == "masked"):
            raise ValueError("bundle belongs to the manifest of a masked update, and to no other")
        return self

    @model_validator(mode="after")
    def _only_models_have_losses(self) -> Self:
        if self.losses is not None and self.kind != "model":
            raise ValueError("an update has no losses: they belong to the manifest of a model")
        return self

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
