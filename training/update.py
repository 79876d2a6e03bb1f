"""A participant's update: what training made of the model, layer by layer, in steps of the grid.

    update = encode_update(before, after, carried, spec.encoding.grid_in(round_id))
    folder.write(spec, update.steps)      # what everybody gets
    update.carried                        # what the participant adds to its next update

The formulas are those of docs/protocol.md §2. Nothing here needs torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.average import move_model
from protocol.differences import encode_differences
from protocol.encoding import FRACTION_BITS
from protocol.errors import Misconfigured, Rejected

IntegerLayers = list[NDArray[np.int32]]
Steps = list[NDArray[np.int8]]
Carried = Sequence[NDArray[np.float64]]
"""What rounding took, one array per layer, in the model's units."""
Part = tuple[slice, ...]


@dataclass(frozen=True)
class Update:
    """An update as it is published, `steps` of 2^-grid, and what is `carried` into the next one.

    `clipped_share` is the share of all values that were held at ±127 steps. `relative_error` is
    ‖Δ - d · 2^-grid‖ / ‖Δ‖ over all values, Δ being the difference with what was carried into it
    and d the steps; 0 where Δ is.
    """

    steps: Steps
    carried: list[NDArray[np.float64]]
    grid: int
    clipped_share: float
    relative_error: float

    def applied_to(self, before: IntegerLayers) -> IntegerLayers:
        """Return the model that this update alone makes of `before`."""
        pairs = zip(before, self.steps, strict=True)
        return [move_model(layer, [steps], [1], self.grid) for layer, steps in pairs]

    def norm(self) -> float:
        """Return the length of the update in steps, as check 11 measures it."""
        return sqrt(sum(int(np.sum(np.square(layer, dtype=np.int64))) for layer in self.steps))


def exact_difference(
    before: NDArray[np.int32], after: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return what was added to `before`, the encoded model; float64, in the model's units."""
    return after.astype(np.float64) - before * 2.0**-FRACTION_BITS


def encode_update(
    before: IntegerLayers,
    after: Sequence[NDArray[np.floating[Any]]],
    carried: Carried | None,
    grid: int,
    parts: Sequence[Part] | None = None,
) -> Update:
    """Return the update from `before`, the encoded model, to `after`, the trained values.

    All have one array per layer. `carried` is that of the last update that a round used, None for
    zeros. `parts` names the part of each layer that was trained: elsewhere the update is zero, and
    what was carried stays. Raises Misconfigured for NaN and infinity in `after`.
    """
    steps, left = [], []
    clipped, wanted_square, error_square = 0, 0.0, 0.0
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        part = parts[index] if parts is not None else (...,)
        kept = np.zeros(old.shape) if carried is None else carried[index].copy()
        try:
            encoded = encode_differences(old[part], new[part], kept[part], grid)
        except Rejected as error:
            raise Misconfigured(
                f"training diverged: layer {index}: {error.reason}; lower the learning rate"
            ) from error
        wanted = exact_difference(old[part], new[part]) + kept[part]
        wanted_square += float(np.sum(np.square(wanted)))
        error_square += float(np.sum(np.square(wanted - encoded.steps * 2.0**-grid)))
        clipped += encoded.clipped
        whole = np.zeros(old.shape, np.int8)
        whole[part] = encoded.steps
        kept[part] = encoded.carried
        steps.append(whole)
        left.append(kept)
    return Update(
        steps=steps,
        carried=left,
        grid=grid,
        clipped_share=clipped / sum(layer.size for layer in before),
        relative_error=sqrt(error_square / wanted_square) if wanted_square else 0.0,
    )
