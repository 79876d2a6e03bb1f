"""Scores of examples by what is public of a round: how likely each was trained on.

before, after = model_before.read(spec), update.applied_to(model_before)
fall_of_losses(session, before, after, examples)          # a clear update, or a round's model
sketch_scores(session, before, sketch, seed, examples)    # all that is public of a masked update
"""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import LEAF_VALUES
from protocol.sketches import sketch, sketch_each
from training.examples import Example
from training.update import IntegerLayers

if TYPE_CHECKING:  # it imports torch
    from training.session import Session

_AT_ONCE: Final = 32  # gradients in memory


def with_answers(session: "Session", examples: Sequence[Example]) -> list[Example]:
    """Return those of `examples` that have room for an answer."""
    return [examples[place] for place in session.measure(examples).places] if examples else []


def losses_of(
    session: "Session", layers: IntegerLayers, examples: Sequence[Example]
) -> list[float]:
    """Return the loss of the model with `layers` on each example, nats per answer token."""
    return [each.loss for each in session.evaluate_each(layers, examples)]


def sketch_scores(
    session: "Session",
    before: IntegerLayers,
    posted: Sequence[int],
    seed: bytes,
    examples: Sequence[Example],
) -> list[float]:
    """Return how far the sketch of each example's gradient points against a posted sketch.

    The cosine of the two, negative: training goes down the gradient. `posted` is of an update from
    the model `before`, its randomness that of `seed` (docs/protocol.md §13).
    """
    update, scores = np.array(posted, np.float64), list[float]()
    gradients = session.gradients(before, examples)
    while batch := list(islice(gradients, _AT_ONCE)):
        flat = np.stack([np.concatenate([_padded(layer) for layer in each]) for each in batch])
        for found in sketch_each(flat, seed):
            lengths = float(np.linalg.norm(found) * np.linalg.norm(update))
            scores.append(-float(found @ update) / lengths if lengths else 0.0)
    return scores


def sketch_update(steps: Sequence[NDArray[np.int8]], seed: bytes) -> list[int]:
    """Return the sketch of a whole update, as its participant posts it, but for its weight."""
    return sketch(np.concatenate([_padded(layer) for layer in steps]), seed, 0)


def _padded(layer: NDArray[Any]) -> NDArray[Any]:
    return np.pad(layer.ravel(), (0, -layer.size % LEAF_VALUES))
