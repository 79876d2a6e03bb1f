"""What scores must be whatever the losses: exact, bounded, not to be moved by many small ones."""

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protocol.projection import project, solve_coefficients
from protocol.scoring import HIGHEST_LOSS, compute_scores, to_millionths
from protocol.types import FULL_BASIS_POINTS
from tests.protocol import reference

losses = st.integers(0, HIGHEST_LOSS) | st.integers(2_300_000, 2_400_000)
rounds = st.tuples(losses, losses, st.lists(losses, min_size=1, max_size=64))


@given(rounds)
def test_scores_are_the_references(given_: tuple[int, int, list[int]]) -> None:
    earned, harm = reference.scores(*given_)
    found = compute_scores(*given_)
    assert [score.value for score in found] == earned
    assert [score.is_harm for score in found] == harm


@given(rounds)
def test_more_help_never_earns_less_and_somebody_earns_everything(
    given_: tuple[int, int, list[int]],
) -> None:
    before, average, without = given_
    found = sorted(compute_scores(before, average, without), key=lambda score: score.gain)
    values = [score.value for score in found]
    assert values == sorted(values)
    assert all(0 <= value <= FULL_BASIS_POINTS for value in values)
    helps = average < before and max(without) > average
    # The largest gain is at least the mean of them.
    assert values[-1] == (FULL_BASIS_POINTS if helps else 0)
    assert not any(score.is_harm and score.value for score in found)


@given(rounds)
def test_not_everybody_does_harm(given_: tuple[int, int, list[int]]) -> None:
    assert not all(score.is_harm for score in compute_scores(*given_))


@given(st.integers(1, 10**5), st.integers(1, 63))
def test_many_of_next_to_no_gain_do_not_lift_one_another(gain: int, count: int) -> None:
    """Each of them earns next to nothing beside one update that helps a thousand times as much."""
    average = 2_000_000
    without = [average + 1_000 * gain, *[average + gain] * count]
    first, *others = compute_scores(3_000_000, average, without)
    assert first.value == FULL_BASIS_POINTS
    assert all(score.value <= 11 for score in others)


@given(st.floats())
def test_a_loss_is_taken_in_millionths(loss: float) -> None:
    found = to_millionths(loss)
    assert found == reference.millionths(loss)
    assert 0 <= found <= HIGHEST_LOSS
    if 0 <= loss <= 999:
        assert abs(Fraction(found) - Fraction(loss) * 10**6) <= Fraction(1, 2)


vectors = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(-127, 127), min_size=size, max_size=size), min_size=1, max_size=6
    )
)


@given(vectors)
def test_what_an_update_repeats_is_its_projection(given_: list[list[int]]) -> None:
    update, *older = given_
    arrays: list[Any] = [np.array(vector, np.int64) for vector in older]
    gram = [[int(u @ v) for v in arrays] for u in arrays]
    (found,) = solve_coefficients(gram, [[int(np.array(update) @ u) for u in arrays]])
    assert found == reference.coefficients(older, update)
    if older:
        expected = reference.repeated_part(older, found)
        assert project(arrays, found, len(update)).tolist() == expected
    else:
        assert project(arrays, found, len(update)).tolist() == [0] * len(update)
