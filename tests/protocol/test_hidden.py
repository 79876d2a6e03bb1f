"""What an attacker can form: everything public, the aggregator's state, colluders' secrets.

For a second pair of honest updates with the same sum and the same sketches, streams are constructed
that give byte-identical data of all of these. Only the stream that the two have in common differs,
and the attacker has never had its seed: SHA-256 of it is as random to it as the constructed one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.bundle import Bundle
from protocol.masking import add_masked, masks_of, remove_masks, signed_sum, stream
from protocol.shares import default_threshold
from protocol.sketches import SKETCH_SIZE, adds_up, pack_sketch, sketch
from protocol.types import Address
from tests.protocol.masked import LEAF, Member, Round, Steps, drawn_update

Z = sha256(b"sketches").digest()

# Differences that no sketch under Z shows in this leaf: Σ r_k · x = 0 for every k, as the test
# below computes. A short vector of that lattice, which LLL found.
_NUMBERS = """
    -4 -5 6 3 6 -15 12 -10 11 -9 7 -4 -8 3 12 12 9 -10 -7 5 9 5 11 1 -3 -13 -13 -2 -1 -11 7 12 -3 10
    -2 -13 2 1 0 9 7 1 15 2 6 -7 10 3 4 -2 -6 2 -1 -3 -2 1 9 -3 6 9 -9 -5 -3 -7 5 3 -8 -2 3 9 -18 -2
    10 -12 -5 6 -8 -1 -7 -2 3 -3 8 6 -6 -8 -6 -2 -13 -7 -10 -10 1 3 -3 15 3 8 -7 6 1 1 5 -7 -3 -10
    -6 2 6 4 -8 6 -1 -6 12 3 2 0 -5 -13 -1 18 2 -5 10 11 -4 7 5 -13 -4 -3 -10 -3 -8 -8 -2 -4 1 -9 1
    2 -10 -4 -3 -2 -14 4 -5 -4 -1 -6 -6 7 0 8 -8 5 6 -9 -8 5 -6 -7 11 -5 10 1 -6 8 15 6 -9 -4 -11 -7
    -1 3 -3 -9 6 3 3 -11 4 -7 -7 10 6 4 2 8 14 -3 -2 -6 -5 -13 -9 -1 7 -3 -2 -6 1 3 6 -5 -2 0 5 0 0
    1 1 4 -2 0 -2 2 2 1 1 1 -3 2 0 0 -2 0 0 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
"""
UNSEEN = np.array([int(number) for number in _NUMBERS.split()])

Oracle = Callable[[bytes], NDArray[np.uint32]]
"""From a seed to its stream."""


def expanded(seed: bytes) -> NDArray[np.uint32]:
    return stream(seed, LEAF, 1)


@dataclass(frozen=True)
class Play:
    """A round: who is in the sum, who works for the attacker, and the two it wants apart."""

    round: Round
    accepted: list[Member]
    colluders: list[Member]
    pair: tuple[Member, Member]
    weights: dict[Address, int]
    bundles: dict[Address, Bundle]
    threshold: int

    def seed_of_pair(self) -> bytes:
        one, other = self.pair
        return self.round.pair_seeds(one)[other.address]

    def published(self, updates: dict[Address, Steps], oracle: Oracle) -> dict[Address, bytes]:
        """Everybody's masked values, with an oracle in place of the streams."""
        found = {}
        for member in self.round.members:
            y = updates[member.address].astype(np.int64) * self.weights[member.address]
            for mask in self.round.masks(member):
                y += mask.sign * oracle(mask.seed).astype(np.int64)
            found[member.address] = (y % 2**32).astype(">u4").tobytes()
        return found

    def view(self, updates: dict[Address, Steps], oracle: Oracle) -> dict[str, Any]:
        """All that the attacker has."""
        members = self.round.members
        masked = self.published(updates, oracle)
        opened = self.round.opened(self.accepted)
        sums = np.zeros(256, np.uint32)
        for member in self.accepted:
            add_masked(sums, np.frombuffer(masked[member.address], ">u4"))
        for seed, sign in opened:
            sums -= oracle(seed) if sign > 0 else -oracle(seed)
        sketches = {
            who: [self.weights[who] * number for number in sketch(update, Z, LEAF)]
            for who, update in updates.items()
        }
        posted = [sketches[member.address] for member in self.accepted]
        assert adds_up(posted, sketch(signed_sum(sums), Z, LEAF))
        return {
            "keys": [member.key for member in members],
            "weights": self.weights,
            "bundles": {who: bundle.to_bytes() for who, bundle in self.bundles.items()},
            "masked": masked,
            "opened": opened,
            "sketches": {
                member.address: pack_sketch(v)
                for member, v in zip(self.accepted, posted, strict=True)
            },
            "sum": sums.tobytes(),
            "colluders": self.colluders,
            "their updates": {m.address: updates[m.address].tobytes() for m in self.colluders},
            "their seeds": [self.round.pair_seeds(member) for member in self.colluders],
            "their shares": self.shares_of_colluders(),
        }

    def shares_of_colluders(self) -> dict[tuple[Address, Address], list[bytes]]:
        """What is in the boxes that were dealt to them, by dealer and colluder."""
        found = {}
        for member in self.colluders:
            for dealer in self.round.peers(member):
                (key,) = self.round.box_keys(member, dealer).values()
                box = self.bundles[dealer.address].open_box(member.address, key)
                found[dealer.address, member.address] = box
        return found

    def shares_of_pair(self, dealer: Member) -> dict[Address, bytes]:
        """The colluders' shares of the seed that the two have in common, from one of them."""
        (other,) = (member for member in self.pair if member is not dealer)
        bundle = self.bundles[dealer.address]
        number = 1 + bundle.peers.index(other.address)
        return {
            who: shares[number]
            for (of, who), shares in self.shares_of_colluders().items()
            if of == dealer.address
        }


