"""What of an update was there before it: its projection on older vectors (docs/protocol.md §9).

The coefficients are those of least squares, solved exactly in integers and rounded once to float64,
so that every machine has the same. Golden vectors: tests/vectors/projections.json.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import MAX_STEPS


def solve_coefficients(
    gram: Sequence[Sequence[int]], products: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Return, for each row of `products`, the coefficients of the older vectors, as float64.

    `gram[k][l]` is ⟨u_k, u_l⟩ over the older vectors, `products[i][k]` is ⟨d_i, u_k⟩. A vector that
    those before it span already has the coefficient 0.
    """
    size = len(gram)
    # Bareiss: divisions by the pivot before are exact, so all entries stay integers.
    rows = [[*gram[k], *(product[k] for product in products)] for k in range(size)]
    kept, last = [], 1
    for k in range(size):
        pivot = rows[k][k]
        if not pivot:
            continue  # the matrix is semidefinite: no pivot means no new direction
        kept.append(k)
        for row in rows[k + 1 :]:
            factor = row[k]
            row[k + 1 :] = [
                (value * pivot - factor * above) // last
                for value, above in zip(row[k + 1 :], rows[k][k + 1 :], strict=True)
            ]
        last = pivot
    return [_back_substitute(rows, kept, size + i) for i in range(len(products))]


def _back_substitute(
    rows: Sequence[Sequence[int]], kept: Sequence[int], column: int
) -> list[float]:
    solved: dict[int, Fraction] = {}
    for k in reversed(kept):
        left = rows[k][column] - sum(rows[k][other] * x for other, x in solved.items())
        solved[k] = Fraction(left) / rows[k][k]
    return [float(solved.get(k, 0)) for k in range(len(rows))]


def project(
    older: Sequence[NDArray[Any]], coefficients: Sequence[float], count: int
) -> NDArray[np.int16]:
    """Return round_half_even(Σ c·u), held within ±127 steps, for `count` values.

    `older` are one-dimensional arrays, added from the first to the last in float64.
    """
    total = np.zeros(count)
    for vector, coefficient in zip(older, coefficients, strict=True):
        if coefficient:
            total += vector.astype(np.float64) * coefficient
    return np.clip(np.rint(total), -MAX_STEPS, MAX_STEPS).astype(np.int16)
