"""The check that nothing leaks finds what it is for, on rounds that were really played."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import pytest

from protocol.pair_keys import MaskedRound, share_key
from protocol.types import Address, Digest, RoundId
from tests.ethereum.anvil import shared_anvil
from tests.faults.lines import RpcLine
from tests.faults.public import Vector, find_leaks, masked_vectors, words_in, words_of
from tests.masked.world import FOUR, MaskedWorld

ONE = RoundId(1)


class Public(NamedTuple):
    """What is public after a round of four in which dan has revealed nothing but his bytes."""

    world: MaskedWorld
    vectors: list[Vector]
    words: set[bytes]
    members: frozenset[Address]

    def leaks(self, *more: bytes) -> list[str]:
        return list(find_leaks(self.vectors, self.words | set(more), [self.members], 3))

    def seed(self, owner: str, peer: str | None = None) -> bytes:
        """The seed of somebody's own stream, or of the one that it has with a peer."""
        participant = self.world.participants[owner]
        masks = participant._masks(ONE)
        if peer is None:
            return masks._own_seed
        return masks.pair_seeds(participant.context(ONE))[self.world.address_of(peer)]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Public]:
    folder = tmp_path_factory.mktemp("public")
    with (
        RpcLine(shared_anvil(), "127.0.0.1", lambda *at: True) as line,
        MaskedWorld(folder, rpc_url=line.url) as world,
    ):
        round_id = world.open_round()
        world.ask("commit", round_id)
        dan = world.participants["dan"]
        # Late: pinned, and then the transaction does not come.
        dan.federation.reveal_masked = _never  # type: ignore[method-assign, assignment]
        world.act("reveal", round_id, "dan")
        with pytest.raises(TimeoutError):
            dan.reveal(round_id)
        world.travel_to(world.client().get_round(round_id).reveal_deadline)
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        world.act("unmask", round_id, "dan")
        world.settle(round_id)
        vectors = [each for each in masked_vectors(*_stored(world)) if isinstance(each, Vector)]
        members = frozenset(world.told(round_id).masking.members)
        yield Public(world, vectors, words_of(line.sent), members)


def _never(*about: Any) -> None:
    raise TimeoutError


def _stored(world: MaskedWorld) -> tuple[dict[bytes, bytes], dict[Digest, Address]]:
    paths = (world.folder / "ipfs" / "blocks").glob("*/*.data")
    blocks = {sha256(block).digest(): block for block in (path.read_bytes() for path in paths)}
    owners = {}
    for name, participant in world.participants.items():
        made = participant._masks(ONE).masked()
        assert made is not None
        owners[Digest(bytes.fromhex(made.manifest))] = world.address_of(name)
    return blocks, owners


def test_a_round_leaks_nothing_but_its_sum(public: Public) -> None:
    assert len(public.vectors) == len(FOUR)
    assert len(public.members) == 3
    assert public.leaks() == []


def test_the_sum_itself_is_found(public: Public) -> None:
    (found,) = find_leaks(public.vectors, public.words, [], 3)
    assert all(member in found for member in public.members)


def test_the_own_seed_of_who_is_late_is_a_leak(public: Public) -> None:
    """Its other masks were opened, as the sum of the others needed."""
    (leak,) = public.leaks(public.seed("dan"))
    assert public.world.address_of("dan") in leak


def test_what_lies_in_the_store_is_public_too(public: Public) -> None:
    blocks, _ = _stored(public.world)
    assert public.leaks(*words_in(blocks.values())) == []
    hidden = b"x" + public.seed("dan") + b"y"
    (leak,) = public.leaks(*words_in([*blocks.values(), hidden]))
    assert public.world.address_of("dan") in leak


def test_all_seeds_of_a_member_are_a_leak(public: Public) -> None:
    seeds = [public.seed("ann", "bob"), public.seed("ann", "cem")]
    assert public.leaks(seeds[0]) == []  # cem still hides them from one another
    leaks = public.leaks(*seeds)
    assert len(leaks) == 2
    assert public.world.address_of("ann") in leaks[0] + leaks[1]


def test_shares_are_as_good_as_the_seed(public: Public) -> None:
    world, dan = public.world, public.world.participants["dan"]
    vector = next(each for each in public.vectors if each.owner == dan.address)
    shares = []
    for name in ("ann", "bob", "cem"):
        peer = world.participants[name]
        keys = (peer._masks(ONE)._private_key, peer.address, dan.address)
        public_key = peer.context(ONE).told.masking.keys[dan.address]
        about = MaskedRound(world.client().chain_id, world.address, ONE)
        box_key = share_key(about, *keys, public_key, dealer=dan.address)
        shares.append(vector.bundle.open_box(peer.address, box_key)[0])
    assert public.leaks(*shares[:2]) == []
    assert len(public.leaks(*shares)) == 1


def test_two_vectors_of_one_participant_are_told(public: Public) -> None:
    again = [*public.vectors, public.vectors[0]]
    found = list(find_leaks(again, public.words, [public.members], 3))
    assert found == ["round 1: somebody has masked two vectors"]


def test_a_vector_of_nobody_is_told(public: Public) -> None:
    blocks, owners = _stored(public.world)
    owners.popitem()
    told = [each for each in masked_vectors(blocks, owners) if isinstance(each, str)]
    assert len(told) == 1
    assert "nobody knows the masked update" in told[0]
