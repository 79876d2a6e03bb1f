"""A trainer of any function from a model's arrays to trained ones; torch is not needed.

def train(model: dict[str, Array]) -> TrainedArrays:
    return TrainedArrays({"w": fit(model["w"], rows)}, examples=len(rows), loss=0.31)

Participant(federation, store, ArrayTrainer(train), Path("state"))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.participant import TrainedUpdate
from protocol.encoding import decode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId
from storage.layers import LayerFolder
from training.update import Carried, encode_update

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TrainedArrays:
    """Trained values by name, on how many examples, and the loss that it ended with."""

    arrays: Mapping[str, NDArray[np.floating[Any]]]
    examples: int
    loss: float


TrainArrays = Callable[[dict[str, Array]], TrainedArrays]
"""Trains from a model, float32 arrays by name in the shapes of the spec's layers."""


class ArrayTrainer:
    """A `node.participant.Trainer` that trains with a function and encodes what this made."""

    def __init__(self, function: TrainArrays) -> None:
        self._function = function

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Write the difference that the function makes; raises Misconfigured for other arrays."""
        before = model.read(spec)
        trained, after = run_trainer(self._function, [layer.name for layer in spec.layers], before)
        made = encode_update(before, after, carried, spec.encoding.grid_in(round_id))
        update.write(spec, made.steps)
        return TrainedUpdate(examples=trained.examples, loss=trained.loss, carried=made.carried)


def run_trainer(
    function: TrainArrays, names: Sequence[str], before: Sequence[NDArray[np.int32]]
) -> tuple[TrainedArrays, list[NDArray[np.floating[Any]]]]:
    """Return what a function makes of a model, encoded in `before`, and its arrays in that order.

    Raises Misconfigured when these are not the model's, by name, shape and kind.
    """
    given = {name: decode_values(layer) for name, layer in zip(names, before, strict=True)}
    trained = function(given)
    pairs = zip(names, before, strict=True)
    after = [_checked(trained, name, layer.shape) for name, layer in pairs]
    if unknown := sorted(set(trained.arrays) - set(names)):
        raise Misconfigured(f"the trainer returned {unknown[0]!r}, which is not in the model")
    return trained, after


def _checked(
    trained: TrainedArrays, name: str, shape: tuple[int, ...]
) -> NDArray[np.floating[Any]]:
    if name not in trained.arrays:
        raise Misconfigured(f"the trainer returned no array {name!r}")
    found = np.asarray(trained.arrays[name])
    if found.shape != shape or not np.issubdtype(found.dtype, np.floating):
        raise Misconfigured(
            f"array {name!r}: expected floating-point values of shape {shape}, found"
            f" {found.dtype} of shape {found.shape}"
        )
    return found
