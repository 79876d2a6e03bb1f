"""Flower's deployment runtime, as docs/flower.md tells people to run it: real processes, TLS,
registered SuperNodes. The commands are the document's own."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chain.events import Finalized, Paid
from commonweight.cli import main
from node import supernode
from runtime.processes import free_port
from runtime.settings import write_location
from tests.commonweight.network import Network
from tests.commonweight.program import ROOT

pytestmark = pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("ssh-keygen")),
    reason="needs openssl and ssh-keygen",
)
NAMES = ("cardiology", "neurology")
# A process starts for every message, which a busy machine takes long over; all done ends a phase.
PATIENT = {"commit_seconds": 400, "reveal_seconds": 200, "propose_seconds": 200}
# Not what a reader has to care for: quicker looks, and cores that others use too.
QUICK = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1", "OMP_NUM_THREADS": "1"}


def blocks() -> Iterator[str]:
    """Yield the commands of the page, block by block."""
    text = (ROOT / "docs" / "flower.md").read_text()
    return iter(re.findall(r"```\n(.*?)```", text, re.DOTALL))


class Deployment:
    """The operator's folder and what runs; every process is ended with its descendants."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.folder = network.folder / "aggregator"
        self.port = free_port()
        settings, *commands = blocks()
        self.settings = settings
        self.certificates, self.superlink, self.key, self.register, self.supernode, self.play = (
            commands
        )
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, commands: str, folder: Path) -> str:
        """Run a block to its end and return what it printed."""
        done = subprocess.run(
            ["bash", "-ec", self._here(commands, folder)],
            cwd=folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start(self, commands: str, folder: Path, log: str) -> subprocess.Popen[bytes]:
        """Start a block that keeps running, with its output in a file."""
        with (folder / log).open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-ec", self._here(commands, folder)],
                cwd=folder,
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def stop(self) -> None:
        """End every process, the SuperLink last."""
        for process in reversed(self.running):
            end(process)

    def await_superlink(self) -> None:
        deadline = time.monotonic() + 300
        while not self._answers():
            assert self.running[0].poll() is None, (self.folder / "superlink.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        url = f"https://127.0.0.1:{self.port}/health"
        try:
            with urllib.request.urlopen(url, timeout=5, context=context):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _here(self, commands: str, folder: Path) -> str:
        """Return the commands with this machine's names in place of the document's."""
        for theirs, ours in (
            ("superlink.example.org", "localhost"),
            ("0.0.0.0", "127.0.0.1"),
            ("8000", str(self.port)),
        ):
            commands = commands.replace(theirs, ours)
        return (self.settings if folder == self.folder else "") + commands

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        known = {key: value for key, value in os.environ.items() if not key.startswith("FLWR_")}
        return {**known, **QUICK, "PATH": path}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its session; nothing of it may be left."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A SuperLink, and a folder for each participant with a key."""
    with Network(tmp_path_factory.mktemp("network"), rounds=1, **PATIENT) as network:
        deployment = Deployment(network)
        try:
            deployment.run(deployment.certificates, deployment.folder)
            deployment.start(deployment.superlink, deployment.folder, "superlink.log")
            for name in (*NAMES, "pharmacology"):
                deployment.run(deployment.key, network.folder / name)
                shutil.copy(deployment.folder / "ca.crt", network.folder / name)
            deployment.await_superlink()
            yield deployment
        finally:
            deployment.stop()


@pytest.mark.slow
def test_a_round_over_tls_with_registered_supernodes(deployment: Deployment) -> None:
    network = deployment.network
    nodes = {}
    for name in NAMES:
        # The operator got it by mail.
        shutil.copy(network.folder / name / "supernode.key.pub", deployment.folder)
        assert "registered" in deployment.run(deployment.register, deployment.folder)
        folder = network.folder / name
        nodes[name] = deployment.start(deployment.supernode, folder, "supernode.log")
    told = deployment.run(deployment.play, deployment.folder)
    assert "aggregator    finalized  round=1" in told
    assert "aggregator    finished" in told
    for name, process in nodes.items():
        log = (network.folder / name / "supernode.log").read_text()
        assert process.poll() is None, log
        for phase in ("joined", "committed", "revealed", "withdrew"):
            assert f"{name:<13} {phase}  " in log, log
        process.terminate()
        assert process.wait(timeout=20) == 0
    federation = network.client()
    address = {name: network.wallet(name).address for name in NAMES}
    events = federation.read_events()
    assert {e.participant for e in events if isinstance(e, Paid)} == set(address.values())
    assert [e.round for e in events if isinstance(e, Finalized)] == [1]
    assert all(federation.token.balance_of(each) > 0 for each in address.values())
    assert network.program.json("audit", "run", "--federation", str(network.place))["failed"] == 0


@pytest.mark.slow
def test_a_supernode_that_was_killed_comes_back(deployment: Deployment, stranger: Path) -> None:
    shutil.copy(stranger / "supernode.key.pub", deployment.folder)
    assert "registered" in deployment.run(deployment.register, deployment.folder)
    first = deployment.start(deployment.supernode, stranger, "first.log")
    await_line(first, stranger / "first.log", "Starting Flower SuperExec")
    os.killpg(first.pid, signal.SIGKILL)  # as when the host loses power
    subprocess.run(["pkill", "-9", "-f", str(stranger)], check=False)  # Flower's own groups
    again = deployment.start(deployment.supernode, stranger, "again.log")
    await_line(again, stranger / "again.log", "Starting Flower SuperExec")
    told = (stranger / "again.log").read_text()
    assert "one with this key that was killed counts for a minute" in told
    assert again.poll() is None


def await_line(process: subprocess.Popen[bytes], log: Path, words: str) -> None:
    deadline = time.monotonic() + 300
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


# ------------------------------------------------------------------ refusals


def refuse(deployment: Deployment, folder: Path, *options: str) -> str:
    """Start a SuperNode that must not come up; return the one line that says why."""
    command = ["participant", "supernode", "--config", str(folder / "participant.toml")]
    given = {
        "--superlink": f"localhost:{deployment.port}",
        "--root-certificates": str(folder / "ca.crt"),
        "--key": str(folder / "supernode.key"),
        **dict(zip(options[::2], options[1::2], strict=True)),
    }
    done = CliRunner().invoke(main, [*command, *(part for pair in given.items() for part in pair)])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert " ERROR " in last, done.stderr
    return last


@pytest.fixture
def stranger(deployment: Deployment, tmp_path: Path) -> Path:
    """The folder of a participant with a key that nobody registered, to spoil."""
    folder = tmp_path / "pharmacology"
    shutil.copytree(deployment.network.folder / "pharmacology", folder)
    return folder


def change(folder: Path, **values: Any) -> None:
    file = folder / "participant.toml"
    lines = [
        each for each in file.read_text().splitlines() if each.partition(" =")[0] not in values
    ]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    file.write_text("\n".join(lines) + "\n")


def test_a_supernode_that_nobody_registered(
    deployment: Deployment, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernode, "FORGOTTEN_S", 0.0)
    line = refuse(deployment, stranger)
    assert "does not let this SuperNode in: has its operator run `flwr supernode register`" in line
    assert "supernode.key.pub?" in line


def test_a_superlink_that_another_authority_vouches_for(
    deployment: Deployment, stranger: Path
) -> None:
    (stranger / "ca.crt").unlink()
    (stranger / "other").mkdir()
    deployment.run(deployment.certificates.split("\nopenssl")[0], stranger / "other")
    line = refuse(deployment, stranger, "--root-certificates", str(stranger / "other" / "ca.crt"))
    assert "is not vouched for by" in line
    assert "other/ca.crt" in line


@pytest.mark.parametrize(
    ("superlink", "words"),
    [("PORT", "was expected to be HOST:PORT"), ("CHAIN", "does not speak TLS")],
)
def test_what_is_no_superlink(
    deployment: Deployment, stranger: Path, superlink: str, words: str
) -> None:
    chain = deployment.network.net.rpc_url.removeprefix("http://")
    place = {"PORT": "localhost", "CHAIN": chain}[superlink]
    assert words in refuse(deployment, stranger, "--superlink", place)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"chain_id": 5}, "serves chain 31337, chain 5 was expected"),
        ({"address": "NOBODY"}, "there is no contract at"),
        ({"address": "TOKEN"}, "is not a federation of this version"),
    ],
)
def test_another_chain_or_contract(
    deployment: Deployment, stranger: Path, place: dict[str, Any], words: str
) -> None:
    network = deployment.network
    special = {"NOBODY": network.wallet("pharmacology").address}
    special["TOKEN"] = network.client().terms().money.token
    update = {key: special.get(value, value) for key, value in place.items()}
    write_location(stranger / "elsewhere.json", network.location.model_copy(update=update))
    change(stranger, federation="elsewhere.json")
    assert words in refuse(deployment, stranger)


@pytest.mark.parametrize("file", ["wallet.json", "supernode.key"])
def test_a_key_that_others_can_read(deployment: Deployment, stranger: Path, file: str) -> None:
    (stranger / file).chmod(0o644)
    line = refuse(deployment, stranger)
    assert f"{file} can be read by others" in line
    assert "run chmod 600" in line


def test_a_password_that_would_have_to_be_typed(deployment: Deployment, stranger: Path) -> None:
    change(stranger, password_file=None)
    assert "names no password_file" in refuse(deployment, stranger)


def test_no_key(deployment: Deployment, stranger: Path) -> None:
    (stranger / "supernode.key").unlink()
    assert "ssh-keygen -t ecdsa" in refuse(deployment, stranger)
