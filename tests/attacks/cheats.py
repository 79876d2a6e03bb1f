"""What a participant may send in place of honest work: one small class each, as trainers.

    participant.trainer = LastMovement(seen)                      # in a test
    python -m tests.attacks.play noise --config participant.toml  # on a devnet

A cheat sees what everybody sees: the rounds before, on chain and in the store. Those that have data
of their own wrap an honest trainer.
"""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.participant import Participant, TrainedUpdate, Trainer
from protocol.encoding import FRACTION_BITS, MAX_STEPS
from protocol.spec import Spec
from protocol.types import Address, RoundId
from rounds.context import RoundContext
from rounds.rebuild import fetch_accepted, obtain_model
from storage.layers import LayerFolder
from training.update import Carried

Steps = list[NDArray[np.int8]]

_MORE_THAN_ANY_CAP: Final = 10**6
_PART_OF_TRIAL: Final = 10  # min_norm is this part of an honest update's length


@dataclass
class Seen:
    """What a participant sees of the rounds before."""

    context: Callable[[RoundId], RoundContext]
    address: Address

    @classmethod
    def by(cls, participant: Participant) -> "Seen":
        """Return what this participant sees."""
        return cls(participant.context, participant.address)

    def accepted(self, spec: Spec, round_id: RoundId) -> dict[Address, Steps]:
        """Return the updates in the average of the last finalized round, by participant."""
        for earlier in self.context(round_id).finalized_before():
            found = zip(earlier.averaged, fetch_accepted(earlier), strict=True)
            return {
                reveal.participant: folder.read(spec)
                for (reveal, _), folder in found
                if isinstance(folder, LayerFolder)
            }
        return {}

    def movement(self, spec: Spec, round_id: RoundId) -> Steps | None:
        """Return the last movement of the model in steps of the round's grid; None without one."""
        context = self.context(round_id)
        changed = context.last_change()
        if changed is None:
            return None
        new, old = (obtain_model(each).read(spec) for each in (context, changed))
        scale = 2.0 ** (spec.encoding.grid_in(round_id) - FRACTION_BITS)
        moved = [(a.astype(np.float64) - b) * scale for a, b in zip(new, old, strict=True)]
        return [np.clip(np.rint(each), -MAX_STEPS, MAX_STEPS).astype(np.int8) for each in moved]


class Cheat(ABC):
    """Sends what `steps` makes up, and claims `examples`."""

    examples = _MORE_THAN_ANY_CAP

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    @abstractmethod
    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        """Return what is sent; None where there is nothing to make it of yet."""

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Write it; noise of an honest length in its place while there is nothing else."""
        made = self.steps(spec, round_id)
        update.write(spec, made or noise(spec, honest_norm(self.seen, spec, round_id), round_id))
        return TrainedUpdate(examples=self.examples, loss=0.0)


class Zero(Cheat):
    """Changes nothing."""

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        return [np.zeros(layer.shape, np.int8) for layer in spec.layers]


class Weak(Cheat):
    """Sends noise as short as passes check 11, for one example."""

    examples = 1

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        # A little more, since rounding to whole steps may shorten it.
        return noise(spec, 1.05 * spec.screening.min_norm + 1, round_id)


class WeakForTheCap(Weak):
    """As Weak, and claims as much as counts."""

    examples = _MORE_THAN_ANY_CAP


class Noise(Cheat):
    """Sends noise of an honest length."""

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        return noise(spec, honest_norm(self.seen, spec, round_id), round_id)


class Extreme(Cheat):
    """Moves every value as far as the format allows, in directions drawn at random."""

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        rng = np.random.default_rng(round_id)
        signs = [rng.integers(0, 2, layer.shape, np.int8) for layer in spec.layers]
        return [(2 * each - 1) * np.int8(MAX_STEPS) for each in signs]


class CopyOfBefore(Cheat):
    """Sends another's update of the round before."""

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        accepted = self.seen.accepted(spec, round_id)
        others = [steps for who, steps in accepted.items() if who != self.seen.address]
        return others[0] if others else None


class OwnLastUpdate(Cheat):
    """Sends its own update of the round before again."""

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        return self.seen.accepted(spec, round_id).get(self.seen.address)


class LastMovement(Cheat):
    """Sends what the model did in the round before."""

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        return self.seen.movement(spec, round_id)


