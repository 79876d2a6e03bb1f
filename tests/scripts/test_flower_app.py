"""What Flower says of a clone."""

import subprocess
from pathlib import Path

import pytest

from runtime.flower import flower_environment, flower_program

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [("run", "."), ("run",), ("build",)], ids=" ".join)
def test_it_says_what_to_type(command: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [flower_program("flwr"), *command],
        cwd=ROOT,
        env={**flower_environment(tmp_path), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    said = [line.strip("│ ") for line in done.stderr.splitlines() if line.startswith("│")]
    assert said == ["to play a federation in Flower's simulation, type: make demo"]
    assert not list(ROOT.glob("*.fab"))
