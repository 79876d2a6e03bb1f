"""The error of averaging A and B one by one, against matrices that are multiplied out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from aggregator import product_error as module
from aggregator.product_error import product_error, squared_error_and_norm
from protocol.encoding import encode_values
from runtime.events import AggregationError, Event
from storage.layers import LayerFolder
from tests.world import World, small_spec

A_NAME, B_NAME = "a.lora_A.weight", "a.lora_B.weight"


def multiplied_out(
    a: list[NDArray[np.float64]], b: list[NDArray[np.float64]], shares: NDArray[np.float64]
) -> tuple[float, float]:
    """|mean(BA) - mean(B) mean(A)|² and |mean(BA)|²; each of `a` is (rank, inputs)."""
    products = [share * y @ x for share, x, y in zip(shares, a, b, strict=True)]
    mean = np.sum(products, axis=0)
    mean_a, mean_b = (np.tensordot(shares, np.stack(each), 1) for each in (a, b))
    return float(((mean - mean_b @ mean_a) ** 2).sum()), float((mean**2).sum())


@given(
    seed=st.integers(0, 2**32),
    weights=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    rank=st.integers(1, 3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
)
def test_is_what_multiplying_out_gives(
    seed: int, weights: list[int], rank: int, inputs: int, outputs: int
) -> None:
    rng = np.random.default_rng(seed)
    a = [rng.normal(size=(rank, inputs)) for _ in weights]
    b = [rng.normal(size=(outputs, rank)) for _ in weights]
    shares = np.array(weights) / sum(weights)
    found = squared_error_and_norm([x.T for x in a], b, shares)
    assert found == pytest.approx(multiplied_out(a, b, shares), rel=1e-9, abs=1e-12)


def test_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = ([rng.normal(size=(50, 2)) for _ in range(3)] for _ in range(2))
    shares = np.full(3, 1 / 3)
    whole = squared_error_and_norm(a, b, shares)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 14)
    assert squared_error_and_norm(a, b, shares) == pytest.approx(whole, rel=1e-12)


def write(folder: Path, seed: int, same_a: bool) -> LayerFolder:
    """An update whose A is everybody's or its own."""
    spec, rng = small_spec(), np.random.default_rng(seed)
    layers = []
    for layer in spec.layers:
        is_shared = same_a and ".lora_A." in layer.name
        drawn = np.random.default_rng(99) if is_shared else rng
        layers.append(encode_values(drawn.normal(size=layer.shape)))
    update = LayerFolder(folder / f"{seed}-{same_a}")
    update.write(spec, layers)
    return update


def test_one_a_for_all_makes_the_average_exact(tmp_path: Path) -> None:
    updates = [write(tmp_path, seed, same_a=True) for seed in range(4)]
    error = product_error(small_spec(), updates, [1, 2, 3, 4])
    assert error is not None
    assert error.total == pytest.approx(0, abs=1e-6)


def test_names_each_adapted_weight_and_leaves_out_a_without_b(tmp_path: Path) -> None:
    # Four independent adapters: the mean of the products has three quarters of its square lost.
    updates = [write(tmp_path, seed, same_a=False) for seed in range(4)]
    error = product_error(small_spec(), updates, [5, 5, 5, 5])
    assert error is not None
    assert set(error.by_weight) == {"a"}
    assert error.total == error.by_weight["a"]
    assert error.total == pytest.approx(0.75**0.5, abs=0.1)


def test_nothing_is_told_where_a_is_frozen(tmp_path: Path) -> None:
    layers = [{"name": B_NAME, "shape": [24, 4]}]
    assert product_error(small_spec(layers=layers), [], [1]) is None


def test_each_round_reports_it(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        reported: list[Event] = []
        world.aggregator.report = reported.append
        world.play()
        world.play()
    told = [event for event in reported if isinstance(event, AggregationError)]
    assert [event.round for event in told] == [1, 2]
    assert all(event.total > 0 for event in told)
    assert {event.weight for event in told} == {"a"}
