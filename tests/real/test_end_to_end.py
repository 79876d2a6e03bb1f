"""From the sponsor's command to the audit: a tiny model on geth, with a Kubo for each role."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from devnet import roles
from devnet.accounts import CHAIN_ID
from ethereum.wallet import Wallet
from node.results import Outcome, round_results
from protocol.types import TokenUnits
from runtime.processes import spawn
from sponsor.config import Config
from tests.commonweight.program import COMMONWEIGHT, TINY
from tests.passwords import write_password
from tests.real.founding import AGGREGATOR, AUDITOR, SPONSOR, read_log
from tests.real.geth import Geth
from tests.real.kubo import Kubo, running_mesh

PARTICIPANTS = ("cardiology", "neurology", "pharmacology")
MEMBERS = (AGGREGATOR, *PARTICIPANTS, AUDITOR)
MONEY = TokenUnits(3_000 * 10**18)
ROUNDS = Config.load(TINY).seats.rounds
END_S = 900.0  # a busy machine takes its time to load what models need


class Walk:
    """The commands that sponsor, roles and auditor type, each in a folder of its own."""

    def __init__(self, folder: Path, rpc_url: str, kubos: dict[str, Kubo]) -> None:
        self.folder = folder
        self.rpc_url = rpc_url
        self.kubos = kubos
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.place = folder / "federation.json"
        self.environment = {"COMMONWEIGHT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: object, code: int = 0) -> str:
        """Run a command to its end and return stdout."""
        done = subprocess.run(
            [str(COMMONWEIGHT), *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            check=False,
            timeout=END_S,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr[-3000:]}"
        return done.stdout

    def start(self, name: str, *arguments: object) -> None:
        """Start a command that keeps running."""
        command = [str(COMMONWEIGHT), *map(str, arguments)]
        log = self.folder / f"{name}.log"
        self.processes[name] = spawn(command, log, environment=self.environment)

    def endpoints(self, name: str) -> list[str]:
        return ["--rpc", self.rpc_url, "--ipfs", self.kubos[name].url]

    def wallet_options(self, name: str) -> list[object]:
        folder = self.folder / name
        return ["--keystore", folder / "wallet.json", "--password-file", folder / "wallet.password"]

    def wallet(self, name: str) -> Wallet:
        """Return a role's wallet, made when there is none."""
        return roles.dev_wallet(self.folder / name)

    def client(self) -> Federation:
        return connect_federation(FederationLocation.load(self.place))

    # -------------------------------------------------------------------- steps

    def create(self) -> None:
        """Create the federation, and give everybody play money."""
        sponsor = roles.connect_sponsor(self.rpc_url, CHAIN_ID)
        folder = self.folder / SPONSOR
        folder.mkdir()
        write_password(folder / "wallet.password", "secret\n")
        sponsor.wallet.save_keystore(folder / "wallet.json", "secret", work_factor=4096)
        aggregator = ["--aggregator", self.wallet(AGGREGATOR).address]
        config = ["--config", TINY, "--output", self.place]
        own = [*self.endpoints(SPONSOR), *self.wallet_options(SPONSOR)]
        self.run("federation", "create", "--dev", *config, *aggregator, *own)
        client = connect_federation(FederationLocation.load(self.place), sponsor.wallet)
        for name in MEMBERS:
            roles.give(sponsor, client, self.wallet(name).address, MONEY)

    def take_part(self) -> None:
        """Set everybody up with `init` and start them."""
        for name, data in Config.load(TINY).data.participants.items():
            if name in PARTICIPANTS:
                trains = ["--data", data, "--model", "tiny-llama", "--name", name]
                self.join("participant", name, *trains)
        self.join("aggregator", AGGREGATOR)
        watching = ["audit", "watch", "--federation", self.place, *self.endpoints(AUDITOR)]
        self.start(AUDITOR, *watching, *self.wallet_options(AUDITOR))

    def join(self, noun: str, name: str, *own: object) -> None:
        address = ["--address", FederationLocation.load(self.place).address, "--yes"]
        common = [*address, *self.endpoints(name), *self.wallet_options(name)]
        self.run(noun, "init", "--folder", self.folder / name, *common, *own)
        settings = self.folder / name / f"{noun}.toml"
        if noun == "aggregator":
            with settings.open("a") as file:
                file.write(f"min_participants = {len(PARTICIPANTS)}\n")
        self.start(name, noun, "run", "--config", settings, "--log-format", "json")

    def await_end(self) -> None:
        """Return once all who are paid have ended by themselves."""
        deadline = time.monotonic() + END_S
        for name in (AGGREGATOR, *PARTICIPANTS):
            left = max(deadline - time.monotonic(), 0.1)
            assert self.processes[name].wait(left) == 0, self.log(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """A federation of all its rounds, played to the end."""
    folder = tmp_path_factory.mktemp("walk")
    with ExitStack() as stack:
        geth = stack.enter_context(Geth(folder / "geth"))
        kubos = stack.enter_context(running_mesh(folder / "kubo", (SPONSOR, *MEMBERS)))
        walk = Walk(folder, geth.url, kubos)
        stack.callback(walk.end)
        walk.create()
        walk.take_part()
        walk.await_end()
        yield walk


def test_everybody_is_paid_for_every_round(walk: Walk) -> None:
    client = walk.client()
    for name in PARTICIPANTS:
        results = [*round_results(client, walk.wallet(name).address)]
        reasons = [f"{name}, round {each.round}: {each.reason}" for each in results]
        assert [each.outcome for each in results] == [Outcome.PAID] * ROUNDS, reasons
        paid = sum(each.paid for each in results)
        stake = client.get_participant(walk.wallet(name).address).stake
        assert client.token.balance_of(walk.wallet(name).address) == MONEY - stake + paid


def test_each_update_is_trained_committed_and_screened_once(walk: Walk) -> None:
    for name in PARTICIPANTS:
        phases = [line["phase"] for line in read_log(walk.folder / f"{name}.log")]
        for phase in ("trained", "committed", "revealed"):
            assert phases.count(phase) == ROUNDS, f"{name}: {phases}"
    lines = read_log(walk.folder / f"{AGGREGATOR}.log")
    assert [each["updates"] for each in lines if each["phase"] == "screening"] == [3] * ROUNDS
    assert not [each for each in lines if each["phase"] in ("waiting", "rejected")]


def test_an_audit_from_nothing_passes(walk: Walk) -> None:
    place = ["--federation", walk.place, *walk.endpoints(AUDITOR)]
    audit = json.loads(walk.run("audit", "run", *place, "--no-cache", "--json"))
    assert audit["failed"] == 0
    assert len(audit["rounds"]) == ROUNDS


def test_the_watcher_found_nothing_wrong(walk: Walk) -> None:
    assert walk.processes[AUDITOR].wait(60) == 0  # it ended with the federation
    said: Any = walk.log(AUDITOR)
    assert "FAIL" not in said
    assert "challenge" not in said
