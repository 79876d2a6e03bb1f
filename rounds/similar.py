"""How similar the updates of a round are to one another and to what came before (§6, check 12).

All of it is exact: products of blocks in floating point that hold integers without rounding
(`protocol.similarity`), added up as integers. Takes memory for one block of each update.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.projection import solve_coefficients
from protocol.similarity import (
    movement_products,
    movement_squares,
    products,
    similarity,
    sum_of_squares,
)
from protocol.spec import Spec
from rounds.average import Layout
from storage.layers import LayerFolder

_BLOCK: Final = 1 << 17  # values of each update in memory at a time, per thread
_THREADS: Final = 2


class Movement(NamedTuple):
    """The models before and after a round."""

    before: LayerFolder
    after: LayerFolder


@dataclass(frozen=True)
class Similarities:
    """Similarities of each update i, in basis points.

    `among[i][j]` is that with update j, `earlier[i][k]` that with the earlier update k, and
    `movement[i]` that with the movement, 0 when there is none.
    """

    among: list[list[int]]
    earlier: list[list[int]]
    movement: list[int]


@dataclass
class _Sums:
    """Products and squares over some values, as Python integers or int64 that cannot overflow."""

    among: NDArray[np.int64]
    earlier: NDArray[np.int64]
    earlier_squares: NDArray[np.int64]
    movement: list[int]
    movement_squares: int

    def add(self, other: "_Sums") -> None:
        self.among += other.among
        self.earlier += other.earlier
        self.earlier_squares += other.earlier_squares
        self.movement = [a + b for a, b in zip(self.movement, other.movement, strict=True)]
        self.movement_squares += other.movement_squares


def compare_updates(
    spec: Spec,
    updates: Sequence[LayerFolder],
    earlier: Sequence[LayerFolder],
    movement: Movement | None,
) -> Similarities:
    """Return the similarity of each update to all of them, to the earlier ones, to the movement.

    Every layer file must have the size that the spec gives it.
    """
    total = _empty(len(updates), len(earlier))
    with ThreadPoolExecutor(_THREADS) as pool:
        blocks = [at[:3] for at in Layout.of(spec).blocks(_BLOCK)]
        for part in pool.map(lambda at: _block_sums(updates, earlier, movement, *at), blocks):
            total.add(part)
    squares = [int(total.among[i, i]) for i in range(len(updates))]
    others = [int(each) for each in total.earlier_squares]
    among = [
        [similarity(int(product), squares[i], squares[j]) for j, product in enumerate(row)]
        for i, row in enumerate(total.among)
    ]
    before = [
        [similarity(int(product), squares[i], others[k]) for k, product in enumerate(row)]
        for i, row in enumerate(total.earlier)
    ]
    moved = [
        similarity(product, squares[i], total.movement_squares)
        for i, product in enumerate(total.movement)
    ]
    return Similarities(among, before, moved)


def project_updates(
    spec: Spec,
    updates: Sequence[LayerFolder],
    earlier: Sequence[LayerFolder],
    movement: Movement | None,
) -> list[list[float]]:
    """Return the coefficients of each update's projection on the earlier ones and the movement.

    In the order of `earlier`, with that of the movement last when there is one (docs/protocol.md
    §9). Every layer file must have the size that the spec gives it.
    """
    size = len(earlier) + (movement is not None)
    gram = [[0] * size for _ in range(size)]
    mixed = [[0] * size for _ in updates]
    for *at, _ in Layout.of(spec).blocks(_BLOCK):
        mine = [each.values(*at) for each in updates]
        older = [each.values(*at) for each in earlier]
        if older:
            _add(gram, products(older))
            _add(mixed, products(mine, older))
        if movement is not None:
            new, old = (m.values(*at) for m in (movement.after, movement.before))
            moved = new.astype(np.int64) - old
            for row, product in zip(mixed, movement_products(mine, moved), strict=True):
                row[-1] += product
            for k, product in enumerate(movement_products(older, moved)):
                gram[k][-1] += product
                gram[-1][k] += product
            gram[-1][-1] += movement_squares(moved)
    return solve_coefficients(gram, mixed)


def _add(total: list[list[int]], part: list[list[int]]) -> None:
    """Add a matrix to the upper left of another."""
    for row, more in zip(total, part, strict=False):
        for k, value in enumerate(more):
            row[k] += value


def _block_sums(
    updates: Sequence[LayerFolder],
    earlier: Sequence[LayerFolder],
    movement: Movement | None,
    layer: int,
    start: int,
    count: int,
) -> _Sums:
    """Return the sums over one block of a layer."""
    sums = _empty(len(updates), len(earlier))
    mine = [each.values(layer, start, count) for each in updates]
    sums.among += np.array(products(mine), np.int64)
    if earlier:
        theirs = [each.values(layer, start, count) for each in earlier]
        sums.earlier += np.array(products(mine, theirs), np.int64)
        sums.earlier_squares += np.array([sum_of_squares(each) for each in theirs], np.int64)
    if movement is not None:
        new, old = (m.values(layer, start, count) for m in (movement.after, movement.before))
        moved = new.astype(np.int64) - old
        sums.movement = movement_products(mine, moved)
        sums.movement_squares = movement_squares(moved)
    return sums


def _empty(updates: int, earlier: int) -> _Sums:
    # Of 2^40 values at most, whose products are at most 2^14: int64 has room for their sums.
    return _Sums(
        np.zeros((updates, updates), np.int64),
        np.zeros((updates, earlier), np.int64),
        np.zeros(earlier, np.int64),
        [0] * updates,
        0,
    )
