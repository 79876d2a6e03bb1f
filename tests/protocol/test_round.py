"""Commitments, eligibility, verdicts and payouts beyond their golden vectors."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.commitment import PREFIX_BYTES, compute_commitment, compute_seed, is_eligible
from protocol.errors import Misconfigured
from protocol.payout import compute_fee, compute_payouts
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


def test_a_seed_binds_every_field() -> None:
    first: dict[str, Any] = {
        "federation": reference.address(100),
        "round_id": RoundId(3),
        "block_hash": Digest(b"h" * 32),
        "prevrandao": 2**255,
    }
    others = {
        "federation": reference.address(101),
        "round_id": RoundId(4),
        "block_hash": Digest(b"x" * 32),
        "prevrandao": 0,
    }
    seeds = {compute_seed(**{**first, field: value}) for field, value in others.items()}
    assert len(seeds | {compute_seed(**first)}) == 5


def test_about_the_target_is_asked_and_a_higher_one_asks_no_fewer() -> None:
    seed = Digest(b"s" * 32)
    everybody = [Address(reference.address(index)) for index in range(600)]
    asked = [
        {who for who in everybody if is_eligible(seed, who, 600, target)}
        for target in (1, 150, 300, 599, 600, 1000)
    ]
    assert len(asked[0]) < 10
    assert 100 < len(asked[1]) < 200 < 250 < len(asked[2]) < 350
    assert asked[4] == asked[5] == set(everybody)
    assert all(fewer <= more for fewer, more in pairwise(asked))
    for active, target in ((0, 1), (1, 0), (-1, 5)):
        with pytest.raises(Misconfigured, match="each is at least 1"):
            is_eligible(seed, everybody[0], active, target)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**16), st.integers(1, 64))
def test_eligibility_is_the_references(seed: bytes, active: int, target: int) -> None:
    who = reference.address(7)
    expected = reference.is_eligible(reference.eligibility_draw(seed, who), active, target)
    assert is_eligible(Digest(seed), Address(who), active, target) == expected


def test_a_weight_is_capped() -> None:
    assert [compute_weight(examples, 100) for examples in (1, 99, 100, 10**12)] == [1, 99, 100, 100]


def test_the_verdicts_hash_binds_order_and_every_field() -> None:
    one = Verdict(Address(reference.address(1)), b"1" * 30, 5, FULL_SCORE, 0)
    two = Verdict(Address(reference.address(2)), b"2" * 30, 6, FULL_SCORE, 0)
    hashes = {
        verdicts_hash(rows)
        for rows in (
            [one, two],
            [two, one],
            [one],
            [],
            [one, replace(two, revealed=b"3" * 30)],
            [one, replace(two, weight=7)],
            [one, replace(two, score=BasisPoints(2))],
            [one, replace(two, reason=3)],
            [one, replace(two, participant=one.participant)],
        )
    }
    assert len(hashes) == 9


CAP = 2**18 - 1  # 64 of them stay below 2^24


@st.composite
def verdict_lists(draw: st.DrawFn) -> tuple[list[Verdict], int]:
    """Verdicts and the weight that was revealed."""
    verdicts, revealed = [], 0
    for index in range(draw(st.integers(0, 12))):
        weight = compute_weight(draw(st.integers(1, 2**32 - 1) | st.integers(1, 9)), CAP)
        who, reason = Address(reference.address(index)), draw(st.sampled_from([0, 0, 0, 8, 12]))
        digest = draw(st.binary(min_size=PREFIX_BYTES, max_size=PREFIX_BYTES))
        score = BasisPoints(0) if reason else FULL_SCORE
        verdicts.append(Verdict(who, digest, 0 if reason else weight, score, reason))
        revealed += weight
    return verdicts, revealed


def rows_of(verdicts: list[Verdict]) -> list[reference.Row]:
    return [(str(v.participant), v.revealed, v.weight, int(v.score), v.reason) for v in verdicts]


@given(verdict_lists())
def test_the_verdicts_hash_is_the_references(given_: tuple[list[Verdict], int]) -> None:
    assert verdicts_hash(given_[0]) == reference.verdicts_hash(rows_of(given_[0]))


@given(st.integers(0, 10**30), verdict_lists())
def test_a_payout_never_exceeds_the_price_and_depends_on_nobody_else(
    price: int, given_: tuple[list[Verdict], int]
) -> None:
    verdicts, _ = given_
    paid = compute_payouts(TokenUnits(price), CAP, verdicts)
    assert paid.keys() == {v.participant for v in verdicts if v.is_accepted}
    assert paid == reference.payouts(price, CAP, rows_of(verdicts))
    for verdict in verdicts:
        alone = compute_payouts(TokenUnits(price), CAP, [verdict])
        assert alone.get(verdict.participant) == paid.get(verdict.participant)
        amount = alone.get(verdict.participant, 0)
        assert amount * CAP <= price * verdict.weight < (amount + 1) * CAP or not amount
        assert amount <= price
        if verdict.weight == CAP:
            assert amount == price


@given(st.integers(0, 10**30), verdict_lists())
def test_the_fee_is_full_where_all_are_accepted_and_none_where_nobody_is(
    fee: int, given_: tuple[list[Verdict], int]
) -> None:
    verdicts, revealed = given_
    paid = compute_fee(TokenUnits(fee), verdicts, revealed)
    assert paid == reference.fee(fee, rows_of(verdicts), revealed) <= fee
    if verdicts and all(v.is_accepted for v in verdicts):
        assert paid == fee
    if not any(v.is_accepted for v in verdicts):
        assert paid == 0
