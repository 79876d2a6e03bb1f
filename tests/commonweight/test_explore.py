"""`commonweight explore`: what it begins with, and what a mistake is answered with."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chain.location import FederationLocation
from commonweight.cli import main
from commonweight.cli.explore import RunLosses
from protocol.types import RoundId
from runtime.events import Evaluated, Opened
from runtime.progress import reporter
from tests.world import World

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("explore"), names=("ann",)) as world:
        location = FederationLocation(
            chain_id=world.w3.eth.chain_id,
            address=world.address,
            deployment_block=world.deployment_block,
            rpc_url=world.rpc_url,
            ipfs_url=world.daemon.url,
        )
        (world.folder / "federation.json").write_text(location.model_dump_json())
        yield world


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "COMMONWEIGHT_HOME": str(home), "PYTHONPATH": str(ROOT)}


@contextmanager
def exploring(at: Path, *arguments: str, ending: signal.Signals = signal.SIGTERM) -> Iterator[str]:
    """Run the command in the folder `at`, and yield the address that it prints."""
    command = [sys.executable, "-P", "-m", "commonweight", "explore", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, cwd=at, env=environment(at / "home"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
        process.send_signal(ending)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def ask(url: str) -> tuple[str, str]:
    """Return where a page is in the end, and what it says."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.url, answer.read().decode()


def test_it_shows_the_federation_of_the_folder(world: World) -> None:
    with exploring(world.folder) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        at, page = ask(url)
        assert at == f"{url}federations/{world.address}"
        assert world.address in page
        rows = json.loads(ask(f"{url}federations.json")[1])["federations"]
        assert world.address in [row["federation"] for row in rows]


def test_it_shows_a_factorys_federations(world: World, tmp_path: Path) -> None:
    factory = world.client().founding().factory
    endpoints = ["--rpc", world.rpc_url, "--ipfs", world.daemon.url, "--no-audit"]
    options = ["--factory", factory.lower(), *endpoints]
    with exploring(tmp_path, *options, ending=signal.SIGINT) as url:
        at, page = ask(url)
        assert at == f"{url}federations"
        assert world.address in page
        assert "--no-audit" in ask(f"{url}federations/{world.address}/audit")[1]


def test_losses_of_a_run_are_read_on(tmp_path: Path) -> None:
    losses = RunLosses(tmp_path)
    assert losses() == {}
    report = reporter(tmp_path / "progress" / "1.jsonl", "aggregator")
    (tmp_path / "progress").mkdir()
    report(Evaluated(round=RoundId(0), loss=3.1, tokens=9))
    assert losses() == {0: 3.1}
    report(Opened(round=RoundId(1), gas=7))
    report(Evaluated(round=RoundId(1), loss=2.4, tokens=9))
    again = reporter(tmp_path / "progress" / "2.jsonl", "aggregator")  # after an interruption
    again(Evaluated(round=RoundId(2), loss=2.2, tokens=9))
    assert losses() == losses() == {0: 3.1, 1: 2.4, 2: 2.2}


# ------------------------------------------------------------------------------- mistakes


def explore(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explore", *arguments])


def one_line(result: Result) -> str:
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert result.stdout == ""
    return line


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMMONWEIGHT_HOME", str(tmp_path / "home"))


def test_mistakes_are_one_line(world: World, tmp_path: Path) -> None:
    here = ["--federation", str(world.folder)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = one_line(explore(*here, "--port", port))
    expected = f"cannot listen at 127.0.0.1:{port}: address already in use; give another --port"
    assert line == f"error: {expected}"
    gone = one_line(explore("--federation", str(tmp_path / "nowhere.json")))
    assert gone.endswith("nowhere.json: No such file or directory")
    assert "cannot be reached" in one_line(explore("--rpc", "http://127.0.0.1:9"))
    none = one_line(explore("--rpc", world.rpc_url))
    assert none == (
        "error: no federation, and no factory is known on chain 31337: give --federation FILE or"
        " --factory ADDRESS"
    )
    wrong = one_line(explore("--rpc", world.rpc_url, "--factory", "0x12"))
    assert "expected 0x and 40 hex digits" in wrong
    token = str(world.token.address)
    assert "is not a factory of this version" in one_line(
        explore("--rpc", world.rpc_url, "--factory", token, "--port", "0")
    )
    assert "--host no-such-host.invalid" in one_line(
        explore(*here, "--host", "no-such-host.invalid")
    )


def test_a_wrong_port_is_the_command_lines_mistake() -> None:
    assert explore("--port", "70000").exit_code == 2
    assert explore("--port", "http").exit_code == 2
    assert explore("--fedration", "x").exit_code == 2
