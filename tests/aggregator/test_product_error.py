"""The error of averaging A and B one by one, against matrices that are multiplied out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from aggregator import product_error as module
from aggregator.product_error import Factors, product_error, squared_error_and_norm
from protocol.types import RoundId
from runtime.events import AggregationError, Event
from storage.layers import LayerFolder
from tests.world import World, small_spec

B_NAME = "a.lora_B.weight"


def multiplied_out(
    a: list[NDArray[np.float64]], b: list[NDArray[np.float64]], shares: NDArray[np.float64]
) -> tuple[float, float]:
    """|mean(BA) - mean(B) mean(A)|² and |mean(BA)|²; each of `a` is (rank, inputs)."""
    products = [share * y @ x for share, x, y in zip(shares, a, b, strict=True)]
    mean = np.sum(products, axis=0)
    mean_a, mean_b = (np.tensordot(shares, np.stack(each), 1) for each in (a, b))
    return float(((mean - mean_b @ mean_a) ** 2).sum()), float((mean**2).sum())


def factors(each: list[NDArray[np.float64]], before: NDArray[np.float64]) -> Factors:
    return Factors(before, [one - before for one in each])


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
    """In both ways: the product is wider than the factors, or not."""
    rng = np.random.default_rng(seed)
    a = [rng.normal(size=(rank, inputs)) for _ in weights]
    b = [rng.normal(size=(outputs, rank)) for _ in weights]
    shares = np.array(weights) / sum(weights)
    sides = factors([x.T for x in a], rng.normal(size=(inputs, rank))), factors(b, b[0] * 0.5)
    found = squared_error_and_norm(*sides, shares)
    assert found == pytest.approx(multiplied_out(a, b, shares), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("length", [50, 5])
def test_blocks_do_not_change_it(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (
        factors([rng.normal(size=(length, 2)) for _ in range(3)], np.zeros((length, 2)))
        for _ in range(2)
    )
    shares = np.full(3, 1 / 3)
    whole = squared_error_and_norm(a, b, shares)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 14)
    monkeypatch.setattr(module, "_TILE", 2)
    assert squared_error_and_norm(a, b, shares) == pytest.approx(whole, rel=1e-12)


ROUND = RoundId(1)


def write(folder: Path, seed: int, same_a: bool) -> LayerFolder:
    """An update whose A is everybody's or its own."""
    spec, rng = small_spec(), np.random.default_rng(seed)
    layers = []
    for layer in spec.layers:
        is_shared = same_a and ".lora_A." in layer.name
        drawn = np.random.default_rng(99) if is_shared else rng
        layers.append(drawn.integers(-127, 128, layer.shape).astype(np.int8))
    update = LayerFolder(folder / f"{seed}-{same_a}", "update")
    update.write(spec, layers)
    return update


def model(folder: Path, scale: float) -> LayerFolder:
    """A model of random values, so many steps of the grid large."""
    spec, rng = small_spec(), np.random.default_rng(7)
    written = LayerFolder(folder / "before", "model")
    step = 2 ** (24 - spec.encoding.grid_in(ROUND))
    values = [np.rint(rng.normal(0, scale * step, each.shape)) for each in spec.layers]
    written.write(spec, [each.astype(np.int32) for each in values])
    return written


def test_one_a_for_all_makes_the_average_exact(tmp_path: Path) -> None:
    updates = [write(tmp_path, seed, same_a=True) for seed in range(4)]
    before = model(tmp_path, 50)
    error = product_error(small_spec(), before, updates, [1, 2, 3, 4], ROUND)
    assert error is not None
    assert error.total == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("count", [4, 12])
def test_it_is_that_of_the_model_before_and_the_differences(tmp_path: Path, count: int) -> None:
    """With 4 updates of rank 16 by Gram matrices, with 12 the product is wider than the weight."""
    spec, before = small_spec(), model(tmp_path, 40)
    updates = [write(tmp_path, seed, same_a=False) for seed in range(count)]
    weights = list(range(5, 5 + count))
    error = product_error(spec, before, updates, weights, ROUND)
    assert error is not None
    assert set(error.by_weight) == {"a"}
    assert error.total == error.by_weight["a"]
    step = 2.0 ** (24 - spec.encoding.grid_in(ROUND))
    a0, b0, _ = (layer / step for layer in before.read(spec))
    each = [update.read(spec) for update in updates]
    shares = np.array(weights) / sum(weights)
    lost, norm = multiplied_out([a0 + x[0] for x in each], [b0 + x[1] for x in each], shares)
    assert error.total == pytest.approx((lost / norm) ** 0.5, rel=1e-9)


def test_nothing_is_told_where_a_is_frozen(tmp_path: Path) -> None:
    layers = [{"name": B_NAME, "shape": [24, 4]}]
    before = LayerFolder(tmp_path, "model")
    assert product_error(small_spec(layers=layers), before, [], [1], ROUND) is None


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
