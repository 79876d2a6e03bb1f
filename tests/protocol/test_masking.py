"""Masks leave the sum of whoever is in it, whatever happened to the others, and nothing else."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import speed
from protocol.average import MAX_TOTAL_WEIGHT, move_by_sum_into, move_model
from protocol.errors import Misconfigured, Rejected
from protocol.masking import (
    MASKED_VALUE,
    Mask,
    add_blocks,
    add_masked,
    add_masks,
    mask,
    masks_of,
    pair_masks,
    remove_masks,
    signed_sum,
    stream,
)
from protocol.pair_keys import pair_seed, public_key, share_key
from tests.protocol import reference
from tests.protocol.compiled import choose_way
from tests.protocol.make_vectors import SMALL_ORDER, copies_of, little
from tests.protocol.masked import LEAF, ROUND, Round, drawn_update


@pytest.fixture(params=["plain", "compiled"], scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        choose_way(request.param, patch)
        yield


@pytest.mark.usefixtures("way")
@settings(deadline=None, max_examples=30)
@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 5),
    st.integers(0, 5),
    st.sampled_from([256, 2048, 128]),
    st.sampled_from([1, -1]),
    st.integers(0, 2**32 - 1),
)
def test_blocks_are_those_of_naive_code(
    seed: bytes, leaf: int, leaves: int, words: int, sign: int, start: int
) -> None:
    rows = np.full((leaves, words), start, np.uint32)
    add_blocks(rows, seed, leaf, sign)
    for number, row in enumerate(rows.tolist(), leaf):
        digests = b"".join(reference.block(seed, number, c) for c in range(words // 8))
        found = np.frombuffer(digests, ">u4").tolist()
        assert row == [(start + sign * each) % 2**32 for each in found]


@pytest.mark.usefixtures("way")
def test_a_seeds_leaves_are_the_same_one_by_one_and_together() -> None:
    whole = stream(bytes(range(32)), 5, 600)  # longer than what is worked on at once
    assert whole[:256].tolist() == reference.stream(bytes(range(32)), 5)
    for leaf in (0, 255, 256, 599):
        alone = stream(bytes(range(32)), 5 + leaf, 1)
        assert alone.tolist() == whole[256 * leaf : 256 * (leaf + 1)].tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 8), st.integers(0, 2**32), st.data())
def test_whatever_the_drop_outs_the_sum_is_the_clear_one(
    size: int, seed: int, draw: st.DataObject
) -> None:
    this = Round(size, seed)
    weights = [this.rng.randint(1, MAX_TOTAL_WEIGHT // size) for _ in this.members]
    updates = [drawn_update(this.rng) for _ in this.members]
    inside = draw.draw(st.lists(st.sampled_from(range(size)), min_size=1, unique=True))
    accepted = [this.members[i] for i in inside]
    sums = np.zeros(256, np.uint32)
    for i in inside:
        y = this.masked(this.members[i], updates[i], weights[i])
        add_masked(sums, y.astype(MASKED_VALUE))  # as it is stored
    remove_masks(sums, this.opened(accepted), LEAF)
    clear = [sum(weights[i] * int(updates[i][k]) for i in inside) for k in range(256)]
    assert signed_sum(sums).tolist() == clear
    # And so is the model.
    before = np.array([this.rng.randint(-(2**31) + 1, 2**31 - 1) for _ in clear], ">i4")
    after = np.empty(256, np.int32)
    chosen = [weights[i] for i in inside]
    move_by_sum_into(after, before, signed_sum(sums), sum(chosen), 13)
    expected = move_model(before, [updates[i] for i in inside], chosen, 13)
    assert after.tolist() == expected.tolist()


def test_one_stream_that_is_not_taken_away_leaves_nothing_of_the_sum() -> None:
    this = Round(4, 7)
    updates = [drawn_update(this.rng) for _ in this.members]
    sums = np.zeros(256, np.uint32)
    for member, update in zip(this.members[:3], updates, strict=False):
        add_masked(sums, this.masked(member, update, 1))
    opened = this.opened(this.members[:3])
    for missing in range(len(opened)):
        left = sums.copy()
        remove_masks(left, opened[:missing] + opened[missing + 1 :], LEAF)
        clear = sum(update.astype(np.int64) for update in updates[:3])
        assert np.count_nonzero(signed_sum(left) == clear) < 3  # one value in 2^32 would do


@pytest.mark.parametrize(("size", "gone", "silent"), [(4, 0, 1), (7, 1, 1), (10, 2, 1), (16, 4, 1)])
def test_who_is_silent_after_the_seal_is_opened_by_the_others(
    size: int, gone: int, silent: int
) -> None:
    this = Round(size, 60 + size)
    shuffled = this.rng.sample(this.members, size)
    accepted, quiet = shuffled[gone:], shuffled[gone : gone + silent]
    inside = {member.address for member in accepted}
    updates = [drawn_update(this.rng) for _ in accepted]
    sums = np.zeros(256, np.uint32)
    for member, update in zip(accepted, updates, strict=True):
        add_masked(sums, this.masked(member, update, 5))
    # Who speaks opens its own secrets; and of those who do not, its shares of what must go.
    speaking = accepted[silent:]
    outside = [address for address in this.addresses if address not in inside]
    for member in speaking:
        seeds = this.pair_seeds(member)
        remove_masks(sums, [Mask(member.own_seed, 1)], LEAF)
        remove_masks(sums, pair_masks(member.address, {o: seeds[o] for o in outside}), LEAF)
    for dealer in quiet:
        bundle = this.bundle(dealer)
        boxes = {}
        for member in speaking:
            (key,) = this.box_keys(member, dealer).values()
            boxes[member.address] = bundle.open_box(member.address, key)
        needed = [0, *(1 + bundle.peers.index(address) for address in outside)]
        own, *pairs = (
            bundle.recover_secret(n, {who: box[n] for who, box in boxes.items()}, dealer.address)
            for n in needed
        )
        assert own == dealer.own_seed
        seeds = dict(zip(outside, pairs, strict=True))
        remove_masks(sums, [Mask(own, 1), *pair_masks(dealer.address, seeds)], LEAF)
    assert signed_sum(sums).tolist() == (5 * np.sum(updates, axis=0, dtype=int)).tolist()


@pytest.mark.usefixtures("way")
def test_masks_go_leaf_by_leaf_as_they_go_at_once() -> None:
    rng = random.Random(9)
    masks = [Mask(rng.randbytes(32), 1), Mask(rng.randbytes(32), -1)]
    update = drawn_update(rng, 5)
    whole = mask(update, 7, masks, 11)
    parts = [mask(update[256 * i : 256 * (i + 1)], 7, masks, 11 + i) for i in range(5)]
    assert np.concatenate(parts).tolist() == whole.tolist()
    for i, part in enumerate(parts):
        remove_masks(part, masks, 11 + i)
    remove_masks(whole, masks, 11)
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert signed_sum(whole).tolist() == (update.astype(int) * 7).tolist()


def test_the_largest_sums_are_exact_and_what_lies_outside_is_held() -> None:
    top = MAX_TOTAL_WEIGHT
    for step in (127, -127):
        sums = mask(np.full(256, step, np.int8), top, [], 0)
        assert set(signed_sum(sums).tolist()) == {step * top}
    before, after = np.zeros(256, np.int32), np.empty(256, np.int32)
    for garbage in (2**31 - 1, -(2**31), 127 * 5 + 1, -127 * 5 - 1):
        move_by_sum_into(after, before, np.full(256, garbage, np.int32), 5, 20)
        assert set(after.tolist()) == {127 * 16 if garbage > 0 else -127 * 16}
        assert after.tolist() == reference.move_by_sum([0] * 256, [garbage] * 256, 5, 20)


def test_masked_values_say_nothing_of_zeros() -> None:
    """The padding is masked as well: no leaf tells where a layer ends."""
    this = Round(3, 4)
    y = this.masked(this.members[1], np.zeros(256, np.int8), 80)
    assert len(set(y.tolist())) == 256


def test_what_cannot_be_masked_is_refused() -> None:
    update, seed = np.zeros(256, np.int8), bytes(32)
    a, b, _ = Round(3, 1).addresses
    with pytest.raises(Misconfigured, match="int8 was expected"):
        mask(update.astype(np.int16), 1, [], 0)
    for weight in (0, -1, 2**24):
        with pytest.raises(Misconfigured, match=f"weight {weight} was given"):
            mask(update, weight, [], 0)
    with pytest.raises(Misconfigured, match="255 values"):
        mask(update[:255], 1, [Mask(seed, 1)], 0)
    for values in (np.zeros(512, np.uint32)[::2], np.frombuffer(bytes(1024), np.uint32)):
        with pytest.raises(Misconfigured, match="in place"):
            remove_masks(values, [Mask(seed, 1)], 0)
    with pytest.raises(Misconfigured, match="a seed has 31 bytes"):
        mask(update, 1, [Mask(seed[:31], 1)], 0)
    for leaf in (-1, 2**32):
        with pytest.raises(Misconfigured, match=r"not below 2\^32"):
            stream(seed, leaf, 1)
    with pytest.raises(Misconfigured, match="a multiple of 128"):
        add_blocks(np.zeros((1, 64), np.uint32), seed, 0, 1)
    with pytest.raises(Misconfigured, match="uint32 was expected"):
        add_masked(np.zeros(256, np.uint32), update)
    with pytest.raises(Misconfigured, match="no seed in common with itself"):
        pair_masks(a, {a: seed})
    # Of two, each learns the other's update from the sum.
    for peers in ({}, {b: seed}, dict.fromkeys(Round(32, 1).addresses, seed)):
        with pytest.raises(Misconfigured, match=f"{len(peers)} peers"):
            masks_of(a if len(peers) < 2 else Round(3, 2).addresses[0], seed, peers)


def test_who_has_the_lower_address_adds() -> None:
    a, b, c = Round(3, 1).addresses
    one, other, own = (bytes([i]) * 32 for i in range(3))
    assert masks_of(b, own, {a: one, c: other}) == [Mask(own, 1), Mask(one, -1), Mask(other, 1)]
    assert pair_masks(a, {b: one}) == [Mask(one, 1)]


def test_what_cannot_be_moved_is_refused() -> None:
    zeros = np.zeros(4, np.int32)
    for total in (0, 2**24):
        with pytest.raises(Misconfigured, match="weight"):
            move_by_sum_into(zeros, zeros, zeros, total, 13)


def test_the_loops_are_loaded_for_less_than_bulk_hashing_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(speed, "kernels", asked.append)
    add_masks(np.zeros(512, np.uint32), [Mask(bytes(32), 1)], 0)
    assert asked == [8 * 2048]


# ------------------------------------------------------------------------------------- the keys


def test_a_pair_has_one_seed_and_a_box_key_each_way() -> None:
    a, b, c = Round(3, 2).members
    own = pair_seed(ROUND, a.private_key, a.address, b.address, b.key)
    assert own == pair_seed(ROUND, b.private_key, b.address, a.address, a.key)
    keys = [
        share_key(ROUND, who.private_key, who.address, peer.address, peer.key, dealer.address)
        for who, peer in ((a, b), (b, a))
        for dealer in (a, b)
    ]
    assert keys[:2] == keys[2:]
    others = pair_seed(ROUND, a.private_key, a.address, c.address, c.key)
    assert len({own, others, *keys}) == 4
    with pytest.raises(Misconfigured, match="deals no shares"):
        share_key(ROUND, a.private_key, a.address, b.address, b.key, c.address)
    with pytest.raises(Misconfigured, match="with itself"):
        pair_seed(ROUND, a.private_key, a.address, a.address, b.key)
    with pytest.raises(Misconfigured, match="a private key has 31 bytes"):
        public_key(bytes(31))


@pytest.mark.parametrize("kind", list(copies_of(little(9))))
def test_who_copies_a_key_learns_no_seed_of_its_pairs(kind: str) -> None:
    """The copier stays silent and everybody opens the seed that they have with it."""
    this = Round(3, 5)
    victim, honest, copier = this.members
    copied = copies_of(victim.key)[kind]
    opened = pair_seed(ROUND, honest.private_key, honest.address, copier.address, copied)
    secret = pair_seed(ROUND, honest.private_key, honest.address, victim.address, victim.key)
    # Without the binding they would be one: the secret under it is.
    assert reference.x25519(honest.private_key, copied) == reference.x25519(
        honest.private_key, victim.key
    )
    assert opened != secret


@pytest.mark.parametrize("number", SMALL_ORDER)
@pytest.mark.parametrize("top", [0, 2**255])
def test_a_key_of_small_order_is_nobodys_peer(number: int, top: int) -> None:
    a, b, _ = Round(3, 6).members
    # Each leads to one secret, zeros, with every private key.
    assert not any(reference.x25519(a.private_key, little(number + top)))
    with pytest.raises(Rejected, match="is of small order"):
        pair_seed(ROUND, a.private_key, a.address, b.address, little(number + top))


def test_a_key_of_another_length_is_nobodys_peer() -> None:
    a, b, _ = Round(3, 6).members
    for key in (b"", b.key[:31], b.key + b"\0"):
        with pytest.raises(Rejected, match=f"has {len(key)} bytes"):
            pair_seed(ROUND, a.private_key, a.address, b.address, key)
