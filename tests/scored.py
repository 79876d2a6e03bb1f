"""A federation that pays by measured help, in the small world: losses of real arrays, no model.

The loss is a bowl around a known optimum, in every fourth value: the others change nothing, as most
directions of a large model do. An honest participant goes part of the way to an optimum of its own,
near the common one, and moves the other values at random, as training on a few examples does: its
updates resemble one another as little as real ones (a cosine of about 0.3).

    with scored_world(folder, "ann", "bob", "cem") as world:
        world.play()
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contracts.enums import Scoring
from node.participant import TrainedUpdate
from protocol.encoding import FRACTION_BITS
from protocol.spec import Spec
from protocol.types import RoundId
from storage.layers import LayerFolder
from tests.world import World, small_spec
from training.update import Carried

Floats = NDArray[np.float64]

TOLERANCE: Final = 50
_SPREAD: Final = 3.0  # of the optimum's values
_OWN: Final = 1.0  # how far a participant's own optimum is from it
_RATE: Final = 0.03  # of the way that an honest update goes: a federation learns for many rounds
_NOISE: Final = 0.08  # of the values that change nothing
_BASE_LOSS: Final = 2.0
_STEPS: Final = 10  # of an honest round


def scored_spec(gain: str = "whole", **changes: Any) -> Spec:
    """Return the small world's spec, scored by the loss on a held-out set."""
    plain = small_spec()
    training = plain.training.model_copy(update={"steps": _STEPS}).model_dump()
    fields: dict[str, Any] = {
        "scoring": "heldOut",
        "held_out": {"gain": gain, "tolerance": TOLERANCE},
        "training": training,
        # A tenth of an honest update's, as `federation create` sets it.
        "screening": {"min_norm": 140, "max_update_norm": 100.0},
    }
    return small_spec(**{**fields, **changes})


def scored_world(folder: Path, *names: str, spec: Spec | None = None, **terms: Any) -> World:
    """Return a world whose participants learn, and whose aggregator and auditor measure it."""
    spec = spec or scored_spec()
    return LearningWorld(
        folder, names=names, spec=spec, evaluate=Bowl(spec), scoring=Scoring.HELD_OUT, **terms
    )


class LearningWorld(World):
    """A world whose participants are honest learners with the same number of examples."""

    def participant(self, name: str) -> Any:
        participant = super().participant(name)
        participant.trainer = Learner(name)
        return participant


def drawn(label: str, shape: tuple[int, ...], spread: float) -> Floats:
    """Return normal numbers that depend on `label` alone."""
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest())
    return np.random.default_rng(seed).normal(0, spread, shape)


def optimum(spec: Spec) -> list[Floats]:
    """Return where the loss is lowest, in the model's units."""
    return [drawn(f"optimum/{layer.name}", layer.shape, _SPREAD) for layer in spec.layers]


def real_values(spec: Spec, model: LayerFolder) -> list[Floats]:
    """Return a model in real units."""
    return [values * 2.0**-FRACTION_BITS for values in model.read(spec)]


def counted(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which values of a layer the loss depends on."""
    chosen: NDArray[np.bool_] = np.arange(np.prod(shape)) % 4 == 0
    return chosen.reshape(shape)


class Bowl:
    """The mean squared distance from the optimum; counts its evaluations."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.calls = 0

    def __call__(self, model: LayerFolder) -> float:
        self.calls += 1
        pairs = zip(real_values(self.spec, model), optimum(self.spec), strict=True)
        off = [np.square(found - best)[counted(best.shape)] for found, best in pairs]
        return _BASE_LOSS + float(np.mean(np.concatenate(off)))


class Learner:
    """A participant with examples of its own, named by `data`; an honest one has the pace 1."""

    def __init__(self, data: str, examples: int = 25, pace: float = 1.0) -> None:
        self.data, self.examples, self.pace = data, examples, pace

    def goal(self, spec: Spec) -> list[Floats]:
        """Return this participant's own optimum."""
        return [
            best + drawn(f"{self.data}/{layer.name}", layer.shape, _OWN)
            for best, layer in zip(optimum(spec), spec.layers, strict=True)
        ]

    def steps(self, spec: Spec, model: LayerFolder, round_id: RoundId) -> list[NDArray[np.int8]]:
        """Return what it sends, in steps of the round's grid."""
        scale = 2.0 ** spec.encoding.grid_in(round_id)
        rate = _RATE * self.pace * spec.training.steps / _STEPS
        made = []
        for layer, old, best in zip(
            spec.layers, real_values(spec, model), self.goal(spec), strict=True
        ):
            noise = drawn(f"{self.data}/{round_id}/{layer.name}", layer.shape, _NOISE)
            moved = np.where(counted(layer.shape), rate * (best - old), noise)
            made.append(np.clip(np.rint(moved * scale), -127, 127).astype(np.int8))
        return made

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Write what it sends to `update`."""
        update.write(spec, self.steps(spec, model, round_id))
        return TrainedUpdate(examples=self.examples, loss=1.0)


class Shuffled(Learner):
    """Trains on questions with the answers of others: towards an optimum of nothing."""

    def goal(self, spec: Spec) -> list[Floats]:
        """Return its own optimum, the values of each layer in another order."""
        rng = np.random.default_rng(5)
        return [rng.permuted(each.ravel()).reshape(each.shape) for each in super().goal(spec)]
