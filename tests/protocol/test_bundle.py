"""A bundle's bytes have one form, its shares recover what it commits to, and lies show."""

import random
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.bundle import Bundle, bundle_bytes, contradicted, deal, share_places
from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected
from protocol.shares import seal_shares
from protocol.types import Address, Digest
from tests.fuzz.mutate import mutate_bytes
from tests.protocol import reference
from tests.protocol.masked import Round

FIVE = Round(5, 3)
GOOD = FIVE.bundle(FIVE.members[2])
BYTES = GOOD.to_bytes()


def refusal(raw: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        Bundle.parse(raw)
    assert caught.value.check == Check.BUNDLE
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("size", [3, 4, 7, 16])
def test_peers_recover_every_secret_of_a_bundle(size: int) -> None:
    this = Round(size, 20 + size)
    dealer = this.members[1]
    bundle = this.bundle(dealer)
    assert Bundle.parse(bundle.to_bytes()) == bundle
    assert len(bundle.to_bytes()) == bundle_bytes(size - 1)
    bundle.check_peers(dealer.address, this.addresses)
    opened = {}
    for peer in this.peers(dealer):
        (key,) = this.box_keys(peer, dealer).values()
        opened[peer.address] = bundle.open_box(peer.address, key)
    threshold = (size - 1) if size <= 5 else 2 * (size - 1) // 3 + 1
    secrets = [dealer.own_seed, *this.pair_seeds(dealer).values()]
    for number, secret in enumerate(secrets):
        chosen = this.rng.sample(sorted(opened), threshold)
        shares = {peer: opened[peer][number] for peer in chosen}
        assert bundle.recover_secret(number, shares, dealer.address) == secret
        few = dict(list(shares.items())[:-1])
        with (
            pytest.raises(Rejected, match="are not of what")
            if few
            else pytest.raises(Misconfigured)
        ):
            bundle.recover_secret(number, few, dealer.address)


def test_wrong_shares_and_wrong_boxes_are_told() -> None:
    dealer, peer = FIVE.members[2], FIVE.members[4]
    (key,) = FIVE.box_keys(peer, dealer).values()
    shares = GOOD.open_box(peer.address, key)
    with pytest.raises(Rejected, match="is not the one promised"):
        GOOD.recover_secret(1, {peer.address: shares[0]}, dealer.address)
    # Another's box, the box of another dealer, and a box with shares that were not promised.
    with pytest.raises(Rejected, match="does not open"):
        GOOD.open_box(FIVE.members[0].address, key)
    (other,) = FIVE.box_keys(dealer, peer).values()
    with pytest.raises(Rejected, match="does not open"):
        GOOD.open_box(peer.address, other)
    false = seal_shares(key, [*shares[1:], shares[0]], bytes(12))
    index = GOOD.peers.index(peer.address)
    boxes = (*GOOD.boxes[:index], false, *GOOD.boxes[index + 1 :])
    with pytest.raises(Rejected, match="are not those promised"):
        replace(GOOD, boxes=boxes).open_box(peer.address, key)
    with pytest.raises(Misconfigured, match="is no peer"):
        GOOD.open_box(dealer.address, key)


def test_a_bundle_is_for_all_who_committed_and_nobody_else() -> None:
    dealer, *others = (FIVE.addresses[2], *FIVE.addresses[:2], *FIVE.addresses[3:])
    GOOD.check_peers(dealer, FIVE.addresses)
    stranger = Address(reference.address(1))
    for committed in (others, [*FIVE.addresses, stranger], [dealer, stranger, *others[1:]]):
        if committed is not others:
            with pytest.raises(Rejected, match="the peers of") as caught:
                GOOD.check_peers(dealer, committed)
            assert caught.value.check == Check.BUNDLE
    with pytest.raises(Rejected):
        GOOD.check_peers(others[0], FIVE.addresses)


@settings(deadline=None)
@given(st.integers(0, 2**64))
def test_mutated_bundles_are_refused_or_read_to_the_same_bytes(seed: int) -> None:
    raw = mutate_bytes(random.Random(seed), BYTES)
    try:
        bundle = Bundle.parse(raw)
    except Rejected:
        refusal(raw)
    else:
        assert bundle.to_bytes() == raw


@given(st.binary(max_size=200))
@example(b"\x01")
@example(b"\x01\xff" * 40)
def test_hostile_bytes_are_refused(raw: bytes) -> None:
    refusal(raw)


def test_a_bundle_has_one_form() -> None:
    assert "begins with" in refusal(b"\0" + BYTES[1:])
    assert "4 peers take" in refusal(BYTES + b"\0")
    assert "4 peers take" in refusal(BYTES[:-1])
    assert "1 peers" in refusal(b"\x01\x01" + BYTES[2:])
    assert "32 peers" in refusal(b"\x01\x20" + BYTES[2:])
    swapped = BYTES[:2] + BYTES[22:42] + BYTES[2:22] + BYTES[42:]
    assert "ascending" in refusal(swapped)
    assert "ascending" in refusal(BYTES[:2] + BYTES[2:22] * 2 + BYTES[42:])


def test_what_is_no_bundle_cannot_be_made() -> None:
    with pytest.raises(Misconfigured, match="ascending order"):
        replace(GOOD, peers=GOOD.peers[::-1])
    with pytest.raises(Misconfigured, match="for 1 peers"):
        replace(GOOD, peers=GOOD.peers[:1])
    for change in (
        {"commitments": GOOD.commitments[1:]},
        {"commitments": (Digest(bytes(31)), *GOOD.commitments[1:])},
        {"boxes": GOOD.boxes[1:]},
        {"boxes": (GOOD.boxes[0] + b"\0", *GOOD.boxes[1:])},
        {"share_digests": GOOD.share_digests[1:]},
        {"share_digests": (GOOD.share_digests[0][1:], *GOOD.share_digests[1:])},
    ):
        with pytest.raises(Misconfigured, match="of other sizes"):
            replace(GOOD, **change)
    dealer = FIVE.members[2]
    seeds, keys = FIVE.pair_seeds(dealer), FIVE.box_keys(dealer)
    draw = random.Random(1).randbytes
    with pytest.raises(Misconfigured, match="3 keys"):
        deal(dealer.address, dealer.own_seed, seeds, dict(list(keys.items())[1:]), 4, draw)
    with pytest.raises(Misconfigured, match="of other peers"):
        deal(FIVE.addresses[0], dealer.own_seed, seeds, keys, 4, draw)
    with pytest.raises(Misconfigured, match="a seed has 32 bytes"):
        deal(dealer.address, dealer.own_seed[1:], seeds, keys, 4, draw)


def test_places_go_by_address() -> None:
    assert share_places(FIVE.addresses[::-1]) == {
        address: rank for rank, address in enumerate(FIVE.addresses, 1)
    }


# ------------------------------------------------------------------------- contradicting bundles


def with_differences(size: int, pairs: set[tuple[int, int]]) -> tuple[Round, dict[Address, Bundle]]:
    """Bundles in which the first of each pair commits to another seed with the second."""
    this = Round(size, 40)
    bundles = {}
    for i, member in enumerate(this.members):
        bundle = this.bundle(member)
        for liar, other in pairs:
            if liar == i:
                place = 1 + bundle.peers.index(this.addresses[other])
                false = (*bundle.commitments[:place], Digest(bytes(32)))
                bundle = replace(bundle, commitments=(*false, *bundle.commitments[place + 1 :]))
        bundles[member.address] = bundle
    return this, bundles


@pytest.mark.parametrize(
    ("pairs", "dropped"),
    [
        (set(), {}),
        ({(1, 0), (1, 2), (1, 3)}, {1: 3}),
        ({(1, 0), (1, 2), (3, 0), (3, 1), (3, 4)}, {3: 3, 1: 2}),
        # Of two with one difference the later commitment goes, whoever lied.
        ({(0, 4)}, {4: 1}),
        ({(4, 0)}, {4: 1}),
        # Two who contradict an honest third leave it out (docs/decisions/0020).
        ({(1, 0), (2, 0)}, {0: 2}),
    ],
)
def test_who_contradicts_most_is_left_out(
    pairs: set[tuple[int, int]], dropped: dict[int, int]
) -> None:
    this, bundles = with_differences(5, pairs)
    expected = {this.addresses[i]: count for i, count in dropped.items()}
    assert contradicted(bundles, this.addresses) == expected


def test_commitments_decide_between_two_and_silence_contradicts_nobody() -> None:
    this, bundles = with_differences(5, {(0, 4)})
    assert contradicted(bundles, this.addresses[::-1]) == {this.addresses[0]: 1}
    del bundles[this.addresses[4]]
    assert contradicted(bundles, this.addresses) == {}
    assert contradicted({}, this.addresses) == {}
