"""A reveal as recorded on the chain: the update that a participant answers for."""

from dataclasses import dataclass

from protocol.types import Address, Digest


@dataclass(frozen=True)
class Reveal:
    """One participant's update of a round, named by its tree root and its manifest's digest.

    `examples` is the number of examples that the participant claims to have trained on. Lists of
    reveals are in the order of the commitments: check 10 keeps the first of two equal updates.
    """

    participant: Address
    root: Digest
    manifest: Digest
    examples: int
