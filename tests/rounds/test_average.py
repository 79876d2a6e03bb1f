"""The mean of layer files, whatever the threads, slabs and machine, is that of naive integers."""

import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import average, speed
from protocol.encoding import STORED, encode_values
from protocol.errors import Misconfigured
from protocol.spec import Spec
from rounds import average as layerwise
from rounds.average import Mode, average_layers, memory_needed
from storage.digests import examine
from storage.layers import LayerFolder
from tests.protocol import reference
from tests.protocol.compiled import compiled_kernels
from tests.protocol.strategies import MAX, make_spec

FRACTION_BITS = 24
MODES: tuple[Mode, ...] = ("layerwise", "all_at_once")


@pytest.fixture(params=["plain", "compiled"], autouse=True, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test here runs both ways; the compiled one needs the extra `fast`."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = compiled_kernels() if request.param == "compiled" else None
        if request.param == "compiled" and compiled is None:
            pytest.skip("numba is not installed")
        patch.setattr(speed, "kernels", lambda size: compiled)
        patch.setattr(speed, "break_even", lambda: 0.0)
        yield


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    # The reference counts in plain integers: larger layers would only take it longer. These have
    # several leaves, and several slabs and blocks of the sizes drawn below, all the same.
    shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
    leaf_values = draw(st.sampled_from([1, 3, 16, 32]))
    return make_spec(draw(st.lists(shapes, min_size=1, max_size=4)), leaf_values)


@st.composite
def weight_lists(draw: st.DrawFn) -> list[int]:
    count = draw(st.integers(1, 9))
    weight = st.integers(1, MAX // count) | st.integers(1, 100)
    return draw(st.lists(weight, min_size=count, max_size=count))


def write(folder: Path, spec: Spec, updates: list[list[Any]]) -> list[LayerFolder]:
    folders = [LayerFolder(folder / f"update{number}") for number in range(len(updates))]
    for each, values in zip(folders, updates, strict=True):
        each.write(spec, values)
    return folders


@settings(deadline=None, max_examples=60)
@given(specs(), weight_lists(), st.integers(1, 4), st.integers(1, 5000), st.data())
def test_the_mean_is_that_of_naive_integers(
    spec: Spec, weights: list[int], threads: int, slab: int, draw: st.DataObject
) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    span = draw.draw(st.sampled_from([3, 2**24, MAX]))
    updates = [
        [rng.integers(-span, span, e.shape, np.int32, endpoint=True) for e in spec.layers]
        for _ in weights
    ]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folders = write(Path(name), spec, updates)
        patch.setattr(layerwise, "INPUT_BYTES", slab)
        patch.setattr(layerwise, "_LEAST_SLAB_BYTES", 1)
        patch.setattr(average, "_BLOCK", slab % 97 + 1)
        target = LayerFolder(Path(name) / "mean")
        roots, told = [], list[int]()
        for mode in MODES:
            root = average_layers(spec, folders, weights, target, threads, mode, told.append)
            roots.append(root)
        found = [target.layer_path(index).read_bytes() for index in range(len(spec.layers))]
        assert roots == 2 * [examine(spec, [target.paths(spec)])[0].root]
    assert told == 2 * list(range(len(spec.layers)))
    columns = [[layer.ravel().tolist() for layer in update] for update in updates]
    for index, data in enumerate(found):
        expected = reference.average([update[index] for update in columns], weights)
        assert data == reference.layer_file(expected, spec.encoding.leaf_values)
    assert roots[0] == reference.root(b"".join(found), spec.encoding.leaf_bytes)


@settings(deadline=None, max_examples=40)
@given(specs(), weight_lists(), st.integers(1, 3), st.data())
def test_the_mean_is_within_a_quantum_of_floating_point_fedavg(
    spec: Spec, weights: list[int], threads: int, draw: st.DataObject
) -> None:
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    scale = draw.draw(st.sampled_from([1e-6, 0.01, 1.0, 20.0]))
    tensors = [
        [rng.normal(0, scale, e.shape).astype(np.float32) for e in spec.layers] for _ in weights
    ]
    encoded = [[encode_values(layer, FRACTION_BITS) for layer in each] for each in tensors]
    with tempfile.TemporaryDirectory() as name:
        folders = write(Path(name), spec, encoded)
        target = LayerFolder(Path(name) / "mean")
        average_layers(spec, folders, weights, target, threads)
        for index, layer in enumerate(spec.layers):
            mean = np.fromfile(target.layer_path(index), STORED, prod(layer.shape))
            stacked = np.array([each[index].ravel() for each in tensors], np.float64)
            fedavg = np.average(stacked, axis=0, weights=weights)
            assert np.abs(mean * 2.0**-FRACTION_BITS - fedavg).max() <= 2.0**-FRACTION_BITS


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_file_too_short_is_told_by_name(tmp_path: Path, mode: Mode) -> None:
    spec = make_spec([(5, 5), (64, 64)])
    folders = write(tmp_path, spec, [[np.ones(e.shape, np.int32) for e in spec.layers]] * 2)
    path = folders[1].layer_path(1)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Misconfigured, match=r"update1/00001.layer is shorter than the 16,384"):
        average_layers(spec, folders, [1, 2], LayerFolder(tmp_path / "mean"), mode=mode)


def test_what_was_there_before_does_not_show(tmp_path: Path) -> None:
    spec = make_spec([(5, 5)])
    (folder,) = write(tmp_path, spec, [[np.ones((5, 5), np.int32)]])
    target = LayerFolder(tmp_path / "mean")
    target.path.mkdir()
    target.layer_path(0).write_bytes(b"\xff" * 5000)
    average_layers(spec, [folder], [7], target)
    assert target.layer_path(0).read_bytes() == folder.layer_path(0).read_bytes()


def test_the_memory_announced_does_not_grow_with_the_model() -> None:
    small, large = (make_spec([(side, 8192)]) for side in (8192, 80_000))
    assert memory_needed(large, 8, "layerwise") == memory_needed(small, 8, "layerwise")
    assert memory_needed(small, 0, "layerwise") < memory_needed(small, 1, "layerwise")
    assert memory_needed(large, 8, "all_at_once") == 9 * large.total_bytes
