import numpy as np

from training.seeded import shuffled_order, uniform_values


def test_values_are_the_same_everywhere() -> None:
    # From the definition by hand: SHAKE-256("a") begins 867e2cb0 4f5a04dc bd592501 a5e8fe9c.
    values = uniform_values("a", (2, 2), 1.0)
    words = [0xB02C7E86, 0xDC045A4F, 0x012559BD, 0x9CFEE8A5]
    assert values.ravel().tolist() == [(word >> 8) / 2**23 - 1 for word in words]


def test_values_fill_their_range_evenly() -> None:
    values = uniform_values("b", (100, 100), 0.25)
    assert values.dtype == np.float32
    assert -0.25 <= values.min() < -0.249
    assert 0.249 < values.max() < 0.25
    assert abs(values.mean()) < 0.005


def test_order_is_a_permutation_that_depends_on_the_label() -> None:
    order = shuffled_order("order/1/0", 50)
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() == shuffled_order("order/1/0", 50).tolist()
    assert order.tolist() != shuffled_order("order/1/1", 50).tolist()
