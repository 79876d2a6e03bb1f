"""The compiled loops and the plain ones come to the naive reference's bits."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.average import MAX_TOTAL_WEIGHT, move_into
from protocol.errors import Misconfigured
from protocol.similarity import sum_of_squares
from protocol.tree import ZERO, Subtree, TreeBuilder, full_subtrees
from tests.protocol import reference
from tests.protocol.compiled import WAYS, choose_way
from tests.protocol.strategies import MAX


@pytest.fixture(params=WAYS, autouse=True, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test here runs in every way; the compiled ones need the extra `fast`."""
    with pytest.MonkeyPatch.context() as patch:
        choose_way(request.param, patch)
        yield


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 70), st.sampled_from([1, 13, 16, 30, 32, 256]), st.data())
def test_parts_hashed_elsewhere_make_the_same_root(
    before: int, leaves: int, words: int, draw: st.DataObject
) -> None:
    size = 4 * words
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    data = rng.bytes((before + leaves) * size)
    cut = before * size
    builder = TreeBuilder(size)
    builder.update(data[:cut])
    for subtree in full_subtrees(data[cut:], size, before):
        builder.append(subtree)
    assert builder.leaf_count == before + leaves
    assert builder.root() == reference.root(data, size)


TOP = MAX_TOTAL_WEIGHT


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 99), st.integers(0, 24), st.booleans(), st.data())
def test_a_round_is_that_of_naive_integers(
    count: int, size: int, grid: int, is_full: bool, draw: st.DataObject
) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    span = draw.draw(st.sampled_from([3, 2**24, MAX]))
    weights = [
        int(rng.integers(1, draw.draw(st.sampled_from([4, TOP // 9])))) for _ in range(count)
    ]
    if is_full:
        weights[-1] += TOP - sum(weights)
    before = rng.integers(-span, span, size, endpoint=True)
    updates = list(rng.integers(-128, 128, (count, size)).astype(np.int8))
    expected = reference.move(before.tolist(), [u.tolist() for u in updates], weights, grid)
    for order in ("<i4", ">i4"):
        target = np.empty(size, order)
        move_into(target, before.astype(order), updates, weights, grid)
        assert target.tolist() == expected


@pytest.mark.parametrize("grid", [0, 1, 12, 24])
@pytest.mark.parametrize("weights", [[1], [TOP], [TOP - 1, 1], [2**23, 2**23 - 1], [3, 5, 8]])
def test_a_round_at_the_edges_of_its_range(weights: list[int], grid: int) -> None:
    models = [-MAX, 1 - MAX, -1, 0, 1, MAX - 1, MAX]
    steps = [-128, -127, -126, -1, 0, 1, 126, 127]
    before = [model for model in models for _ in steps]
    updates = [steps * len(models), steps[::-1] * len(models), [1] * len(before)][: len(weights)]
    target = np.empty(len(before), ">i4")
    arrays = [np.array(update, np.int8) for update in updates]
    move_into(target, np.array(before, ">i4"), arrays, weights, grid)
    assert target.tolist() == reference.move(before, updates, weights, grid)


def test_every_rounding_of_a_small_total_is_exact() -> None:
    for total in range(1, 33):
        for weight in range(1, total + 1):
            weights = [weight, total - weight] if weight < total else [weight]
            steps = list(range(-127, 128))
            updates = [steps, [1] * 255][: len(weights)]
            target = np.empty(255, np.int32)
            arrays = [np.array(update, np.int8) for update in updates]
            move_into(target, np.zeros(255, np.int32), arrays, weights, 23)
            assert target.tolist() == reference.move([0] * 255, updates, weights, 23)


def test_a_round_over_many_strips() -> None:
    rng = np.random.default_rng(8)
    before = rng.integers(-MAX, MAX, 20_001, np.int32)
    updates = list(rng.integers(-127, 128, (6, 20_001)).astype(np.int8))
    weights, target = [5, 1, 9, 2, 4, 3], np.empty(20_001, np.int32)
    move_into(target, before, updates, weights, 13)
    expected = reference.move(before.tolist(), [u.tolist() for u in updates], weights, 13)
    assert target.tolist() == expected


@settings(deadline=None)
@given(st.integers(1, 999), st.data())
def test_the_squares_are_those_of_naive_integers(size: int, draw: st.DataObject) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    values = rng.integers(-128, 128, size).astype(np.int8)
    assert sum_of_squares(values) == sum(value**2 for value in values.tolist())


def test_the_squares_of_a_whole_block_are_exact() -> None:
    assert sum_of_squares(np.full(1 << 20, -128, np.int8)) == 2**34


def test_a_subtree_only_fits_where_one_can_begin() -> None:
    builder = TreeBuilder(8)
    builder.update(bytes(8))
    with pytest.raises(Misconfigured, match=r"no subtree of 2\^1 leaves begins at leaf 1"):
        builder.append(Subtree(1, ZERO))
    builder.update(bytes(3))
    with pytest.raises(Misconfigured, match="no subtree"):
        builder.append(Subtree(0, ZERO))
    with pytest.raises(Misconfigured, match="not whole 8-byte leaves"):
        full_subtrees(bytes(9), 8, 0)
