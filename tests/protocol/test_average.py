import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import average
from protocol.average import (
    MAX_TOTAL_WEIGHT,
    most_moved,
    move_into,
    move_model,
    move_without_into,
    sum_into,
    weighted_mean,
)
from protocol.differences import decode_differences
from protocol.encoding import decode_values, encode_values, layer_bytes
from protocol.errors import Misconfigured
from scripts.recompute import move_leaf
from tests.protocol import reference
from tests.protocol.strategies import MAX

TOP = MAX_TOTAL_WEIGHT
quanta = st.integers(-MAX, MAX) | st.sampled_from([-MAX, MAX, 0, 1, -1])
steps = st.integers(-128, 127) | st.sampled_from([-128, -127, 127, 0, 1, -1])


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[int], list[list[int]], list[int], int]:
    """The model before, updates, weights and a grid."""
    count, size = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    before = draw(st.lists(quanta, min_size=size, max_size=size))
    updates = [draw(st.lists(steps, min_size=size, max_size=size)) for _ in range(count)]
    weight = st.integers(1, TOP // count) | st.integers(1, 3)
    weights = draw(st.lists(weight, min_size=count, max_size=count))
    if draw(st.booleans()):
        weights[0] += TOP - sum(weights)  # the largest sum there is
    return before, updates, weights, draw(st.integers(0, 24))


def bytes_of(updates: list[list[int]]) -> list[Any]:
    return [np.array(update, dtype=np.int8) for update in updates]


def arrays(layers: list[list[int]]) -> list[Any]:
    return [np.array(layer, dtype=np.int32) for layer in layers]


@given(rounds(), st.randoms(use_true_random=False))
def test_a_round_is_the_references_in_any_order(
    given_: tuple[list[int], list[list[int]], list[int], int], rng: Any
) -> None:
    before, updates, weights, grid = given_
    expected = reference.move(before, updates, weights, grid)
    model = np.array(before, np.int32)
    assert move_model(model, bytes_of(updates), weights, grid).tolist() == expected
    order = rng.sample(range(len(weights)), len(weights))
    shuffled = bytes_of([updates[i] for i in order])
    again = move_model(model, shuffled, [weights[i] for i in order], grid)
    assert again.tolist() == expected


@given(rounds(), st.sampled_from(["<i4", ">i4"]))
def test_an_updates_place_is_taken_by_zero_and_the_weight_stays(
    given_: tuple[list[int], list[list[int]], list[int], int], stored: str
) -> None:
    before, updates, weights, grid = given_
    model, sums, after = (np.array(before, stored) for _ in range(3))
    sum_into(sums, bytes_of(updates), weights)
    for index, (update, weight) in enumerate(zip(bytes_of(updates), weights, strict=True)):
        move_without_into(after, model, sums, update, (weight, sum(weights)), grid)
        assert after.tolist() == reference.move_without(before, updates, weights, grid, index)


@given(rounds())
def test_no_value_moves_further_than_the_format_allows(
    given_: tuple[list[int], list[list[int]], list[int], int],
) -> None:
    before, updates, weights, grid = given_
    after = move_model(np.array(before, np.int32), bytes_of(updates), weights, grid).tolist()
    assert all(abs(new) <= MAX for new in after)
    assert all(abs(new - old) <= most_moved(grid) for new, old in zip(after, before, strict=True))
    assert reference.is_bounded(before, after, grid)


@given(rounds())
def test_the_movement_lies_between_those_of_the_updates_and_padding_stays_zero(
    given_: tuple[list[int], list[list[int]], list[int], int],
) -> None:
    _, updates, weights, grid = given_
    padded = bytes_of([[max(step, -127) for step in update] + [0] for update in updates])
    model = np.zeros(len(updates[0]) + 1, np.int32)
    after = move_model(model, padded, weights, grid).tolist()
    assert after.pop() == 0
    scale = 2 ** (24 - grid)
    for moved, column in zip(after, zip(*padded, strict=False), strict=False):
        steps_ = [int(step) for step in column]
        low, high = (min(MAX, max(-MAX, bound(steps_) * scale)) for bound in (min, max))
        assert low <= moved <= high


def test_a_thousand_rounds_agree_to_the_bit_three_times() -> None:
    rng = random.Random(20)
    for _ in range(1000):
        count = rng.choice([1, 1, 2, 2, 3, 5, 8, 64] if rng.random() < 0.1 else [1, 2, 3])
        grid, most = rng.randint(0, 24), rng.choice([3, 2**20, MAX])
        weights = [rng.randint(1, rng.choice([3, TOP // count])) for _ in range(count)]
        if rng.random() < 0.2:
            weights[-1] += TOP - sum(weights)
        before = [rng.randint(-most, most) for _ in range(256)]
        updates = [[rng.randint(-128, 127) for _ in range(256)] for _ in range(count)]
        expected = reference.move(before, updates, weights, grid)
        model = np.array(before, np.int32)
        assert move_model(model, bytes_of(updates), weights, grid).tolist() == expected
        files = [layer_bytes(update, "update") for update in bytes_of(updates)]
        plain = move_leaf(layer_bytes(model, "model"), files, weights, grid)
        assert plain == reference.layer_file(expected, "model")


@pytest.mark.parametrize("grid", [0, 13, 24])
@pytest.mark.parametrize("weights", [[TOP], [1, TOP - 1], [TOP // 64] * 64, [1]])
def test_a_sum_beyond_127_weights_is_held(grid: int, weights: list[int]) -> None:
    updates = bytes_of([[-128, -127, 127]] * len(weights))
    after = move_model(np.zeros(3, np.int32), updates, weights, grid)
    assert after.tolist() == [-most_moved(grid), -most_moved(grid), most_moved(grid)]


def test_results_are_held_within_the_range() -> None:
    ends = np.array([MAX, -MAX, MAX - 1, 1 - MAX, MAX - most_moved(0)], np.int32)
    after = move_model(ends, bytes_of([[127, -127, 1, -1, 127]]), [TOP], 0)
    assert after.tolist() == [MAX, -MAX, MAX, -MAX, MAX]


def test_one_wrong_value_is_one_wrong_value() -> None:
    rng = np.random.default_rng(4)
    model = rng.integers(-MAX, MAX, 300, np.int32)
    updates = list(rng.integers(-126, 127, (3, 300), np.int8))
    honest = move_model(model, updates, [1, 1, 1], 13)
    for place in (0, 17, 299):
        bent = [update.copy() for update in updates]
        bent[1][place] += 1
        assert np.flatnonzero(move_model(model, bent, [1, 1, 1], 13) != honest).tolist() == [place]


def test_a_tie_goes_upwards() -> None:
    updates = bytes_of([[1, -1, -3], [2, -2, -4]])
    after = move_model(np.array([10, 10, 10], np.int32), updates, [5, 5], 24)
    assert after.tolist() == [12, 9, 7]
    assert weighted_mean(arrays([[1, -1, -3], [2, -2, -4]]), [5, 5]).tolist() == [2, -1, -3]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    model = rng.integers(-MAX, MAX, (7, 31), np.int32)
    updates = list(rng.integers(-127, 128, (3, 7, 31), np.int8))
    whole = move_model(model, updates, [1, 2, 3], 13)
    mean = weighted_mean([model, whole], [1, 2])
    monkeypatch.setattr(average, "_BLOCK", 10)
    np.testing.assert_array_equal(move_model(model, updates, [1, 2, 3], 13), whole)
    np.testing.assert_array_equal(weighted_mean([model, whole], [1, 2]), mean)
    assert whole.shape == mean.shape == (7, 31)


@pytest.mark.parametrize(("source", "target"), [("<", "<"), (">", ">"), ("<", ">"), (">", "<")])
def test_byte_orders_do_not_show(source: str, target: str) -> None:
    before, updates = [1, -500, MAX], bytes_of([[1, -50, 127], [7, 3, -127]])
    expected = reference.move(before, [update.tolist() for update in updates], [2, 3], 20)
    model, after = np.array(before, f"{source}i4"), np.empty(3, f"{target}i4")
    move_into(after, model, updates, [2, 3], 20)
    assert after.tolist() == expected
    moved = move_model(model, updates, [2, 3], 20)
    assert (moved.tolist(), moved.dtype) == (expected, np.dtype("=i4"))


def test_the_model_may_be_moved_in_place() -> None:
    model = np.array([5, -5], np.int32)
    move_into(model, model, bytes_of([[3, 4]]), [1], 24)
    assert model.tolist() == [8, -1]


def test_close_to_the_float_mean() -> None:
    rng = np.random.default_rng(2)
    model = encode_values(rng.normal(0, 1, 1000))
    updates = list(rng.integers(-127, 128, (5, 1000), np.int8))
    weights, grid = [1, 10, 100, 7, 3], 13
    moved = move_model(model, updates, weights, grid) * 2.0**-24
    mean = np.average([decode_differences(u, grid) for u in updates], axis=0, weights=weights)
    np.testing.assert_allclose(moved, model * 2.0**-24 + mean, rtol=0, atol=2**-25)


def test_the_furthest_move() -> None:
    assert [most_moved(grid) for grid in (0, 13, 24)] == [127 * 2**24, 127 * 2**11, 127]
    assert Fraction(most_moved(13), 2**24) == Fraction(127, 2**13)


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        ([], "nothing to average"),
        ([1, 0], "weight 0"),
        ([1, -5], "weight -5"),
        ([1, TOP], "add up to 16777216"),
        ([1], "2 updates and 1 weights"),
    ],
)
def test_bad_weights_are_refused(weights: list[int], line: str) -> None:
    with pytest.raises(Misconfigured, match=line):
        move_model(np.zeros(1, np.int32), bytes_of([[1], [2]]), weights, 13)
    with pytest.raises(Misconfigured, match=line):
        weighted_mean(arrays([[1], [2]]), weights)


def test_what_does_not_fit_is_refused() -> None:
    model, (update,) = np.zeros(2, np.int32), bytes_of([[1, 2]])
    wrong: Any = np.zeros(2, np.int32)
    with pytest.raises(Misconfigured, match="int32, int8 was expected"):
        move_model(model, [wrong], [1], 13)
    with pytest.raises(Misconfigured, match="int8, int32 was expected"):
        move_model(update, [update], [1], 13)
    with pytest.raises(Misconfigured, match=r"shape \(1,\), \(2,\) was expected"):
        move_model(model, [update[:1]], [1], 13)
    for grid in (-1, 25):
        with pytest.raises(Misconfigured, match=f"the grid is {grid}, 0 to 24"):
            move_model(model, [update], [1], grid)
    with pytest.raises(Misconfigured, match="float32, int32 was expected"):
        weighted_mean([np.zeros(2, np.float32)], [1])


@given(st.lists(st.lists(quanta, min_size=4, max_size=4), min_size=1, max_size=5), st.data())
def test_the_mean_of_checkpoints_is_the_references(
    layers: list[list[int]], data: st.DataObject
) -> None:
    weight = st.integers(1, TOP // len(layers))
    weights = data.draw(st.lists(weight, min_size=len(layers), max_size=len(layers)))
    expected = reference.mean(layers, weights)
    assert weighted_mean(arrays(layers), weights).tolist() == expected
    swapped = [layer.astype(">i4") for layer in arrays(layers)]
    assert weighted_mean(swapped, weights).tolist() == expected
    for result, column in zip(expected, zip(*layers, strict=True), strict=True):
        assert min(column) <= result <= max(column)


def test_the_mean_of_checkpoints_is_close_to_that_of_floats() -> None:
    rng = np.random.default_rng(2)
    tensors = [rng.normal(0, 1, 1000).astype(np.float32) for _ in range(5)]
    weights = [1, 10, 100, 7, 3]
    mean = decode_values(weighted_mean([encode_values(t) for t in tensors], weights))
    exact = np.average(np.array(tensors, dtype=np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(mean, exact, rtol=2**-24, atol=2**-24)
