"""docs/tutorial.md, typed as it stands, in one shell; only the model is the toy that it names."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.commonweight.program import ROOT

pytestmark = pytest.mark.long

SET_UP = 'make setup\nexport PATH="$PWD/.venv/bin:$PATH"\n'
DEMO = "commonweight demo\n"
EXPLORE = "commonweight explore\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return {
        **os.environ,
        "COMMONWEIGHT_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def test_its_commands_work(tmp_path: Path, environment: dict[str, str]) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    assert blocks[:2] == [SET_UP, DEMO]  # the first of them is what `make test` began with
    rest = blocks[2:]
    at = rest.index(EXPLORE)
    toy = DEMO.replace("\n", " --config configs/tiny.toml\n")
    try:
        shown = type_in("".join([toy, *rest[:at]]), tmp_path, environment)
        assert "every check passed" in shown
        look_at_the_pages(tmp_path, environment)
        shown = type_in("".join(rest[at + 1 :]), tmp_path, environment)
    finally:
        type_in("commonweight devnet down", tmp_path, environment)
    assert " 0 failed" in shown
    assert "fine-tuned" in shown
    assert (tmp_path / "audit.html").exists()
    assert re.search(r"^4$", shown, re.MULTILINE)  # the rank that plain peft read
    assert "stopped" in shown


def type_in(commands: str, folder: Path, environment: dict[str, str]) -> str:
    """Type `commands` into one shell; return what it shows, and fail where one of them does."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def look_at_the_pages(folder: Path, environment: dict[str, str]) -> None:
    """Start the explorer, open what it prints, and stop it as Ctrl-C does."""
    with (folder / "explore.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {EXPLORE}"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://\S+", (folder / "explore.log").read_text())):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with urllib.request.urlopen(found[0], timeout=60) as answer:
            assert b"<title>" in answer.read()
    finally:
        process.terminate()
        process.wait(timeout=30)
