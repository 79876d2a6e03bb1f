"""Any t shares recover a secret, and fewer leave every secret as likely as any other."""

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Misconfigured, Rejected
from protocol.shares import default_threshold, open_shares, recover, seal_shares, split
from tests.protocol import reference


@given(st.integers(2, 31), st.integers(0, 2**32), st.data())
def test_any_t_shares_recover_and_one_fewer_does_not(
    peers: int, seed: int, draw: st.DataObject
) -> None:
    rng = random.Random(seed)
    threshold = draw.draw(st.integers(2, peers))
    secret, places = rng.randbytes(32), rng.sample(range(1, 33), peers)
    shares = split(secret, threshold, places, rng.randbytes(32 * (threshold - 1)))
    by_place = dict(zip(places, shares, strict=True))
    chosen = rng.sample(places, threshold)
    assert recover({place: by_place[place] for place in chosen}, threshold) == secret
    assert recover(by_place, threshold) == secret
    few = {place: by_place[place] for place in chosen[:-1]}
    with pytest.raises(Misconfigured, match=f"{threshold} are needed"):
        recover(few, threshold)
    # With any other value in place of the missing share, another secret would come out.
    other = bytes(byte ^ 1 for byte in by_place[chosen[-1]])
    assert recover({**few, chosen[-1]: other}, threshold) != secret


def test_fewer_than_t_shares_are_those_of_every_byte() -> None:
    """For each value of the secret just one choice of the coefficients gives what was seen."""
    every = bytes(range(256))  # split byte by byte, so all of them at once
    found = [0] * 256
    (seen,) = split(b"\x2a", 2, [7, 9], b"\xc1")[:1]
    for coefficient in every:
        shares = split(every, 2, [7, 9], bytes([coefficient]) * 256)[0]
        found = [n + (share == seen[0]) for n, share in zip(found, shares, strict=True)]
    assert found == [1] * 256
    # Two of three: at x = 1 a share is the sum of all coefficients, so two of them give the third.
    (one,), (two,), _ = split(b"\x2a", 3, [1, 2, 5], b"\x07\xc1")
    found = [0] * 256
    for first in every:
        third = bytes(one ^ secret ^ first for secret in every)
        shares = split(every, 3, [1, 2, 5], bytes([first]) * 256 + third)[1]
        found = [n + (share == two) for n, share in zip(found, shares, strict=True)]
    assert found == [1] * 256


def test_every_choice_of_shares_gives_the_same_secret() -> None:
    rng = random.Random(3)
    secret = rng.randbytes(32)
    shares = dict(zip(range(1, 7), split(secret, 4, range(1, 7), rng.randbytes(96)), strict=True))
    for chosen in combinations(shares, 4):
        assert recover({place: shares[place] for place in chosen}, 4) == secret


@given(st.integers(1, 255), st.integers(1, 255), st.binary(min_size=1, max_size=5))
def test_products_and_inverses_are_those_of_polynomials(x: int, other: int, data: bytes) -> None:
    if x != other:
        made = split(data, 2, [x, other], data)
        assert made == reference.split(data, 2, [x, other], data)
        assert reference.recover({x: made[0], other: made[1]}) == data
        assert recover({x: made[0], other: made[1]}, 2) == data


def test_thresholds() -> None:
    assert [default_threshold(n - 1) for n in range(3, 33)] == [
        *(2, 3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 9, 10, 11, 11, 12, 13, 13, 14, 15, 15, 16, 17, 17),
        *(18, 19, 19, 20, 21, 21),
    ]


def test_what_cannot_be_split_or_recovered_is_refused() -> None:
    for threshold in (0, 4):
        with pytest.raises(Misconfigured, match="cannot be asked for"):
            split(bytes(32), threshold, [1, 2, 3], bytes(32))
    for places in ([0, 1, 2], [1, 1, 2], [1, 2, 256]):
        with pytest.raises(Misconfigured, match="each once"):
            split(bytes(32), 2, places, bytes(32))
    with pytest.raises(Misconfigured, match="31 random bytes"):
        split(bytes(32), 2, [1, 2], bytes(31))
    with pytest.raises(Misconfigured, match="1 are needed"):
        recover({}, 0)
    with pytest.raises(Misconfigured, match="of one length"):
        recover({1: bytes(32), 2: bytes(31)}, 2)
    for place in (0, 256):
        with pytest.raises(Misconfigured, match="at places 1 to 255"):
            recover({place: bytes(32)}, 1)


def test_a_box_opens_whole_or_not_at_all() -> None:
    key, shares = bytes(range(32)), [bytes([i]) * 32 for i in range(3)]
    box = seal_shares(key, shares, bytes(12))
    assert open_shares(key, box) == shares
    bent = [box[:i] + bytes([box[i] ^ 1]) + box[i + 1 :] for i in range(len(box))]
    for other in (*bent, box[:-1], box + b"\0", box[:12], b""):
        with pytest.raises(Rejected, match="does not open"):
            open_shares(key, other)
    with pytest.raises(Rejected, match="does not open"):
        open_shares(bytes(32), box)
    with pytest.raises(Rejected, match="no whole shares"):
        open_shares(key, seal_shares(key, [bytes(31)], bytes(12)))
    with pytest.raises(Misconfigured, match="the nonce has 11 bytes"):
        seal_shares(key, shares, bytes(11))
