"""A round of masked updates in memory, with real keys, seeds and bundles, for tests."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protocol.bundle import Bundle, deal
from protocol.masking import Mask, mask, masks_of, pair_masks
from protocol.pair_keys import MaskedRound, pair_seed, public_key, share_key
from protocol.shares import default_threshold
from protocol.types import Address, RoundId
from tests.protocol import reference

ROUND = MaskedRound(31337, Address(reference.address(100)), RoundId(12))
LEAF = 3

Steps = NDArray[np.int8]


@dataclass(frozen=True)
class Member:
    """A participant's own secrets of a round."""

    address: Address
    private_key: bytes
    own_seed: bytes

    @cached_property
    def key(self) -> bytes:
        return public_key(self.private_key)


class Round:
    """Who committed, in ascending order of address, with the seeds of every pair."""

    def __init__(self, size: int, seed: int) -> None:
        self.rng = random.Random(seed)
        addresses = [Address(reference.address(1000 * seed + i)) for i in range(size)]
        self.members = [
            Member(address, self.rng.randbytes(32), self.rng.randbytes(32))
            for address in sorted(addresses, key=lambda each: int(each, 16))
        ]
        self.addresses = [member.address for member in self.members]

    def peers(self, who: Member) -> list[Member]:
        return [member for member in self.members if member is not who]

    def pair_seeds(self, who: Member) -> dict[Address, bytes]:
        return {
            peer.address: pair_seed(ROUND, who.private_key, who.address, peer.address, peer.key)
            for peer in self.peers(who)
        }

    def box_keys(self, who: Member, dealer: Member | None = None) -> dict[Address, bytes]:
        """The keys of the boxes that `who` fills, or, of another dealer, opens."""
        return {
            peer.address: share_key(
                ROUND,
                who.private_key,
                who.address,
                peer.address,
                peer.key,
                (dealer or who).address,
            )
            for peer in self.peers(who)
            if dealer is None or peer is dealer
        }

    def bundle(self, who: Member, threshold: int | None = None) -> Bundle:
        return deal(
            who.address,
            who.own_seed,
            self.pair_seeds(who),
            self.box_keys(who),
            threshold or default_threshold(len(self.members) - 1),
            self.rng.randbytes,
        )

    def masks(self, who: Member) -> list[Mask]:
        return masks_of(who.address, who.own_seed, self.pair_seeds(who))

    def masked(self, who: Member, update: Steps, weight: int) -> NDArray[np.uint32]:
        return mask(update, weight, self.masks(who), LEAF)

    def opened(self, accepted: Sequence[Member]) -> list[Mask]:
        """What those in the sum open: their own seeds, and those they share with who is not."""
        inside = {member.address for member in accepted}
        found = []
        for member in accepted:
            seeds = self.pair_seeds(member)
            outside = {peer: seed for peer, seed in seeds.items() if peer not in inside}
            found += [Mask(member.own_seed, 1), *pair_masks(member.address, outside)]
        return found


def drawn_update(rng: random.Random, leaves: int = 1, most: int = 127) -> Steps:
    return np.array([rng.randint(-most, most) for _ in range(256 * leaves)], np.int8)
