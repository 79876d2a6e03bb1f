from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import average
from protocol.average import weighted_mean
from protocol.encoding import decode_values, encode_values
from protocol.errors import Misconfigured
from tests.protocol import reference
from tests.protocol.strategies import MAX


@st.composite
def updates_and_weights(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    count = draw(st.integers(1, 6))
    size = draw(st.integers(1, 9))
    value = st.integers(-MAX, MAX) | st.sampled_from([-MAX, MAX, 0, 1, -1])
    updates = [draw(st.lists(value, min_size=size, max_size=size)) for _ in range(count)]
    weight = st.integers(1, MAX // count) | st.integers(1, 3)
    return updates, draw(st.lists(weight, min_size=count, max_size=count))


def arrays(updates: list[list[int]]) -> list[Any]:
    return [np.array(update, dtype=np.int32) for update in updates]


@given(updates_and_weights(), st.randoms(use_true_random=False))
def test_the_mean_is_the_references_in_any_order(
    given_: tuple[list[list[int]], list[int]], rng: Any
) -> None:
    updates, weights = given_
    expected = reference.average(updates, weights)
    assert weighted_mean(arrays(updates), weights).tolist() == expected
    order = rng.sample(range(len(weights)), len(weights))
    shuffled = weighted_mean(arrays([updates[i] for i in order]), [weights[i] for i in order])
    assert shuffled.tolist() == expected


@given(updates_and_weights())
def test_padding_averages_to_zero_and_the_mean_lies_between(
    given_: tuple[list[list[int]], list[int]],
) -> None:
    updates, weights = given_
    mean = weighted_mean(arrays([[*update, 0] for update in updates]), weights).tolist()
    assert mean.pop() == 0
    for result, column in zip(mean, zip(*updates, strict=True), strict=True):
        assert min(column) <= result <= max(column)


def test_no_overflow_at_the_widest_sums() -> None:
    ends = arrays([[MAX, -MAX, -(2**31)], [MAX, -MAX, -(2**31)]])
    assert weighted_mean(ends, [1, MAX - 1]).tolist() == [MAX, -MAX, -(2**31)]


def test_a_tie_goes_upwards() -> None:
    assert weighted_mean(arrays([[1, -1, -3], [2, -2, -4]]), [5, 5]).tolist() == [2, -1, -3]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    updates = [rng.integers(-MAX, MAX, (7, 31), dtype=np.int32) for _ in range(3)]
    whole = weighted_mean(updates, [1, 2, 3])
    monkeypatch.setattr(average, "_BLOCK", 10)
    np.testing.assert_array_equal(weighted_mean(updates, [1, 2, 3]), whole)
    assert whole.shape == (7, 31)


def test_big_endian_updates_give_the_same_native_mean() -> None:
    updates = arrays([[1, -500, MAX], [7, 3, -MAX]])
    mean = weighted_mean([update.astype(">i4") for update in updates], [2, 3])
    assert mean.dtype == np.dtype("=i4")
    assert mean.tolist() == weighted_mean(updates, [2, 3]).tolist()


def test_close_to_the_float_mean() -> None:
    rng = np.random.default_rng(2)
    tensors = [rng.normal(0, 1, 1000).astype(np.float32) for _ in range(5)]
    weights = [1, 10, 100, 7, 3]
    mean = decode_values(weighted_mean([encode_values(t) for t in tensors], weights))
    exact = np.average(np.array(tensors, dtype=np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(mean, exact, rtol=2**-24, atol=2**-24)


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        ([], "nothing to average"),
        ([1, 0], "weight 0"),
        ([1, -5], "weight -5"),
        ([1, MAX], "add up to 2147483648"),
        ([1], "2 updates and 1 weights"),
    ],
)
def test_bad_weights_are_refused(weights: list[int], line: str) -> None:
    with pytest.raises(Misconfigured, match=line):
        weighted_mean(arrays([[1], [2]]), weights)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Misconfigured, match="float32, int32 was expected"):
        weighted_mean([np.zeros(2, np.float32)], [1])
    with pytest.raises(Misconfigured, match=r"shape \(1,\), the first has \(2,\)"):
        weighted_mean(arrays([[1, 2], [3]]), [1, 1])
