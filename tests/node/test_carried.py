"""What a participant carries from one update to the next, on disk."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from node.carried import CarriedFiles
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId
from tests.node.conftest import GRID, small_spec

HALF = 2.0 ** -(GRID + 1)


@pytest.fixture
def spec() -> Spec:
    return small_spec()


def values(spec: Spec, seed: int) -> list[NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    return [random.uniform(-HALF, HALF, layer.shape) for layer in spec.layers]


def test_what_is_written_is_read(spec: Spec, tmp_path: Path) -> None:
    files, expected = CarriedFiles(tmp_path / "carried", spec), values(spec, 1)
    files.write(RoundId(3), expected)
    found = CarriedFiles(tmp_path / "carried", spec).read(RoundId(3))
    assert found is not None
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float64
        assert one.shape == other.shape
        assert (one == other).all()
    (file,) = (tmp_path / "carried").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == b"".join(layer.astype("<f8").tobytes() for layer in expected)


def test_nothing_carried_is_no_loss(spec: Spec, tmp_path: Path) -> None:
    files = CarriedFiles(tmp_path, spec)
    files.write(RoundId(1), None)
    assert files.read(RoundId(1)) is None


@pytest.mark.parametrize("damage", ["gone", "cut", "not a number", "too large"])
def test_a_damaged_file_is_refused_in_one_line(spec: Spec, tmp_path: Path, damage: str) -> None:
    files, layers = CarriedFiles(tmp_path, spec), values(spec, 1)
    if damage in ("not a number", "too large"):
        layers[1][0, 0] = np.nan if damage == "not a number" else 1.01 * HALF
    files.write(RoundId(1), layers)
    (file,) = tmp_path.iterdir()
    if damage == "gone":
        file.unlink()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(Misconfigured) as caught:
        files.read(RoundId(1))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_needed_files_stay(spec: Spec, tmp_path: Path) -> None:
    files = CarriedFiles(tmp_path, spec)
    files.prune(RoundId(1), None)  # before there is a folder to prune
    for number in (1, 2, 3, 12):
        files.write(RoundId(number), None)
    files.prune(RoundId(12), RoundId(2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["round-0002.f64", "round-0012.f64"]
    files.prune(RoundId(12), None)
    assert [file.name for file in tmp_path.iterdir()] == ["round-0012.f64"]
