"""The model after a round, whatever threads, slabs and machine, is that of naive integers."""

import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import average
from protocol.encoding import LEAF_VALUES, leaf_bytes, value_type
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId
from rounds import average as layerwise
from rounds.average import Layout, Mode, Stored, average_layers, memory_needed, write_mean
from storage.digests import examine
from storage.layers import LayerFolder
from tests.protocol import reference
from tests.protocol.strategies import MAX
from tests.world import small_spec

ROUND = RoundId(3)
MODES: tuple[Mode, ...] = ("layerwise", "all_at_once")


def spec_of(shapes: list[tuple[int, ...]], grid: int = 8, every: int = 0) -> Spec:
    layers = [{"name": f"{index:02d}", "shape": list(shape)} for index, shape in enumerate(shapes)]
    return small_spec(layers=layers, encoding={"grid_bits": grid, "grid_every": every})


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    shapes = st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple)
    grid, every = draw(st.integers(0, 24)), draw(st.integers(0, 2))
    return spec_of(draw(st.lists(shapes, min_size=1, max_size=3)), grid, every)


@st.composite
def weight_lists(draw: st.DrawFn) -> list[int]:
    count = draw(st.integers(1, 9))
    weight = st.integers(1, (2**24 - 1) // count) | st.integers(1, 100)
    return draw(st.lists(weight, min_size=count, max_size=count))


def write(
    folder: Path, spec: Spec, model: list[Any], updates: list[list[Any]]
) -> tuple[LayerFolder, list[LayerFolder]]:
    before = LayerFolder(folder / "before", "model")
    before.write(spec, model)
    folders = [LayerFolder(folder / f"update{n}", "update") for n in range(len(updates))]
    for each, values in zip(folders, updates, strict=True):
        each.write(spec, values)
    return before, folders


def drawn(spec: Spec, count: int, seed: int, span: int) -> tuple[list[Any], list[list[Any]]]:
    """Return a model and so many updates, drawn by a seed."""
    rng = np.random.default_rng(seed)
    shapes = [layer.shape for layer in spec.layers]
    model = [rng.integers(-span, span, shape, np.int32, endpoint=True) for shape in shapes]
    updates = [
        [rng.integers(-127, 127, shape, np.int8, endpoint=True) for shape in shapes]
        for _ in range(count)
    ]
    return model, updates


@settings(max_examples=40)
@given(specs(), weight_lists(), st.integers(1, 3), st.integers(1, 5000), st.data())
def test_the_model_is_that_of_naive_integers(
    spec: Spec, weights: list[int], threads: int, slab: int, data: st.DataObject
) -> None:
    span = data.draw(st.sampled_from([3, 2**24, MAX]))
    model, updates = drawn(spec, len(weights), data.draw(st.integers(0, 2**32)), span)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        before, folders = write(Path(name), spec, model, updates)
        patch.setattr(layerwise, "INPUT_BYTES", slab)
        patch.setattr(layerwise, "_LEAST_SLAB", 1)
        patch.setattr(average, "_BLOCK", slab % 97 + 1)
        target = LayerFolder(Path(name) / "after", "model")
        roots, told = [], list[int]()
        for mode in MODES:
            place = (spec, before, folders, weights, target, ROUND)
            roots.append(average_layers(*place, threads, mode, told.append))
        found = [target.layer_path(index).read_bytes() for index in range(len(spec.layers))]
        assert roots == 2 * [examine(spec, "model", [target.paths(spec)])[0].root]
    assert told == 2 * list(range(len(spec.layers)))
    grid = spec.encoding.grid_in(ROUND)
    for index, bytes_found in enumerate(found):
        steps = [update[index].ravel().tolist() for update in updates]
        expected = reference.move(model[index].ravel().tolist(), steps, weights, grid)
        padding = -len(expected) % LEAF_VALUES
        stored = np.frombuffer(bytes_found, value_type("model")).tolist()
        assert stored == [*expected, *[0] * padding]
    assert roots[0] == reference.root(b"".join(found), leaf_bytes("model"))


def test_the_mean_of_checkpoints_is_exact(tmp_path: Path) -> None:
    """Off the chain whole models are averaged; the result has the tree of a model."""
    spec = spec_of([(5, 70), (3,)])
    models = [drawn(spec, 0, seed, MAX)[0] for seed in range(3)]
    folders = [LayerFolder(tmp_path / str(n), "model") for n in range(3)]
    for folder, values in zip(folders, models, strict=True):
        folder.write(spec, values)
    target, weights = LayerFolder(tmp_path / "mean", "model"), [1, 2, 4]
    root = write_mean(Layout.of(spec), [Stored(each) for each in folders], weights, target)
    assert root == target.root(spec)
    for index, mean in enumerate(target.read(spec)):
        columns = zip(*(model[index].ravel().tolist() for model in models), strict=True)
        sums = [sum(w * x for w, x in zip(weights, column, strict=True)) for column in columns]
        assert mean.ravel().tolist() == [(2 * total + 7) // 14 for total in sums]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("short", "size"), [("before", "16,384"), ("update1", "4,096")])
def test_a_layer_file_too_short_is_told_by_name(
    tmp_path: Path, mode: Mode, short: str, size: str
) -> None:
    spec = spec_of([(5, 5), (64, 64)])
    before, folders = write(tmp_path, spec, *drawn(spec, 2, 0, 9))
    path = tmp_path / short / "00001.layer"
    path.write_bytes(path.read_bytes()[:-4])
    target = LayerFolder(tmp_path / "after", "model")
    with pytest.raises(Misconfigured, match=rf"{short}/00001.layer is shorter than the {size}"):
        average_layers(spec, before, folders, [1, 2], target, ROUND, mode=mode)


def test_what_was_there_before_does_not_show(tmp_path: Path) -> None:
    spec = spec_of([(5, 5)])
    before, folders = write(tmp_path, spec, *drawn(spec, 1, 0, 9))
    target, fresh = (LayerFolder(tmp_path / name, "model") for name in ("after", "fresh"))
    target.path.mkdir()
    target.layer_path(0).write_bytes(b"\xff" * 5000)
    for each in (target, fresh):
        average_layers(spec, before, folders, [7], each, ROUND)
    assert target.layer_path(0).read_bytes() == fresh.layer_path(0).read_bytes()


def test_the_memory_announced_does_not_grow_with_the_model() -> None:
    small, large = (spec_of([(side, 8192)]) for side in (8192, 80_000))
    assert memory_needed(large, 8, "layerwise") == memory_needed(small, 8, "layerwise")
    assert memory_needed(small, 0, "layerwise") < memory_needed(small, 1, "layerwise")
    model, update = large.total_bytes("model"), large.total_bytes("update")
    assert memory_needed(large, 8, "all_at_once") == 2 * model + 8 * update
    assert prod(large.layers[0].shape) * 4 == model
