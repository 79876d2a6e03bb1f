"""How far averaging A and B separately is from averaging their product BA.

A participant's adapter adds B·A to a weight. The mean of the products is not the product of the
means; with weights p that sum to 1, and mean(X) = Σ p·X,

    mean(B·A) = mean(B)·mean(A) + mean((B less mean(B)) · (A less mean(A)))

and the reported error is the Frobenius norm of the last term divided by that of mean(B·A). It is 0
when all participants have the same A, as in mode `ffa` (arXiv:2403.12313). No matrix as large as a
weight is formed: |X·Y|² is the sum over the Gram matrices XᵀX and Y·Yᵀ, multiplied entry by entry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import STORED
from protocol.spec import Spec
from storage.layers import LayerFolder

Floats = NDArray[np.float64]

_BLOCK_VALUES: Final = 1 << 16  # of each update, held in memory at a time


@dataclass(frozen=True)
class ProductError:
    """The relative error over all adapted weights together, and of each by its name."""

    total: float
    by_weight: Mapping[str, float]


def product_error(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int]
) -> ProductError | None:
    """Return the error of averaging these updates; None when no weight has both A and B.

    Takes memory for a block of each update, and two squares of (updates x rank) float64 values.
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
    squares = {}
    for name, (a_index, b_index) in pairs.items():
        a = [_layer(spec, update, a_index).T for update in updates]
        b = [_layer(spec, update, b_index) for update in updates]
        squares[name] = squared_error_and_norm(a, b, shares)
    errors, norms = (sum(each) for each in zip(*squares.values(), strict=True))
    return ProductError(_ratio(errors, norms), {n: _ratio(*each) for n, each in squares.items()})


def squared_error_and_norm(
    a: Sequence[NDArray[np.number]], b: Sequence[NDArray[np.number]], shares: Floats
) -> tuple[float, float]:
    """Return (|mean(BA) less mean(B)·mean(A)|², |mean(BA)|²), Frobenius.

    Each of `a` is (inputs, rank), so A transposed, each of `b` (outputs, rank); `shares` sum to 1.
    """
    a_deviations, a_values = _gram_matrices(a, shares)
    b_deviations, b_values = _gram_matrices(b, shares)
    factor = np.repeat(shares, a[0].shape[1])
    products = np.outer(factor, factor)
    error = float((products * a_deviations * b_deviations).sum())
    # Rounding can make the error negative where its true value is 0.
    return max(error, 0.0), float((products * a_values * b_values).sum())


def _gram_matrices(factors: Sequence[NDArray[np.number]], shares: Floats) -> tuple[Floats, Floats]:
    """Return two Gram matrices of all columns side by side: of deviations, and of values."""
    length, rank = factors[0].shape
    size = len(factors) * rank
    deviations, values = np.zeros((size, size)), np.zeros((size, size))
    step = max(1, _BLOCK_VALUES // rank)
    for start in range(0, length, step):
        # (rows, participants, rank). In float64: integers of 32 bits would overflow when squared.
        block = np.stack([each[start : start + step] for each in factors], axis=1, dtype=np.float64)
        difference = block - np.tensordot(shares, block, (0, 1))[:, None, :]
        for total, part in ((deviations, difference), (values, block)):
            flat = part.reshape(len(part), size)
            total += flat.T @ flat
    return deviations, values


def _layer(spec: Spec, update: LayerFolder, index: int) -> NDArray[np.int32]:
    path: Path = update.layer_path(index)
    # Stored integers will do, since the quantum cancels in the ratio. Padding follows the shape.
    return np.memmap(path, STORED, mode="r", shape=spec.layers[index].shape)


def _ratio(error: float, norm: float) -> float:
    return float(np.sqrt(error / norm)) if norm else 0.0
