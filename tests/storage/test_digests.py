"""Hashing many files side by side gives what hashlib and the plain tree give."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from protocol import speed
from protocol.errors import Misconfigured
from protocol.tree import compute_root
from storage import digests
from storage.digests import digest_files, examine
from storage.layers import LayerFolder
from storage.mapped import MappedFile
from tests.world import SHAPES, small_spec

SIZES = [1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 1024, 1024, 4096, 5000, 70_000, 70_000]


@pytest.fixture(params=["plain", "compiled"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs both ways; the compiled one needs the extra `fast`."""
    compiled = speed.load() if request.param == "compiled" else None
    if request.param == "compiled" and compiled is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(speed, "kernels", lambda size: compiled)
    monkeypatch.setattr(speed, "break_even", lambda: 0.0)


def files(folder: Path, sizes: list[int]) -> list[Path]:
    paths = [folder / f"{number}" for number in range(len(sizes))]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        path.write_bytes(np.random.default_rng(number).bytes(size))
    return paths


@pytest.mark.parametrize("window", [64, 192, 1 << 18])
@pytest.mark.parametrize(("count", "threads"), [(1, 1), (3, 2), (16, 1), (41, 2), (41, 3)])
def test_every_file_has_hashlibs_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, count: int, threads: int
) -> None:
    monkeypatch.setattr(digests, "WINDOW_BYTES", window)
    sizes = [SIZES[number % len(SIZES)] for number in range(count)]
    paths = files(tmp_path, sizes)
    heard: list[bytes] = [b""] * count
    lock = threading.Lock()

    def hear(number: int, start: int, data: memoryview) -> None:
        with lock:
            assert start == len(heard[number])
            heard[number] += data

    found = digest_files(paths, sizes, threads, hear)
    contents = [path.read_bytes() for path in paths]
    assert found == [hashlib.sha256(content).digest() for content in contents]
    assert heard == contents


@pytest.mark.parametrize("leaf_values", [1, 3, 16, 256])
def test_examining_folders_gives_roots_and_digests(tmp_path: Path, leaf_values: int) -> None:
    encoding = {"fraction_bits": 24, "value_bytes": 4, "leaf_values": leaf_values}
    shapes = {**SHAPES, "c": (70, 33)}
    layers = [{"name": name, "shape": list(shape)} for name, shape in sorted(shapes.items())]
    spec = small_spec(encoding=encoding, layers=layers)
    folders = [LayerFolder(tmp_path / name) for name in ("one", "two")]
    for number, folder in enumerate(folders):
        rng = np.random.default_rng(number)
        folder.write(spec, [rng.integers(-99, 99, e.shape, np.int32) for e in spec.layers])
    for folder, found in zip(folders, examine(spec, folders, threads=2), strict=True):
        contents = [folder.layer_path(i).read_bytes() for i in range(len(spec.layers))]
        assert found.root == compute_root(contents, 4 * leaf_values)
        assert list(found.digests) == [hashlib.sha256(content).digest() for content in contents]


def test_a_file_too_short_is_told_by_name(tmp_path: Path) -> None:
    paths = files(tmp_path, [10, 10])
    with pytest.raises(Misconfigured, match=r"1 is shorter than the 11 bytes"):
        digest_files(paths, [10, 11])


def test_a_forgotten_window_can_be_read_again(tmp_path: Path) -> None:
    path = files(tmp_path, [100_000])[0]
    with MappedFile(path, 99_999) as file:
        for start in range(0, 99_999, 7_777):
            assert bytes(file.data[start : start + 7]) == path.read_bytes()[start : start + 7][:7]
            file.forget(start, min(start + 7_777, 99_999))
        assert bytes(file.data) == path.read_bytes()[:99_999]
