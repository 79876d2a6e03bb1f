"""The comparison with §7: in slabs and threads, it points at what a plain loop points at."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.average import most_moved
from protocol.encoding import value_type
from protocol.spec import Spec
from protocol.types import RoundId
from rounds import average, compare
from rounds.average import average_layers
from rounds.compare import first_too_far, first_wrong_value, is_too_far, moved_leaf_digests
from storage.layers import LayerFolder
from tests.protocol import reference
from tests.rounds.test_average import drawn, write
from tests.world import GRID, small_spec

ROUND = RoundId(1)
WEIGHTS = [3, 500]
LEAVES = 18
SLOW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def averaged(spec: Spec, folder: Path) -> tuple[LayerFolder, list[LayerFolder], LayerFolder]:
    """Write a model, two updates, and the model after them."""
    before, updates = write(folder, spec, *drawn(spec, 2, 5, 2**24))
    model = LayerFolder(folder / "after", "model")
    average_layers(spec, before, updates, WEIGHTS, model, ROUND)
    return before, updates, model


def bend(folder: LayerFolder, layer: int, place: int, amount: int) -> None:
    values = np.fromfile(folder.layer_path(layer), value_type(folder.kind))
    values[place] += amount
    values.tofile(folder.layer_path(layer))


@SLOW
@given(places=st.lists(st.integers(0, LEAVES * 256 - 1), max_size=4), threads=st.integers(1, 3))
def test_the_first_wrong_value_is_found(places: list[int], threads: int, tmp_path: Path) -> None:
    spec = small_spec()
    before, updates, model = averaged(spec, tmp_path)
    starts = np.cumsum([0, *(spec.layer_leaves(index) * 256 for index in range(3))])
    for place in set(places):
        layer = int(np.searchsorted(starts, place, side="right")) - 1
        bend(model, layer, int(place - starts[layer]), 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(average, "INPUT_BYTES", 1)  # a leaf at a time
        patch.setattr(average, "_LEAST_SLAB", 1)
        wrong = first_wrong_value(spec, before, updates, WEIGHTS, model, ROUND, threads)
    if not places:
        assert wrong is None
        return
    first = min(places)
    layer = int(np.searchsorted(starts, first, side="right")) - 1
    assert wrong is not None
    assert (wrong.leaf, wrong.layer) == (first // 256, spec.layers[layer].name)
    assert wrong.place == first - starts[layer]

    def there(folder: LayerFolder) -> int:
        stored = np.fromfile(folder.layer_path(layer), value_type(folder.kind))
        return int(stored[first - starts[layer]])

    assert wrong.before == there(before)
    assert wrong.differences == tuple(there(update) for update in updates)
    assert (wrong.grid, wrong.weights) == (GRID, tuple(WEIGHTS))
    assert wrong.found == wrong.expected + 7
    steps = [[each] for each in wrong.differences]
    assert [wrong.expected] == reference.move([wrong.before], steps, WEIGHTS, GRID)


def test_a_value_may_be_wrong_in_any_bit_and_either_way(tmp_path: Path) -> None:
    spec = small_spec()
    before, updates, model = averaged(spec, tmp_path)
    path = model.layer_path(2)
    right = path.read_bytes()
    for bit in range(32):
        data = bytearray(right)
        data[4 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        wrong = first_wrong_value(spec, before, updates, WEIGHTS, model, ROUND)
        assert wrong is not None
        assert (wrong.layer, wrong.place) == (spec.layers[2].name, 1)
    path.write_bytes(right)
    assert first_wrong_value(spec, before, updates, WEIGHTS, model, ROUND) is None


@pytest.mark.parametrize("layer", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_that_moved_too_far_is_found_without_updates(
    tmp_path: Path, layer: int, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec()
    before, _, model = averaged(spec, tmp_path)
    monkeypatch.setattr(compare, "_BLOCK", 512)
    assert first_too_far(spec, before, model, ROUND) is None
    limit, count = most_moved(GRID), spec.layer_leaves(layer) * 256
    old = np.fromfile(before.layer_path(layer), value_type("model")).astype(np.int64)
    for place, moved in ((count - 1, limit + 1), (3, limit)):
        values = np.fromfile(model.layer_path(layer), value_type("model"))
        values[place] = old[place] + sign * moved
        values.tofile(model.layer_path(layer))
    far = first_too_far(spec, before, model, ROUND)
    assert far is not None
    assert (far.layer, far.place) == (spec.layers[layer].name, count - 1)
    assert far.found - far.before == sign * (limit + 1)
    first_leaf = sum(spec.layer_leaves(index) for index in range(layer))
    assert far.leaf == first_leaf + (count - 1) // 256
    for leaf, beyond in ((far.leaf, True), (first_leaf, False)):
        old_leaf, new_leaf = (folder.prove(spec, leaf)[0] for folder in (before, model))
        assert is_too_far(old_leaf, new_leaf, GRID) is beyond


def test_the_leaves_of_the_right_model_are_those_of_its_files(tmp_path: Path) -> None:
    spec = small_spec()
    before, updates, model = averaged(spec, tmp_path)
    digests = moved_leaf_digests(spec, before, updates, WEIGHTS, ROUND)
    data = b"".join(path.read_bytes() for path in model.paths(spec))
    assert digests == [reference.leaf(data[at : at + 1024]) for at in range(0, len(data), 1024)]
