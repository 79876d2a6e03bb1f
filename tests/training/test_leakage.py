"""Exposure, membership, and how sure they are, against known values and many draws."""

from math import log2

import numpy as np
import pytest

from training.leakage import chance_exposure, compare, exposure, make_canaries


def test_exposure_is_the_rank_in_bits() -> None:
    others = [float(each) for each in range(23)]
    assert exposure(23.0, others) == pytest.approx(log2(24))  # first of 24: 4.58 bits
    assert exposure(-1.0, others) == 0.0
    assert exposure(11.5, others) == pytest.approx(1.0)
    assert exposure(22.0, others) == pytest.approx(log2(24) - 1)  # a tie counts against it


def test_chance_is_the_mean_over_all_ranks() -> None:
    others = [float(each) for each in range(15)]
    ranks = [exposure(each - 0.5, others) for each in range(16)]
    assert chance_exposure(15) == pytest.approx(np.mean(ranks))
    assert chance_exposure(23) == pytest.approx(1.29, abs=0.01)


def test_membership_is_the_share_of_pairs_in_order() -> None:
    found = compare([3.0, 1.0], [0.0, 1.0, 2.0])
    assert found.auc == pytest.approx((3 + 1.5) / 6)
    assert (found.members, found.others) == (2, 3)
    assert 0.0 <= found.low < found.auc < found.high <= 1.0
    assert compare([1.0] * 40, [0.0] * 40).in_words == "not at chance"
    assert compare([0.0] * 40, [1.0] * 40).in_words == "not at chance"
    assert compare([1.0], [0.0]).in_words == "at chance"  # one pair says nothing


def test_an_interval_has_a_width_at_the_ends() -> None:
    """As published: Newcombe 2006, part 2. All pairs in order is not certainty."""
    found = compare([1.0] * 16, [0.0] * 16)
    assert found.high == 1.0
    assert 0.80 < found.low < 0.95
    other = compare([0.0] * 16, [1.0] * 16)
    assert (other.low, other.high) == pytest.approx((0.0, 1 - found.low))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_the_interval_holds_the_true_value_nineteen_times_of_twenty(shift: float) -> None:
    random = np.random.default_rng(3)
    true = compare(random.normal(shift, 1, 4000), random.normal(0, 1, 4000)).auc
    held = 0
    for _ in range(400):
        found = compare(random.normal(shift, 1, 30), random.normal(0, 1, 40))
        held += found.low <= true <= found.high
    assert 0.92 <= held / 400 <= 0.985


def test_canaries_are_drawn_and_alike() -> None:
    planted, kept = make_canaries(16)
    again, _ = make_canaries(16)
    assert len({each.answer for each in (*planted, *kept, *again)}) == 48
    shape = {(len(each.question), len(each.answer)) for each in (*planted, *kept)}
    assert len(shape) == 1
    digits = "".join(c for each in (*planted, *kept) for c in each.answer if c.isdigit())
    assert len(digits) == 32 * 12
    assert len(set(digits)) == 10
