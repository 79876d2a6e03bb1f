"""Products and similarities are exact, whatever their size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.similarity import (
    SIMILAR,
    movement_products,
    movement_squares,
    products,
    similarity,
    sum_of_squares,
)
from tests.protocol import reference

FAR = 2**32
steps = st.integers(-128, 127) | st.sampled_from([-128, 127])
movements = st.integers(-FAR, FAR) | st.sampled_from([-FAR, FAR, 127 * 2**24, -127 * 2**24])


@given(st.integers(1, 5), st.integers(1, 30), st.data())
def test_products_are_those_of_integers(count: int, size: int, data: st.DataObject) -> None:
    vectors = list(data.draw(hnp.arrays(np.int8, (count, size), elements=steps)))
    others = list(data.draw(hnp.arrays(np.int8, (2, size), elements=steps)))
    rows = [vector.tolist() for vector in vectors]
    assert products(vectors) == [[reference.product(a, b) for b in rows] for a in rows]
    assert products(vectors, others) == [
        [reference.product(a, b.tolist()) for b in others] for a in rows
    ]
    assert [sum_of_squares(vector) for vector in vectors] == [
        reference.product(row, row) for row in rows
    ]


@pytest.mark.parametrize("size", [1023, 1024, 1025, 5000, 1 << 20])
def test_products_of_extremes_are_exact(size: int) -> None:
    low, high = np.full(size, -128, np.int8), np.full(size, 127, np.int8)
    mixed = np.where(np.arange(size) % 2, 127, -127).astype(np.int8)
    balance = -127 if size % 2 else 0  # what is left of the alternating signs
    assert products([low, high, mixed]) == [
        [size * 128**2, -size * 128 * 127, -128 * balance],
        [-size * 128 * 127, size * 127**2, 127 * balance],
        [-128 * balance, 127 * balance, size * 127**2],
    ]
    assert sum_of_squares(low) == size * 128**2


def test_no_vectors_have_no_products() -> None:
    vector = np.ones(3, np.int8)
    assert products([]) == []
    assert products([], [vector]) == []
    assert products([vector], []) == [[]]
    assert all(type(product) is int for product in products([vector])[0])


@given(hnp.arrays(np.int64, st.integers(1, 30), elements=movements), st.data())
def test_products_with_a_movement_are_exact(
    movement: NDArray[np.int64], data: st.DataObject
) -> None:
    vectors = list(data.draw(hnp.arrays(np.int8, (3, movement.size), elements=steps)))
    expected = [reference.product(vector.tolist(), movement.tolist()) for vector in vectors]
    assert movement_products(vectors, movement) == expected
    assert movement_squares(movement) == sum(value**2 for value in movement.tolist())


@pytest.mark.parametrize("value", [FAR, -FAR, FAR - 1, 127 * 2**24])
def test_a_whole_block_of_the_largest_movements_is_exact(value: int) -> None:
    movement = np.full(1 << 20, value, np.int64)
    vectors = [np.full(1 << 20, step, np.int8) for step in (-128, 127)]
    size = 1 << 20
    assert movement_products(vectors, movement) == [-128 * value * size, 127 * value * size]
    assert movement_squares(movement) == value**2 * size


@given(st.lists(st.tuples(steps, movements), min_size=1, max_size=20))
def test_a_similarity_is_the_references(pairs: list[tuple[int, int]]) -> None:
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = similarity(reference.product(a, b), reference.product(a, a), reference.product(b, b))
    assert found == reference.similarity(a, b)
    assert found >= 0


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=20), st.integers(0, 24))
def test_a_copy_is_similar_on_any_grid_and_its_opposite_is_not(a: list[int], shift: int) -> None:
    squares = reference.product(a, a)
    moved = [step << shift for step in a]
    if squares:
        same = similarity(reference.product(a, moved), squares, reference.product(moved, moved))
        assert same == 10_000 >= SIMILAR
    opposite = [-step for step in a]
    assert similarity(reference.product(a, opposite), squares, squares) == 0


def test_the_threshold_is_exact_in_large_numbers() -> None:
    # ⟨a, b⟩ of exactly 9/10, and one less in the last place of numbers beyond any float.
    product, squares = 9 * 10**30, 10**31
    assert similarity(product, squares, squares) == SIMILAR
    assert similarity(product - 1, squares, squares) == SIMILAR - 1