def played(
    size: int, colluders: int, threshold: int, gone: int = 0
) -> tuple[Play, dict[Address, Steps]]:
    """A round whose first honest two are the pair; `gone` of the honest others are not in it."""
    this = Round(size, 50 + size + colluders)
    shuffled = this.rng.sample(this.members, size)
    pair, rest = (shuffled[0], shuffled[1]), shuffled[2:]
    outside = rest[colluders : colluders + gone]
    assert len(outside) == gone
    weights = {member.address: this.rng.randint(1, 80) for member in this.members}
    weights |= {pair[0].address: 2, pair[1].address: 3}
    play = Play(
        this,
        [member for member in this.members if member not in outside],
        rest[:colluders],
        pair,
        weights,
        {member.address: this.bundle(member, threshold) for member in this.members},
        threshold,
    )
    updates = {member.address: drawn_update(this.rng, 1, 60) for member in this.members}
    return play, updates


def other_updates(play: Play, updates: dict[Address, Steps]) -> dict[Address, Steps]:
    """Two honest updates with the same sum and the same sketches, everybody else's as they were."""
    one, other = (member.address for member in play.pair)
    change = {one: 3 * UNSEEN, other: -2 * UNSEEN}  # by weights of 2 and 3
    changed = {who: updates[who] + change[who] for who in change}
    assert max(np.abs(update).max() for update in changed.values()) <= 127
    return {**updates, **{who: update.astype(np.int8) for who, update in changed.items()}}


def test_the_change_is_seen_in_no_sketch() -> None:
    assert UNSEEN.any()
    assert sketch(UNSEEN, Z, LEAF) == [0] * SKETCH_SIZE


CASES = [
    # Up to five, all peers are needed: everybody but two may be the attacker's.
    *((n, n - 2, default_threshold(n - 1), 0) for n in (3, 4, 5)),
    (16, 14, 15, 0),
    # Else one fewer than recover a secret.
    (6, 3, default_threshold(5), 1),
    (16, 10, default_threshold(15), 0),
    (16, 10, default_threshold(15), 4),
]


@pytest.mark.parametrize(("size", "colluders", "threshold", "gone"), CASES)
def test_a_second_pair_of_updates_gives_the_same_bytes(
    size: int, colluders: int, threshold: int, gone: int
) -> None:
    play, updates = played(size, colluders, threshold, gone)
    secret = play.seed_of_pair()
    # 1. What is played here is what protocol/ publishes and opens.
    real = play.view(updates, expanded)
    for member in play.round.members:
        y = play.round.masked(member, updates[member.address], play.weights[member.address])
        assert y.astype(">u4").tobytes() == real["masked"][member.address]
    sums = sum(
        np.frombuffer(real["masked"][member.address], ">u4").astype(np.uint32)
        for member in play.accepted
    )
    assert isinstance(sums, np.ndarray)
    remove_masks(sums, real["opened"], LEAF)
    assert sums.tobytes() == real["sum"]
    # 2. The attacker has no way to the pair's seed but to guess it.
    assert secret not in [mask.seed for mask in real["opened"]]
    assert not any(secret in seeds.values() for seeds in real["their seeds"])
    for dealer in play.pair:
        assert len(play.shares_of_pair(dealer)) == colluders < threshold
    # 3. The second pair, and the stream that hides it.
    others = other_updates(play, updates)
    lower = min(play.pair, key=lambda member: int(member.address, 16)).address
    was, now = updates[lower].astype(np.int64), others[lower].astype(np.int64)
    moved = (play.weights[lower] * (was - now) % 2**32).astype(np.uint32)

    def constructed(seed: bytes) -> NDArray[np.uint32]:
        return expanded(seed) + moved if seed == secret else expanded(seed)

    # 4. Every byte is the same, and the updates are not.
    assert all((others[m.address] != updates[m.address]).any() for m in play.pair)
    assert play.view(others, constructed) == real
    assert play.view(others, expanded) != real


@pytest.mark.parametrize(("size", "threshold"), [(6, 4), (16, 11)])
def test_as_many_colluders_as_recover_a_secret_learn_each_update(size: int, threshold: int) -> None:
    """So the aggregator and fewer than n - 2 learn it, where t is smaller: docs/decisions/0020."""
    assert threshold == default_threshold(size - 1)
    play, updates = played(size, threshold, threshold)
    target = play.pair[0]
    bundle = play.bundles[target.address]
    shares = play.shares_of_colluders()
    recovered = []
    for number in range(size):
        of_secret = {
            member.address: shares[target.address, member.address][number]
            for member in play.colluders
        }
        recovered.append(bundle.recover_secret(number, of_secret, target.address))
    seeds = dict(zip(bundle.peers, recovered[1:], strict=True))
    y = np.frombuffer(play.published(updates, expanded)[target.address], ">u4").astype(np.uint32)
    remove_masks(y, masks_of(target.address, recovered[0], seeds), LEAF)
    clear = updates[target.address].astype(int) * play.weights[target.address]
    assert signed_sum(y).tolist() == clear.tolist()
