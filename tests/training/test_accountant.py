"""The accountant's ε against two others: by quadrature here, and Opacus's by Fourier transforms."""

import warnings
from math import comb, exp, inf, log, pi, sqrt

import numpy as np
import pytest
from opacus.accountants import PRVAccountant

from training.accountant import (
    LEAST_NOISE,
    Mechanism,
    epsilon_of,
    noise_for,
    signal_to_noise,
)

SETTINGS = [
    # rate, noise, steps, δ
    (16 / 500, 0.8, 50, 1e-5),
    (16 / 500, 1.5, 50, 1e-5),
    (64 / 2000, 0.7, 100, 1e-5),
    (64 / 2000, 1.0, 100, 1e-5),
    (4 / 80, 1.1, 15, 1e-5),
    (256 / 60000, 1.1, 3000, 1e-5),
    (0.01, 4.0, 10000, 1e-5),
    (0.2, 2.0, 100, 1e-6),
    (1.0, 10.0, 20, 1e-5),
    (0.001, 0.6, 1000, 1e-7),
]


def epsilon_by_quadrature(rate: float, noise: float, steps: int, delta: float) -> float:
    """Return ε from Rényi divergences that are integrated, not summed.

    The divergence of order a from N(0, σ²) to its mixture with N(1, σ²), the larger of the two ways
    (Mironov, Talwar, Zhang 2019, theorem 5), on a grid of orders of its own; converted by
    Canonne, Kamath, Steinke 2020, proposition 12.
    """
    best = inf
    x = np.linspace(-60 * noise, 60 * noise + 2, 20_001)
    log_density = -(x**2) / (2 * noise**2) - log(noise * sqrt(2 * pi))
    shift = (2 * x - 1) / (2 * noise**2)
    log_ratio = shift if rate == 1 else np.logaddexp(log(1 - rate), log(rate) + shift)
    for order in np.concatenate([np.arange(1.05, 12, 0.05), np.arange(12, 200, 1.0)]):
        logs = log_density + order * log_ratio
        top = logs.max()
        total = top + log(float(np.sum(np.exp(logs - top))) * (x[1] - x[0]))
        divergence = steps * total / (order - 1)
        found = divergence + log((order - 1) / order) - (log(delta) + log(order)) / (order - 1)
        best = min(best, float(found))
    return best


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), SETTINGS)
def test_epsilon_is_that_of_an_integration(
    rate: float, noise: float, steps: int, delta: float
) -> None:
    found = epsilon_of([Mechanism(rate, noise, steps)], delta)
    # Its orders are fewer: never below, and hardly above.
    expected = epsilon_by_quadrature(rate, noise, steps, delta)
    assert expected * (1 - 1e-4) <= found <= expected * 1.01


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), SETTINGS)
def test_epsilon_is_above_that_of_numerical_composition(
    rate: float, noise: float, steps: int, delta: float
) -> None:
    other = PRVAccountant()
    other.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tight = other.get_epsilon(delta, eps_error=0.01)
    found = epsilon_of([Mechanism(rate, noise, steps)], delta)
    # Rényi divergences lose something, and composition by Fourier transforms next to nothing.
    assert tight - 0.02 <= found <= tight * 1.35 + 0.02


def test_known_settings() -> None:
    """2,000 records, batches of 64, 100 steps, δ = 10⁻⁵: ε 6.5 and 2.7."""
    assert epsilon_of([Mechanism(64 / 2000, 0.7, 100)], 1e-5) == pytest.approx(6.5, abs=0.05)
    assert epsilon_of([Mechanism(64 / 2000, 1.0, 100)], 1e-5) == pytest.approx(2.7, abs=0.05)


def test_one_gaussian_is_above_its_exact_epsilon() -> None:
    """Without sampling δ(ε) is known in closed form (Balle, Wang 2018, theorem 8)."""
    from math import erfc

    def phi(value: float) -> float:
        return erfc(-value / sqrt(2)) / 2

    noise = 1.5
    epsilon = epsilon_of([Mechanism(1.0, noise, 1)], 1e-5)
    a, b = 1 / (2 * noise), epsilon * noise
    delta = phi(a - b) - exp(epsilon) * phi(-a - b)
    assert 1e-7 < delta <= 1e-5


def test_rounds_add_up() -> None:
    one, other = Mechanism(0.03, 1.0, 40), Mechanism(0.1, 2.0, 10)
    assert epsilon_of([], 1e-5) == 0.0
    assert epsilon_of([one] * 3, 1e-5) == pytest.approx(
        epsilon_of([Mechanism(0.03, 1.0, 120)], 1e-5)
    )
    both = epsilon_of([one, other], 1e-5)
    assert both == pytest.approx(epsilon_of([other, one], 1e-5))
    assert both > max(epsilon_of([one], 1e-5), epsilon_of([other], 1e-5))


def test_without_noise_there_is_no_promise() -> None:
    assert epsilon_of([Mechanism(0.1, 0.0, 1)], 1e-5) == inf


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 2.0, 8.0, 50.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.032, 50), (1.0, 10), (0.05, 1)])
def test_noise_is_the_least_that_keeps_the_promise(epsilon: float, rate: float, steps: int) -> None:
    noise = noise_for(epsilon, 1e-5, rate, steps)
    assert epsilon_of([Mechanism(rate, noise, steps)], 1e-5) <= epsilon
    less = Mechanism(rate, noise / 1.001, steps)
    assert noise == LEAST_NOISE or epsilon_of([less], 1e-5) > epsilon


def test_the_signal_beside_the_noise() -> None:
    mechanism = Mechanism(16 / 500, 0.5, 100)
    assert signal_to_noise(mechanism, 500, 10_000) == pytest.approx(10 * 16 / (0.5 * 100))


def test_a_wrong_rate_is_caught_by_the_integration() -> None:
    """An accountant that counts records once a pass is below what is spent."""
    rate, noise, steps, delta = SETTINGS[0]
    wrong = epsilon_of([Mechanism(rate / 2, noise, steps)], delta)
    assert wrong < epsilon_by_quadrature(rate, noise, steps, delta) * (1 - 1e-4)
    # And a binomial check of the formula itself, at an order where the sum is exact.
    exact = sum(
        comb(2, i) * (1 - rate) ** (2 - i) * rate**i * exp((i * i - i) / (2 * noise**2))
        for i in range(3)
    )
    assert exact == pytest.approx(1 + rate**2 * (exp(noise**-2) - 1))