class NoisedMovement(LastMovement):
    """As LastMovement, with noise up to a cosine."""

    def __init__(self, seen: Seen, cosine: float) -> None:
        super().__init__(seen)
        self.cosine = cosine

    def steps(self, spec: Spec, round_id: RoundId) -> Steps | None:
        moved = super().steps(spec, round_id)
        if moved is None:
            return None
        # As long as an honest update, or its few steps would drown in rounding.
        longer = scaled(moved, self.cosine * honest_norm(self.seen, spec, round_id))
        return with_noise(spec, longer, self.cosine, round_id)


# ---------------------------------------------------------------- around an honest trainer


class Wrapped:
    """Sends what `changed` makes of an honest trainer's update."""

    def __init__(self, honest: Trainer) -> None:
        self.honest = honest

    def changed(self, spec: Spec, steps: Steps, round_id: RoundId) -> Steps:
        """Return what is sent."""
        return steps

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Write the changed update, and claim what the honest one would."""
        trained = self.honest.train(spec, model, round_id, update, carried)
        update.write(spec, self.changed(spec, update.read(spec), round_id))
        return replace(trained, carried=None)


class SharedTraining(Wrapped):
    """Sends what another seat trained, value by value: one training for two seats."""


class Flipped(Wrapped):
    """Turns the sign of an honest update."""

    def changed(self, spec: Spec, steps: Steps, round_id: RoundId) -> Steps:
        return [-each for each in steps]


class NoisedCopy(Wrapped):
    """Sends what another seat trained, with noise up to a cosine."""

    def __init__(self, honest: Trainer, cosine: float) -> None:
        super().__init__(honest)
        self.cosine = cosine

    def changed(self, spec: Spec, steps: Steps, round_id: RoundId) -> Steps:
        return with_noise(spec, scaled(steps, self.cosine * length(steps)), self.cosine, round_id)


class TenthOfTheSteps:
    """Trains a tenth of the steps, and claims all of them."""

    def __init__(self, honest: Trainer) -> None:
        self.honest = honest

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Train with a spec of a tenth of the steps."""
        fewer = {"steps": max(1, spec.training.steps // 10)}
        short = spec.model_copy(update={"training": spec.training.model_copy(update=fewer)})
        trained = self.honest.train(short, model, round_id, update, carried)
        return replace(trained, examples=_MORE_THAN_ANY_CAP)


def shuffle_answers(data: Path, target: Path) -> Path:
    """Write the examples of a .jsonl file to `target`, each with the answer of another."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in data.read_text().splitlines()]
    answers = [row["answer"] for row in rows]
    random.Random(1).shuffle(answers)
    pairs = zip(rows, answers, strict=True)
    target.write_text("".join(json.dumps({**row, "answer": a}) + "\n" for row, a in pairs))
    return target


# ------------------------------------------------------------------------------- arithmetic


def length(steps: Sequence[NDArray[np.int8]]) -> float:
    """Return the L2 norm in steps."""
    return sqrt(sum(int(np.sum(np.square(each, dtype=np.int64))) for each in steps))


def scaled(steps: Sequence[NDArray[np.int8]], norm: float) -> list[NDArray[np.float64]]:
    """Return the same direction with this norm."""
    factor = norm / max(length(steps), 1.0)
    return [each.astype(np.float64) * factor for each in steps]


def noise(spec: Spec, norm: float, seed: int) -> Steps:
    """Return normal noise of this norm, in whole steps."""
    rng = np.random.default_rng(seed)
    spread = norm / sqrt(sum(np.prod(layer.shape) for layer in spec.layers))
    drawn = [rng.normal(0, spread, layer.shape) for layer in spec.layers]
    return [np.clip(np.rint(each), -MAX_STEPS, MAX_STEPS).astype(np.int8) for each in drawn]


def with_noise(spec: Spec, steps: Sequence[NDArray[np.float64]], cosine: float, seed: int) -> Steps:
    """Return `steps` with so much noise that their cosine with what comes back is `cosine`."""
    norm = sqrt(sum(float(np.sum(np.square(each))) for each in steps))
    rng = np.random.default_rng(seed)
    count = sum(np.prod(layer.shape) for layer in spec.layers)
    spread = norm * sqrt(1 / cosine**2 - 1) / sqrt(count)
    noisy = [each + rng.normal(0, spread, each.shape) for each in steps]
    return [np.clip(np.rint(each), -MAX_STEPS, MAX_STEPS).astype(np.int8) for each in noisy]


def honest_norm(seen: Seen, spec: Spec, round_id: RoundId) -> float:
    """Return how long an honest update of this round is: as those of the round before."""
    accepted = [length(steps) for steps in seen.accepted(spec, round_id).values()]
    return float(np.median(accepted)) if accepted else _PART_OF_TRIAL * spec.screening.min_norm
