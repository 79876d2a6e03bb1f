"""The comparison with the mean: in slabs and threads, it points at what a plain loop points at."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.average import weighted_mean
from protocol.encoding import STORED
from protocol.spec import Spec
from rounds import average
from rounds.compare import first_wrong_value
from storage.layers import LayerFolder
from tests.world import small_spec

WEIGHTS = (3, 500)
SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def averaged(spec: Spec, folder: Path) -> tuple[list[LayerFolder], LayerFolder]:
    """Write two updates and their mean."""
    updates = [LayerFolder(folder / "a"), LayerFolder(folder / "b")]
    rng = np.random.default_rng(5)
    layers = [
        [rng.integers(-(2**24), 2**24, layer.shape, dtype=np.int32) for layer in spec.layers]
        for _ in updates
    ]
    for update, values in zip(updates, layers, strict=True):
        update.write(spec, values)
    model = LayerFolder(folder / "mean")
    model.write(spec, [weighted_mean(pair, WEIGHTS) for pair in zip(*layers, strict=True)])
    return updates, model


@SLOW
@given(places=st.lists(st.integers(0, 14 * 16 - 1), max_size=4), threads=st.integers(1, 3))
def test_the_first_wrong_value_is_found(places: list[int], threads: int, tmp_path: Path) -> None:
    spec = small_spec()
    updates, model = averaged(spec, tmp_path)
    sizes = [spec.layer_bytes(index) // STORED.itemsize for index in range(len(spec.layers))]
    starts = np.cumsum([0, *sizes])
    for place in set(places):
        layer = int(np.searchsorted(starts, place, side="right")) - 1
        values = np.fromfile(model.layer_path(layer), STORED)
        values[place - starts[layer]] += 7
        values.tofile(model.layer_path(layer))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(average, "INPUT_BYTES", 1)  # a leaf at a time
        patch.setattr(average, "_LEAST_SLAB_BYTES", 1)
        wrong = first_wrong_value(spec, updates, WEIGHTS, model, threads)
    if not places:
        assert wrong is None
        return
    first = min(places)
    layer = int(np.searchsorted(starts, first, side="right")) - 1
    assert wrong is not None
    assert wrong.leaf == first // 16
    assert wrong.layer == spec.layers[layer].name
    assert wrong.place == first - starts[layer]
    values_there = [np.fromfile(u.layer_path(layer), STORED)[wrong.place] for u in updates]
    assert wrong.values == tuple(values_there)
    assert wrong.found == wrong.expected + 7
    weighted = sum(w * int(v) for w, v in zip(WEIGHTS, values_there, strict=True))
    assert wrong.expected == (2 * weighted + 503) // 1006


def test_a_value_may_be_wrong_in_any_bit_and_either_way(tmp_path: Path) -> None:
    spec = small_spec()
    updates, model = averaged(spec, tmp_path)
    path = model.layer_path(2)
    right = path.read_bytes()
    for bit in range(32):
        data = bytearray(right)
        data[4 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        wrong = first_wrong_value(spec, updates, WEIGHTS, model)
        assert wrong is not None
        assert (wrong.layer, wrong.place) == (spec.layers[2].name, 1)
    path.write_bytes(right)
    assert first_wrong_value(spec, updates, WEIGHTS, model) is None
