"""What an outsider reads out of a model or an update: canaries, membership, and how sure that is.

    planted, spare = make_canaries(16)
    seen = [exposure(score, spare_scores) for score in planted_scores]
    found = compare(scores_of_rows_trained_on, scores_of_others_on_the_same_topics)
    found.auc, found.low, found.high, found.in_words      # 0.81, 0.75, 0.86, "not at chance"

Scores are higher for what was more likely trained on. A result at chance is no proof: it says what
these attacks found, and others may find more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training import system_random
from training.examples import Example

Scores = Sequence[float] | NDArray[np.float64]

_Z: Final = 1.959964  # of a 95% interval
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"


def make_canaries(count: int) -> tuple[list[Example], list[Example]]:
    """Return `count` canaries to plant and as many to keep, alike but for what is drawn."""
    drawn = [_canary() for _ in range(2 * count)]
    return drawn[:count], drawn[count:]


def _canary() -> Example:
    """Return a record number that nobody could guess: 40 random bits, as digits."""
    letters, digits = system_random.uniform(4), system_random.uniform(12)
    name = "".join(_LETTERS[int(each * len(_LETTERS))] for each in letters)
    number = "".join(str(int(each * 10)) for each in digits)
    shown = " ".join(number[place : place + 4] for place in (0, 4, 8))
    return Example(
        f"What is the record number of patient {name}?", f"The record number is {shown}."
    )


def exposure(score: float, others: Sequence[float]) -> float:
    """Return log2 of how much better than a guess a canary is found, in bits (arXiv:1802.08232).

    That is log2(n + 1) for a canary above all n `others`, 0 below all; ties count against it.
    """
    rank = 1 + sum(other >= score for other in others)
    return log2(len(others) + 1) - log2(rank)


def chance_exposure(others: int) -> float:
    """Return the mean exposure of a canary that nothing tells from `others`, in bits."""
    return log2(others + 1) - fmean(log2(rank) for rank in range(1, others + 2))


@dataclass(frozen=True)
class Comparison:
    """The probability `auc` that a member scores above another, with its 95% interval."""

    auc: float
    low: float
    high: float
    members: int
    others: int

    @property
    def in_words(self) -> str:
        """Whether the interval has one half in it."""
        return "at chance" if self.low <= 0.5 <= self.high else "not at chance"


def compare(members: Scores, others: Scores) -> Comparison:
    """Return how well scores tell members from others.

    The interval is Newcombe's method 5 (Statistics in Medicine 25, 2006, 559): Hanley and McNeil's
    variance where the true value, not the one seen, is inserted. So it has a width at 0 and 1 too.
    """
    a, b = np.asarray(members)[:, None], np.asarray(others)[None, :]
    auc = float(np.mean((a > b) + 0.5 * (a == b)))
    counts = len(members), len(others)
    low, high = _limit(auc, *counts, 0.0), _limit(auc, *counts, 1.0)
    return Comparison(auc, low, high, *counts)


def _limit(auc: float, members: int, others: int, end: float) -> float:
    """Return the value furthest from `auc` towards `end` that it is no surprise under."""
    star = (members + others) / 2 - 1

    def is_near(value: float) -> bool:
        pairs = 1 + star * (1 - value) / (2 - value) + star * value / (1 + value)
        spread = sqrt(value * (1 - value) * pairs / (members * others))
        return abs(auc - value) <= _Z * spread

    near, far = auc, end
    for _ in range(60):
        middle = (near + far) / 2
        near, far = (middle, far) if is_near(middle) else (near, middle)
    return near
