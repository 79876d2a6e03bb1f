"""What an update is paid by the help that was measured, in exact integers (docs/protocol.md §9).

    g = loss without the update - loss of the average         Σ over the updates with g > 0
    score = min(10,000, floor(10,000 · g · Σg / Σg²))         harm: g · Σg < -Σg²

Σg² / Σg is the gain that earns the full price: a mean of the positive gains, each weighted by
itself, which many updates of next to no gain do not move. Losses are in millionths of a nat per
answer token. Golden vectors: tests/vectors/scores.json.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Final

from protocol.types import FULL_BASIS_POINTS, BasisPoints

MILLION: Final = 10**6

HIGHEST_LOSS: Final = 1_000 * MILLION
"""Where a loss is held, in millionths; one that is no number counts as this."""


@dataclass(frozen=True)
class Score:
    """What one update earns, and why: all losses and gains are in millionths.

    `full_gain` is the gain that earns the full price, rounded down; None where no gain is positive.
    `is_lower` says whether the average lowers the loss at all.
    """

    value: BasisPoints
    is_harm: bool
    gain: int
    full_gain: int | None
    is_lower: bool


def to_millionths(loss: float) -> int:
    """Return a loss in whole millionths, half to even, held within 0 to `HIGHEST_LOSS`.

    What is no finite number is the highest loss: such a model is of no use to anybody.
    """
    if not isfinite(loss):
        return HIGHEST_LOSS
    return min(max(round(Fraction(loss) * MILLION), 0), HIGHEST_LOSS)


def compute_scores(before: int, average: int, without: Sequence[int]) -> list[Score]:
    """Return the score of each update from the losses of the models, in millionths.

    `before` is that of the model before the round, `average` that of the model with every update,
    `without[i]` that of the same average with update i's place taken.
    """
    gains = [loss - average for loss in without]
    positive = [gain for gain in gains if gain > 0]
    total, squares = sum(positive), sum(gain**2 for gain in positive)
    full_gain = squares // total if total else None
    is_lower = average < before
    return [
        Score(
            value=_value(gain, total, squares) if is_lower else BasisPoints(0),
            # Without a positive gain there is nothing to measure harm by.
            is_harm=gain * total < -squares,
            gain=gain,
            full_gain=full_gain,
            is_lower=is_lower,
        )
        for gain in gains
    ]


def _value(gain: int, total: int, squares: int) -> BasisPoints:
    if gain <= 0:
        return BasisPoints(0)
    return BasisPoints(min(FULL_BASIS_POINTS, FULL_BASIS_POINTS * gain * total // squares))
