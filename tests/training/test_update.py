"""Updates as differences: what is sent, what is carried, and the figures about both."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.encoding import encode_values
from protocol.errors import Misconfigured
from training.update import encode_update

GRID = 10
STEP = 2.0**-GRID


def model(*values: float) -> NDArray[np.int32]:
    return encode_values(np.array(values))


def test_steps_are_the_difference_and_the_rest_is_carried() -> None:
    before = [model(1.0, -2.0, 0.5, 0.0)]
    after = [np.array([1.0 + 3 * STEP, -2.0 - 4.25 * STEP, 0.5 + 0.25 * STEP, 0.0])]
    update = encode_update(before, after, None, GRID)
    assert [layer.tolist() for layer in update.steps] == [[3, -4, 0, 0]]
    assert update.steps[0].dtype == np.int8
    assert update.carried[0].tolist() == [0.0, -0.25 * STEP, 0.25 * STEP, 0.0]
    assert update.clipped_share == 0
    length = sqrt(3**2 + 4.25**2 + 0.25**2)
    assert update.relative_error == pytest.approx(sqrt(2 * 0.25**2) / length)
    assert update.norm() == 5.0


def test_what_was_carried_is_part_of_the_difference() -> None:
    before, after = [model(1.0)], [np.array([1.0 + 0.25 * STEP])]
    once = encode_update(before, after, [np.array([0.3 * STEP])], GRID)
    assert once.steps[0].tolist() == [1]
    assert once.carried[0][0] == pytest.approx(-0.45 * STEP)


def test_values_beyond_the_largest_step_are_held_and_carry_nothing() -> None:
    before = [model(0.0, 0.0), model(0.0, 0.0)]
    after = [np.array([200 * STEP, STEP]), np.array([-127.4 * STEP, -300 * STEP])]
    update = encode_update(before, after, None, GRID)
    assert [layer.tolist() for layer in update.steps] == [[127, 1], [-127, -127]]
    assert update.clipped_share == 0.5
    assert [layer.tolist() for layer in update.carried] == [
        [0.0, 0.0],
        [pytest.approx(-0.4 * STEP), 0.0],
    ]
    lost = sqrt(73**2 + 0.4**2 + 173**2)
    whole = sqrt(200**2 + 1 + 127.4**2 + 300**2)
    assert update.relative_error == pytest.approx(lost / whole)


def test_no_difference_is_no_error() -> None:
    update = encode_update([model(0.5)], [np.array([0.5])], None, GRID)
    assert (update.relative_error, update.norm()) == (0.0, 0.0)


def test_outside_the_trained_part_the_update_is_zero_and_what_is_carried_stays() -> None:
    # Values of 1 and more lose bits in float32: as if they had moved.
    before = [np.full((2, 3), 2**27 + 1, np.int32)]
    after = [np.full((2, 3), 8.5, np.float32)]
    carried = [np.full((2, 3), 0.4 * STEP)]
    update = encode_update(before, after, carried, GRID, [(slice(1), slice(None))])
    assert update.steps[0].tolist() == [[127] * 3, [0] * 3]
    assert update.carried[0].tolist() == [[0.0] * 3, [0.4 * STEP] * 3]
    assert carried[0].tolist() == [[0.4 * STEP] * 3] * 2  # the caller's own


def test_applied_to_the_model_a_step_is_so_many_quanta() -> None:
    before = [model(1.0, -1.0)]
    update = encode_update(before, [np.array([1.0 + 2 * STEP, -1.0])], None, GRID)
    (applied,) = update.applied_to(before)
    assert (applied - before[0]).tolist() == [2 << 14, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_one_clear_line(value: float) -> None:
    after = [np.array([0.0], np.float32), np.array([value], np.float32)]
    with pytest.raises(Misconfigured, match=r"diverged: layer 1: value 0 is (nan|inf).*learning"):
        encode_update([model(0.0), model(0.0)], after, None, GRID)


@given(
    moves=st.lists(
        st.lists(st.floats(-100 * STEP, 100 * STEP), min_size=3, max_size=3), min_size=1, max_size=8
    ),
    finer=st.integers(0, 2),
)
def test_nothing_is_lost_over_rounds(moves: list[list[float]], finer: int) -> None:
    """What was sent in all is within half a step of what was trained in all."""
    before = [model(0.3, -0.2, 0.1)]
    sent, trained, carried = np.zeros(3), np.zeros(3), None
    for number, move in enumerate(moves):
        grid = min(GRID, GRID - 2 + number * finer)  # ever finer, as over the rounds
        exact = before[0] * 2.0**-24
        update = encode_update(before, [exact + np.array(move)], carried, grid)
        assert update.clipped_share == 0
        carried = update.carried
        sent += update.steps[0] * 2.0**-grid
        trained += np.array(move)
    assert carried is not None
    assert np.abs(sent - trained).max() <= 2.0 ** -(grid + 1) + 1e-12
    assert trained - sent == pytest.approx(carried[0], abs=1e-12)
