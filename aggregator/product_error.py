"""How far averaging A and B separately is from averaging their product BA.

A participant's adapter adds B·A to a weight. The mean of the products is not the product of the
means; with weights p that sum to 1, and mean(X) = Σ p·X,

    mean(B·A) = mean(B)·mean(A) + mean((B less mean(B)) · (A less mean(A)))

and the reported error is the Frobenius norm of the last term divided by that of mean(B·A). It is 0
when all participants have the same A, as in mode `ffa` (arXiv:2403.12313). A participant's A and B
are those of the model before plus its differences. The norms are computed in the cheaper of two
ways: |X·Y|² is the sum over the Gram matrices XᵀX and Y·Yᵀ, multiplied entry by entry; or, where
updates times rank exceeds the weight's width, X·Y itself is multiplied out, tile by tile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import FRACTION_BITS, value_type
from protocol.spec import Spec
from protocol.types import RoundId
from storage.layers import LayerFolder

Floats = NDArray[np.float64]

_BLOCK_VALUES: Final = 1 << 16  # of each update, held in memory at a time
_TILE: Final = 1024  # rows and columns of a product multiplied out at a time: 8 MiB


@dataclass(frozen=True)
class ProductError:
    """The relative error over all adapted weights together, and of each by its name."""

    total: float
    by_weight: Mapping[str, float]


@dataclass(frozen=True)
class Factors:
    """The factors of all participants: `before` + `differences[i]`, each (length, rank)."""

    before: Floats
    differences: Sequence[NDArray[np.number]]

    @property
    def width(self) -> int:
        """How many columns all of them have side by side."""
        return len(self.differences) * int(self.before.shape[1])

    def rows(self, start: int, stop: int, shares: Floats) -> tuple[Floats, Floats]:
        """Return rows of all factors side by side: their deviations from the mean, and themselves.

        Both are (rows, width), participant by participant.
        """
        # (rows, participants, rank). In float64: bytes would overflow when squared.
        each = [one[start:stop] for one in self.differences]
        block = np.stack(each, axis=1, dtype=np.float64)
        # What all have in common cancels in the deviations.
        deviations = block - np.tensordot(shares, block, (0, 1))[:, None, :]
        values = block + self.before[start:stop, None, :]
        return deviations.reshape(len(block), -1), values.reshape(len(block), -1)


def product_error(
    spec: Spec,
    before: LayerFolder,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    round_id: RoundId,
) -> ProductError | None:
    """Return the error of averaging these updates; None when no weight has both A and B.

    Takes memory for a block of each update, and two squares of at most the weight's width.
    """
    numbers = {layer.name: index for index, layer in enumerate(spec.layers)}
    pairs = {}  # layer numbers of A and B, by adapted weight
    for layer, index in numbers.items():
        partner = numbers.get(layer.replace(".lora_A.", ".lora_B."))
        if ".lora_A." in layer and partner is not None:
            pairs[layer.partition(".lora_A.")[0]] = (index, partner)
    if not pairs:
        return None
    shares = np.array(weights, np.float64) / sum(weights)
    step = 2.0 ** (FRACTION_BITS - spec.encoding.grid_in(round_id))

    def factors(index: int, *, is_transposed: bool) -> Factors:
        """Return a layer of everybody in steps of the grid, which cancel in the ratio."""
        # Padding follows the shape.
        shape = spec.layers[index].shape
        model = np.memmap(before.layer_path(index), value_type("model"), mode="r", shape=shape)
        differences = [
            np.memmap(update.layer_path(index), value_type("update"), mode="r", shape=shape)
            for update in updates
        ]
        if is_transposed:
            return Factors(model.T / step, [each.T for each in differences])
        return Factors(model / step, differences)

    squares = {}
    for name, (a_index, b_index) in pairs.items():
        a, b = factors(a_index, is_transposed=True), factors(b_index, is_transposed=False)
        squares[name] = squared_error_and_norm(a, b, shares)
    errors, norms = (sum(each) for each in zip(*squares.values(), strict=True))
    return ProductError(_ratio(errors, norms), {n: _ratio(*each) for n, each in squares.items()})


def squared_error_and_norm(a: Factors, b: Factors, shares: Floats) -> tuple[float, float]:
    """Return (|mean(BA) less mean(B)·mean(A)|², |mean(BA)|²), Frobenius.

    `a` has (inputs, rank), so A transposed, `b` (outputs, rank); `shares` sum to 1.
    """
    if a.width > min(len(a.before), len(b.before)):
        return _multiply_out(a, b, shares)
    a_deviations, a_values = _gram_matrices(a, shares)
    b_deviations, b_values = _gram_matrices(b, shares)
    factor = np.repeat(shares, a.before.shape[1])
    products = np.outer(factor, factor)
    error = float((products * a_deviations * b_deviations).sum())
    # Rounding can make the error negative where its true value is 0.
    return max(error, 0.0), float((products * a_values * b_values).sum())


def _multiply_out(a: Factors, b: Factors, shares: Floats) -> tuple[float, float]:
    """As `squared_error_and_norm`, by forming both products."""
    error = norm = 0.0
    factor = np.repeat(shares, a.before.shape[1])
    for low in range(0, len(b.before), _TILE):
        b_deviations, b_values = b.rows(low, low + _TILE, shares)
        b_deviations *= factor
        b_values *= factor
        for left in range(0, len(a.before), _TILE):
            a_deviations, a_values = a.rows(left, left + _TILE, shares)
            error += float(np.square(b_deviations @ a_deviations.T).sum())
            norm += float(np.square(b_values @ a_values.T).sum())
    return error, norm


def _gram_matrices(factors: Factors, shares: Floats) -> tuple[Floats, Floats]:
    """Return two Gram matrices of all columns side by side: of deviations, and of values."""
    length, rank = factors.before.shape
    deviations, values = (np.zeros((factors.width, factors.width)) for _ in range(2))
    step = max(1, _BLOCK_VALUES // rank)
    for start in range(0, length, step):
        for total, part in zip(
            (deviations, values), factors.rows(start, start + step, shares), strict=True
        ):
            total += part.T @ part
    return deviations, values


def _ratio(error: float, norm: float) -> float:
    return float(np.sqrt(error / norm)) if norm else 0.0
