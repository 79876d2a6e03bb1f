"""Hashing many files side by side gives what hashlib and the plain tree give."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from protocol import speed
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.tree import compute_root
from storage import digests
from storage.digests import examine, file_digests
from storage.layers import LayerFolder
from storage.mapped import MappedFile
from tests.protocol.compiled import compiled_kernels
from tests.world import small_spec


@pytest.fixture(params=["plain", "compiled"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs both ways; the compiled one needs the extra `fast`."""
    compiled = compiled_kernels() if request.param == "compiled" else None
    if request.param == "compiled" and compiled is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(speed, "kernels", lambda size: compiled)
    monkeypatch.setattr(speed, "break_even", lambda: 0.0)


def folder_of(path: Path, spec: Spec, seed: int) -> tuple[LayerFolder, list[bytes]]:
    """A folder of random values, and the bytes of its files."""
    folder, rng = LayerFolder(path), np.random.default_rng(seed)
    folder.write(spec, [rng.integers(-99, 99, e.shape, np.int32) for e in spec.layers])
    return folder, [folder.layer_path(i).read_bytes() for i in range(len(spec.layers))]


def spec_with(shapes: Sequence[tuple[int, ...]], leaf_values: int) -> Spec:
    encoding = {"fraction_bits": 24, "value_bytes": 4, "leaf_values": leaf_values}
    layers = [{"name": f"{i:03d}", "shape": list(shape)} for i, shape in enumerate(shapes)]
    return small_spec(encoding=encoding, layers=layers)


@pytest.mark.parametrize("leaf_values", [1, 3, 16, 256])
@pytest.mark.parametrize(
    ("count", "threads", "window"),
    [(1, 1, 64), (5, 2, 1 << 18), (8, 1, 4096), (9, 3, 4096), (20, 2, 1024)],
)
def test_examining_folders_gives_roots_and_digests(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    threads: int,
    window: int,
    leaf_values: int,
) -> None:
    monkeypatch.setattr(digests, "WINDOW_BYTES", window)
    sides = [1, 7, 16, 33, 70, 70, 64]
    spec = spec_with([(sides[i % 7], 33) for i in range(count)], leaf_values)
    made = [folder_of(tmp_path / name, spec, seed) for seed, name in enumerate(("one", "two"))]
    found = examine(spec, [folder.paths(spec) for folder, _ in made], threads)
    for (folder, contents), examined in zip(made, found, strict=True):
        assert examined.root == compute_root(contents, 4 * leaf_values)
        expected = [hashlib.sha256(content).digest() for content in contents]
        assert list(examined.digests) == expected
        assert file_digests(folder.paths(spec), threads) == expected


def test_a_file_too_short_is_told_by_name(tmp_path: Path) -> None:
    spec = spec_with([(7, 33)], 16)
    folder, contents = folder_of(tmp_path, spec, 0)
    folder.layer_path(0).write_bytes(contents[0][:-1])
    with pytest.raises(Misconfigured, match=r"00000.layer is shorter than the 960 bytes"):
        examine(spec, [folder.paths(spec)])


@pytest.mark.parametrize(
    "sizes", [[], [1], [63, 64, 65], [64, 128, 640, 64], [64] * 20, [70_000, 64]]
)
def test_files_of_any_size_are_hashed(tmp_path: Path, sizes: list[int]) -> None:
    contents = [np.random.default_rng(size).bytes(size) for size in sizes]
    paths = [tmp_path / f"{number}" for number in range(len(sizes))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert file_digests(paths) == [hashlib.sha256(content).digest() for content in contents]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(Misconfigured, match="empty is empty"):
        file_digests([tmp_path / "empty"])


def test_a_forgotten_window_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    with MappedFile(path, 99_999) as file:
        for start in range(0, 99_999, 7_777):
            assert bytes(file.data[start : start + 7]) == path.read_bytes()[start : start + 7]
            file.forget(start, min(start + 7_777, 99_999))
        assert bytes(file.data) == path.read_bytes()[:99_999]
