"""The compiled loops and the plain ones come to the naive reference's bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import speed
from protocol.average import weighted_mean
from protocol.errors import Misconfigured
from protocol.screening import squared_distance
from protocol.tree import ZERO, Subtree, TreeBuilder, full_subtrees
from tests.protocol import reference
from tests.protocol.compiled import compiled_kernels
from tests.protocol.strategies import MAX


@pytest.fixture(params=["plain", "compiled"], autouse=True, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test here runs both ways; the compiled one needs the extra `fast`."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = compiled_kernels() if request.param == "compiled" else None
        if request.param == "compiled" and compiled is None:
            pytest.skip("numba is not installed")
        patch.setattr(speed, "kernels", lambda size: compiled)
        patch.setattr(speed, "break_even", lambda: 1.0)
        yield request.param


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


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**28), min_size=1, max_size=7), st.integers(1, 99), st.data())
def test_the_mean_is_that_of_naive_integers(
    weights: list[int], size: int, draw: st.DataObject
) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    span = draw.draw(st.sampled_from([3, 2**24, MAX]))
    updates = [rng.integers(-span, span, size, endpoint=True) for _ in weights]
    expected = reference.average([update.tolist() for update in updates], weights)
    for order in ("<i4", ">i4"):
        given_: list[Any] = [update.astype(order) for update in updates]
        assert weighted_mean(given_, weights).tolist() == expected


def test_the_mean_at_the_edges_of_its_range() -> None:
    column = [-(2**31), -MAX, -1, 0, 1, MAX]
    for weights in ([1], [MAX - 1, 1], [1, MAX - 1], [2**30, 2**30 - 1]):
        updates = [column, column[::-1]][: len(weights)]
        arrays: list[Any] = [np.array(update, np.int32) for update in updates]
        assert weighted_mean(arrays, weights).tolist() == reference.average(updates, weights)


@settings(deadline=None)
@given(st.integers(1, 99), st.sampled_from(["<i4", ">i4"]), st.data())
def test_the_distance_is_that_of_naive_integers(size: int, order: str, draw: st.DataObject) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    span = draw.draw(st.sampled_from([3, 2**24, MAX]))
    new, old = (rng.integers(-span - 1, span, size, np.int32, endpoint=True) for _ in range(2))
    ends = rng.random(size) < 0.1
    new[ends], old[ends] = -span - 1, span
    expected = sum((a - b) ** 2 for a, b in zip(new.tolist(), old.tolist(), strict=True))
    given_: list[Any] = [values.astype(order) for values in (new, old)]
    assert squared_distance(*given_) == expected


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
