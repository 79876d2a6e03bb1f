"""What a participant publishes, and what it carries over to the next round."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.average import move_model
from protocol.checks import Check
from protocol.differences import (
    MAX_GRID,
    choose_grid,
    decode_differences,
    encode_differences,
)
from protocol.errors import Misconfigured, Rejected
from tests.protocol import reference

grids = st.integers(0, MAX_GRID)


@st.composite
def trainings(draw: st.DrawFn) -> tuple[list[int], list[float], list[float], int]:
    """A model, what training made of it, what was carried, and a grid."""
    grid, size = draw(grids), draw(st.integers(1, 8))
    step = 2.0**-grid
    before = draw(st.lists(st.integers(-(2**30), 2**30), min_size=size, max_size=size))
    halves = st.integers(-300, 300).map(lambda half: half / 2)  # ties, and beyond the ends
    moved = st.floats(-150, 150, allow_subnormal=False) | halves
    after = [old / 2**24 + draw(moved) * step for old in before]
    carried = [draw(st.floats(-0.5, 0.5)) * step for _ in before]
    return before, after, carried, grid


@given(trainings())
def test_steps_and_what_is_carried_are_the_references(
    given_: tuple[list[int], list[float], list[float], int],
) -> None:
    before, after, carried, grid = given_
    made = encode_differences(np.array(before, np.int32), np.array(after), np.array(carried), grid)
    rows = [reference.difference(*row, grid) for row in zip(before, after, carried, strict=True)]
    assert made.steps.tolist() == [step for step, _ in rows]
    assert made.carried.tolist() == [rest for _, rest in rows]
    assert made.steps.dtype == np.int8
    assert made.carried.dtype == np.float64
    assert abs(made.steps.astype(int)).max() <= 127


@given(trainings())
def test_nothing_is_lost_where_nothing_is_held(
    given_: tuple[list[int], list[float], list[float], int],
) -> None:
    before, after, carried, grid = given_
    made = encode_differences(np.array(before, np.int32), np.array(after), np.array(carried), grid)
    decoded = decode_differences(made.steps, grid).tolist()
    half = 2.0 ** -(grid + 1)
    held = 0
    rows = zip(before, after, carried, decoded, made.carried.tolist(), strict=True)
    for old, new, rest, step, kept in rows:
        difference = new - old / 2**24 + rest
        if round(Fraction(difference) * 2**grid) in range(-127, 128):
            assert Fraction(step) + Fraction(kept) == Fraction(difference)
            assert abs(kept) <= half
        else:
            assert (abs(step), kept) == (127 * 2.0**-grid, 0.0)
            assert (step > 0) == (difference > 0)
            held += 1
    assert made.clipped == held


@given(st.floats(-0.9, 0.9), st.integers(8, 20))
def test_a_movement_finer_than_the_grid_arrives_over_the_rounds(part: float, grid: int) -> None:
    """Twenty rounds that each want the same fraction of a step: the sum is off by half a step."""
    model, carried = np.zeros(1, np.int32), None
    for _ in range(20):
        wanted = model * 2.0**-24 + part * 2.0**-grid
        made = encode_differences(model, wanted, carried, grid)
        carried = made.carried
        model = move_model(model, [made.steps], [7], grid)
    assert abs(model[0] * 2.0**-24 - 20 * part * 2.0**-grid) <= 0.501 * 2.0**-grid


@given(hnp.arrays(np.int8, st.integers(1, 20), elements=st.integers(-127, 127)), grids)
def test_decoded_steps_encode_to_themselves(steps: NDArray[np.int8], grid: int) -> None:
    decoded = decode_differences(steps, grid)
    made = encode_differences(np.zeros(steps.shape, np.int32), decoded, None, grid)
    assert (made.steps.tolist(), made.clipped) == (steps.tolist(), 0)
    assert not made.carried.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_width_is_taken_and_shapes_are_kept(dtype: Any) -> None:
    before = np.full((2, 3), 2**23, np.int32)
    made = encode_differences(before, np.full((2, 3), 0.75, dtype), None, 4)
    assert made.steps.tolist() == [[4] * 3] * 2
    assert made.carried.shape == (2, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    after = np.zeros((3, 5), np.float32)
    after[1, 2] = bad
    with pytest.raises(Rejected, match=r"value 7 is -?(nan|inf) after training") as caught:
        encode_differences(np.zeros((3, 5), np.int32), after, None, 13)
    assert caught.value.check == Check.RANGE


def test_a_huge_value_is_held_like_any_other() -> None:
    made = encode_differences(np.zeros(2, np.int32), np.array([1e308, -1e308]), None, 24)
    assert (made.steps.tolist(), made.carried.tolist(), made.clipped) == ([127, -127], [0, 0], 2)


def test_what_does_not_fit_is_refused() -> None:
    before, after = np.zeros(2, np.int32), np.zeros(2, np.float32)
    for grid in (-1, 25):
        with pytest.raises(Misconfigured, match=f"the grid is {grid}, 0 to 24"):
            encode_differences(before, after, None, grid)
        with pytest.raises(Misconfigured, match=f"the grid is {grid}, 0 to 24"):
            decode_differences(np.zeros(2, np.int8), grid)
    with pytest.raises(Misconfigured, match=r"the model has shape \(2,\), .* \(1,\)"):
        encode_differences(before, after[:1], None, 13)
    with pytest.raises(Misconfigured, match=r"what was carried \(1,\)"):
        encode_differences(before, after, np.zeros(1), 13)


@given(hnp.arrays(np.float64, st.integers(1, 3000), elements=st.floats(-1, 1, width=32)))
def test_the_chosen_grid_is_the_finest_that_fits(values: NDArray[np.float64]) -> None:
    rms = float(np.sqrt(np.mean(values**2)))
    if rms < 1e-30:
        return

    def fits(grid: int) -> bool:
        reach = 127 * 2.0**-grid
        return reach >= 3 * rms and int(np.sum(np.abs(values) > reach)) * 1000 <= values.size

    grid = choose_grid([values[:7], values[7:]])
    assert fits(grid)
    assert grid == MAX_GRID or not fits(grid + 1)


def test_a_trial_that_no_grid_fits_says_what_to_do() -> None:
    with pytest.raises(Misconfigured, match="changed nothing: raise the learning rate"):
        choose_grid([np.zeros((2, 2)), np.zeros(1)])
    with pytest.raises(Misconfigured, match=r"moves values by 50 .*lower the learning rate"):
        choose_grid([np.full((2, 2), 50.0)])
    for bad in (np.nan, np.inf):
        with pytest.raises(Misconfigured, match="not numbers"):
            choose_grid([np.array([bad, 1.0])])
