"""A reveal as recorded on the chain: the update that a participant answers for."""

from dataclasses import dataclass

from protocol.commitment import bind_opened, bind_secrets, compute_update_digest
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
    secrets: Digest | None = None
    """Of a masked update: Keccak-256 over the commitments in its bundle (docs/protocol.md §13)."""
    seeds: tuple[bytes, ...] = ()
    """Once known: its own seed, and those with who is outside the set, ascending."""

    @property
    def bound_manifest(self) -> Digest:
        """What the update's digest has in the manifest's place: bound to secrets and seeds."""
        if self.secrets is None:
            return self.manifest
        bound = bind_secrets(self.manifest, self.secrets)
        return bind_opened(bound, self.seeds[0], self.seeds[1:]) if self.seeds else bound

    @property
    def digest(self) -> Digest:
        """The update digest, of which the contract keeps the first 30 bytes (§8)."""
        return compute_update_digest(self.root, self.bound_manifest, self.examples)
