"""The standalone script agrees with protocol/ and says plainly what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protocol.average import MAX_TOTAL_WEIGHT, move_model
from protocol.encoding import Kind, encode_values, layer_bytes, leaf_bytes
from protocol.tree import compute_root

SCRIPT = Path(__file__).parents[2] / "scripts" / "recompute.py"
SHAPES = [(16, 37), (256,), (5, 3), (64, 33)]
WEIGHTS = [3, 500, 77]
GRID = 13


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


def root_of(layers: list[bytes], kind: Kind) -> str:
    return "0x" + compute_root(layers, leaf_bytes(kind)).hex()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model before, three updates and the model after a round."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("round")
    before = [encode_values(rng.normal(0, 0.2, shape)) for shape in SHAPES]
    updates = [[rng.integers(-127, 128, shape, np.int8) for shape in SHAPES] for _ in WEIGHTS]
    columns = zip(before, zip(*updates, strict=True), strict=True)
    after = [move_model(old, column, WEIGHTS, GRID) for old, column in columns]
    write_layers(folder / "before", [layer_bytes(layer, "model") for layer in before])
    write_layers(folder / "after", [layer_bytes(layer, "model") for layer in after])
    for index, update in enumerate(updates):
        write_layers(folder / str(index), [layer_bytes(layer, "update") for layer in update])
    return folder


def read(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def average(folders: Path, weights: str, *arguments: object, grid: int = GRID) -> list[object]:
    before = ["average", "--before", folders / "before", "--grid", grid]
    return [*before, "--weights", weights, *(folders / str(i) for i in range(3)), *arguments]


@pytest.mark.parametrize(("kind", "name"), [("update", "0"), ("model", "before")])
def test_root(folders: Path, kind: Kind, name: str) -> None:
    done = run("root", kind, *sorted((folders / name).iterdir()))
    expected = root_of(read(folders / name), kind)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")


def test_average(folders: Path) -> None:
    root = root_of(read(folders / "after"), "model")
    done = run(*average(folders, "3,500,77", "--expect", root))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{root}\n", "")
    for other in (
        average(folders, "500,3,77", "--expect", root),
        average(folders, "3,500,77", "--expect", root, grid=14),
    ):
        wrong = run(*other)
        assert wrong.returncode == 1
        assert wrong.stdout != done.stdout
        assert f"the root is not {root[2:]}" in wrong.stderr


def test_average_at_the_ends_of_every_range(tmp_path: Path) -> None:
    ends = np.full(256, 2**31 - 1, np.int32)
    steps = np.full(256, 127, np.int8)
    write_layers(tmp_path / "model", [layer_bytes(ends, "model"), layer_bytes(-ends, "model")])
    for name in "ab":
        update = [layer_bytes(steps, "update"), layer_bytes(-steps, "update")]
        write_layers(tmp_path / name, update)
    done = run(
        *("average", "--before", tmp_path / "model", "--grid", 0),
        *("--weights", f"1,{MAX_TOTAL_WEIGHT - 1}", tmp_path / "a", tmp_path / "b"),
    )
    assert done.stdout == root_of(read(tmp_path / "model"), "model") + "\n"


def test_bad_input_is_one_line(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(bytes(1000))
    (tmp_path / "empty").write_bytes(b"")
    start = ["average", "--before", folders / "before", "--grid", "13", "--weights"]
    one, two = folders / "0", folders / "1"
    cases: list[tuple[list[object], str]] = [
        (["root", "model", tmp_path / "none"], "No such file"),
        (["root", "model", tmp_path / "odd"], "not a whole number of 1024-byte leaves"),
        (["root", "update", tmp_path / "odd"], "not a whole number of 256-byte leaves"),
        (["root", "update", tmp_path / "empty"], "no leaves"),
        ([*start, "1,2", one], "2 weights for 1 folders"),
        ([*start, "1,0", one, two], "at least 1"),
        ([*start, f"1,{MAX_TOTAL_WEIGHT}", one, two], "less than 2^24"),
        ([*start, "1", tmp_path / "odd"], "is not a folder"),
        ([*start, "1,1", one, tmp_path], f"{tmp_path} is no update of"),
        ([*start, "1,1", one, folders / "before"], "its layers have other sizes"),
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
