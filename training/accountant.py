"""What noised steps of training say of one record at most: the privacy accountant.

    plan = Mechanism(rate=16 / 500, noise=noise_for(8.0, 1e-5, 16 / 500, 50), steps=50)
    epsilon_of([plan], delta=1e-5)      # at most 8

The mechanism is the Poisson-subsampled Gaussian of DP-SGD (arXiv:1607.00133), its Rényi divergence
that of Mironov, Talwar and Zhang (arXiv:1908.10530), the conversion Balle et al.'s
(arXiv:1905.09982), all three as Opacus computes them. Neighbouring data sets differ in one record
that one of them lacks; the number of records counts as known.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum, sqrt
from typing import Final

# Opacus's own, and some more for small budgets. Above 256 its binomials overflow in places.
ORDERS: Final = (*(1 + n / 10 for n in range(1, 100)), *range(12, 64), 80, 96, 128, 192, 256)
LEAST_NOISE: Final = 0.3
"""Where the accountant would allow less, this much is added all the same: little helps nobody."""
DROWNED: Final = 0.1
CLEAR: Final = 0.5
"""An eighth of the gain was left at the first `signal_to_noise`, a third at the second
(docs/privacy.md)."""
_MOST_NOISE: Final = 1e6
_PRECISION: Final = 1.0005


@dataclass(frozen=True)
class Mechanism:
    """Steps that each take a record with probability `rate`, and add Gaussian noise.

    `noise` is its standard deviation in units of the norm to which each record is clipped.
    """

    rate: float
    noise: float
    steps: int


def epsilon_of(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return the ε of all `mechanisms` together at `delta`; 0 for none, infinity without noise."""
    if not mechanisms:
        return 0.0
    total = [fsum(values) for values in zip(*map(_divergences, mechanisms), strict=True)]
    from opacus.accountants.analysis import rdp  # imports torch, which takes seconds

    with warnings.catch_warnings():
        # It warns where the best order is the first or last: the bound holds at any.
        warnings.simplefilter("ignore")
        epsilon, _ = rdp.get_privacy_spent(orders=list(ORDERS), rdp=total, delta=delta)
    return max(0.0, float(epsilon))


@lru_cache(maxsize=1024)
def _divergences(mechanism: Mechanism) -> tuple[float, ...]:
    """Return the Rényi divergence of a mechanism at each of ORDERS."""
    from opacus.accountants.analysis import rdp

    rate, noise, steps = mechanism.rate, mechanism.noise, mechanism.steps
    found = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=list(ORDERS))
    return tuple(map(float, found))


def signal_to_noise(mechanism: Mechanism, records: int, values: int) -> float:
    """Return how long the sum of all steps' gradients is beside their noise, at its longest.

    That is √steps · rate · records / (noise · √values) with `values` trained: every record as long
    as its clip, and all of one direction. Batch size and noise decide, not the learning rate.
    """
    return sqrt(mechanism.steps / values) * mechanism.rate * records / mechanism.noise


@lru_cache(maxsize=64)
def noise_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the least noise whose `steps` at `rate` stay within `epsilon` at `delta`.

    Found to one part in two thousand, from above; never below LEAST_NOISE.
    """

    def fits(noise: float) -> bool:
        return epsilon_of([Mechanism(rate, noise, steps)], delta) <= epsilon

    if fits(LEAST_NOISE):
        return LEAST_NOISE
    low, high = LEAST_NOISE, 2 * LEAST_NOISE
    while not fits(high) and high < _MOST_NOISE:
        low, high = high, 2 * high
    while high / low > _PRECISION:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
