"""Commitments, eligibility, verdicts and payouts beyond their golden vectors."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.commitment import compute_commitment, is_eligible
from protocol.errors import Misconfigured
from protocol.payout import compute_payouts
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits
from protocol.verdict import FULL_SCORE, Verdict, compute_weight, verdicts_hash
from tests.protocol import reference

COMMITMENT: dict[str, Any] = {
    "federation": reference.address(100),
    "round_id": RoundId(3),
    "participant": reference.address(1),
    "root": Digest(b"r" * 32),
    "manifest": Digest(b"m" * 32),
    "examples": 40,
    "salt": b"s" * 32,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("federation", reference.address(101)),
        ("round_id", RoundId(4)),
        ("participant", reference.address(2)),
        ("root", Digest(b"x" * 32)),
        ("manifest", Digest(b"x" * 32)),
        ("examples", 41),
        ("salt", b"x" * 32),
    ],
)
def test_a_commitment_binds_every_field(field: str, value: object) -> None:
    assert compute_commitment(**{**COMMITMENT, field: value}) != compute_commitment(**COMMITMENT)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_salt_is_32_bytes(size: int) -> None:
    with pytest.raises(Misconfigured, match=f"the salt has {size} bytes"):
        compute_commitment(**{**COMMITMENT, "salt": bytes(size)})


def test_about_the_sampled_fraction_is_eligible_and_more_of_it_never_fewer() -> None:
    seed = Digest(b"s" * 32)
    everybody = [Address(reference.address(index)) for index in range(600)]
    asked = [
        {who for who in everybody if is_eligible(seed, who, BasisPoints(fraction))}
        for fraction in (0, 2_500, 5_000, 9_999, 10_000)
    ]
    assert asked[0] == set()
    assert 100 < len(asked[1]) < 200 < 250 < len(asked[2]) < 350
    assert asked[4] == set(everybody)
    assert all(fewer <= more for fewer, more in pairwise(asked))
    for fraction in (-1, 10_001):
        with pytest.raises(Misconfigured, match="sampling fraction"):
            is_eligible(seed, everybody[0], BasisPoints(fraction))


def test_a_weight_is_capped() -> None:
    assert [compute_weight(examples, 100) for examples in (1, 99, 100, 10**12)] == [1, 99, 100, 100]


def test_the_verdicts_hash_binds_order_and_every_field() -> None:
    one = Verdict(Address(reference.address(1)), 5, FULL_SCORE, 0)
    two = Verdict(Address(reference.address(2)), 6, BasisPoints(1), 0)
    hashes = {
        verdicts_hash(rows)
        for rows in (
            [one, two],
            [two, one],
            [one],
            [],
            [one, replace(two, weight=7)],
            [one, replace(two, score=BasisPoints(2))],
            [one, replace(two, reason=3)],
            [one, replace(two, participant=one.participant)],
        )
    }
    assert len(hashes) == 8


@st.composite
def verdict_lists(draw: st.DrawFn) -> list[Verdict]:
    count = draw(st.integers(0, 12))
    return [
        Verdict(
            Address(reference.address(index)),
            draw(st.integers(1, 2**24)),
            BasisPoints(draw(st.sampled_from([0, 1, 9_999, 10_000]))),
            draw(st.sampled_from([0, 0, 0, 8])),
        )
        for index in range(count)
    ]


@given(st.integers(0, 10**30), verdict_lists())
def test_payouts_never_exceed_the_reward_and_lose_less_than_a_unit_each(
    reward: int, verdicts: list[Verdict]
) -> None:
    paid = compute_payouts(TokenUnits(reward), verdicts)
    accepted = {v.participant: v for v in verdicts if v.is_accepted}
    assert paid.keys() == accepted.keys()
    shares = {who: v.weight * v.score for who, v in accepted.items()}
    total = sum(shares.values())
    if total == 0:
        assert not any(paid.values())
        return
    assert reward - len(paid) < sum(paid.values()) <= reward
    for who, amount in paid.items():
        assert amount * total <= reward * shares[who] < (amount + 1) * total
    rows = [(str(v.participant), v.weight, int(v.score), v.reason) for v in verdicts]
    assert paid == reference.payouts(reward, rows)
