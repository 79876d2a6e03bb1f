"""The standalone script agrees with protocol/ and says plainly what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protocol.average import weighted_mean
from protocol.encoding import encode_values, layer_bytes
from protocol.tree import compute_root

SCRIPT = Path(__file__).parents[2] / "scripts" / "recompute.py"
SHAPES = [(16, 37), (256,), (5, 3), (64, 33)]
WEIGHTS = [3, 500, 77]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    # -I: neither this folder nor an installed Commonweight can be imported from.
    command = [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def write_layers(folder: Path, layers: list[bytes]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{index:04}" for index in range(len(layers))]
    for path, data in zip(paths, layers, strict=True):
        path.write_bytes(data)
    return paths


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], str, str]:
    """Folders of random adapters, the first one's root, and the root of the average."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("adapters")
    updates = [
        [encode_values(rng.normal(0, 0.2, shape).astype(np.float32)) for shape in SHAPES]
        for _ in WEIGHTS
    ]
    for index, update in enumerate(updates):
        write_layers(folder / str(index), [layer_bytes(layer) for layer in update])
    columns = zip(*updates, strict=True)
    mean = [layer_bytes(weighted_mean(column, WEIGHTS)) for column in columns]
    first = compute_root([layer_bytes(layer) for layer in updates[0]], 1024).hex()
    folders = [folder / str(index) for index in range(len(WEIGHTS))]
    return folders, f"0x{first}", f"0x{compute_root(mean, 1024).hex()}"


def test_root(adapters: tuple[list[Path], str, str]) -> None:
    folders, root, _ = adapters
    done = run("root", *sorted(folders[0].iterdir()))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{root}\n", "")


def test_average(adapters: tuple[list[Path], str, str]) -> None:
    folders, _, mean_root = adapters
    done = run("average", "--weights", "3,500,77", *folders, "--expect", mean_root)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{mean_root}\n", "")
    swapped = run("average", "--weights", "500,3,77", *folders, "--expect", mean_root)
    assert swapped.returncode == 1
    assert swapped.stdout != done.stdout
    assert f"the root is not {mean_root[2:]}" in swapped.stderr


def test_average_of_the_largest_values(tmp_path: Path) -> None:
    ends = np.full(256, 2**31 - 1, np.int32)
    for name in "ab":
        write_layers(tmp_path / name, [layer_bytes(ends), layer_bytes(-ends)])
    done = run("average", "--weights", f"1,{2**31 - 2}", tmp_path / "a", tmp_path / "b")
    assert done.stdout == run("root", *sorted((tmp_path / "a").iterdir())).stdout


def test_bad_input_is_one_line(adapters: tuple[list[Path], str, str], tmp_path: Path) -> None:
    folders, _, _ = adapters
    (tmp_path / "odd").write_bytes(bytes(1000))
    (tmp_path / "empty").write_bytes(b"")
    cases: list[tuple[list[object], str]] = [
        (["root", tmp_path / "none"], "No such file"),
        (["root", tmp_path / "odd"], "not a whole number of 1024-byte leaves"),
        (["root", tmp_path / "empty"], "no leaves"),
        (["average", "--weights", "1,2", folders[0]], "2 weights for 1 folders"),
        (["average", "--weights", "1,0", *folders[:2]], "at least 1"),
        (["average", "--weights", f"1,{2**31 - 1}", *folders[:2]], "less than 2^31"),
        (["average", "--weights", "1", tmp_path / "odd"], "is not a folder"),
        (["average", "--weights", "1,1", folders[0], tmp_path], "not the same layer sizes"),
    ]
    for arguments, line in cases:
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.startswith("recompute: ")
        assert done.stderr.count("\n") == 1
        assert line in done.stderr


def test_the_script_stays_short_and_alone() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 150
    imported = {
        line.split()[1] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)
