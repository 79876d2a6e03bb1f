"""A reveal as the chain recorded it: which update a participant answers for."""

from dataclasses import dataclass

from protocol.types import Address, Digest


@dataclass(frozen=True)
class Reveal:
    """One participant's update of a round, named by its tree root and its manifest's digest.

    `examples` is what the participant claims to have trained on. Lists of reveals are kept in the
    order in which the participants committed: check 10 keeps the first of two equal updates.
    """

    participant: Address
    root: Digest
    manifest: Digest
    examples: int
