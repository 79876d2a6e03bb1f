"""A federation whose roles are real processes that follow the contract: the `ledger` engine.

with Network(folder) as network:
    network.start("aggregator")
    network.start("cardiology", "neurology")
    network.wait_for("aggregator", "round over", round=1)
"""

import json
import os
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from devnet import daemons, roles
from devnet.factory import factory_in
from ethereum.wallet import Wallet
from runtime.settings import write_location
from sponsor import found
from sponsor.config import Config
from tests.commonweight.program import COMMONWEIGHT, TINY, Program
from tests.terms import configured

SHORT = {"commit_seconds": 150, "reveal_seconds": 60, "propose_seconds": 60}


class Network:
    """A devnet, a deployed federation, and a folder with settings for each role."""

    def __init__(self, folder: Path, **federation: Any) -> None:
        self.folder = folder
        self.program = Program(folder)
        self.config = configured(Config.load(TINY), **{**SHORT, **federation})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.net = daemons.up(self.folder / "devnet", outlive=False)
        self.sponsor = roles.connect_sponsor(self.net.rpc_url, self.net.chain_id)
        self.place = self.folder / "federation.json"
        self.location = self._deploy()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self.processes):
            self.kill(name)
        daemons.down(self.folder / "devnet")

    # ---------------------------------------------------------------- processes

    def start(self, *names: str) -> None:
        """Start roles: "aggregator", or a participant by its name in configs/tiny.toml."""
        for name in names:
            noun = "aggregator" if name == "aggregator" else "participant"
            settings = self.folder / name / f"{noun}.toml"
            with self.log(name).open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [str(COMMONWEIGHT), noun, "run", "--config", settings, "--log-format", "json"],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
                )

    def kill(self, name: str) -> None:
        """SIGKILL a role."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def terminate(self, name: str, within: float = 10.0) -> int:
        """SIGTERM a role and return its exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of a role, which must all be JSON."""
        whole, _, _ = self.log(name).read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, name: str, phase: str, seconds: float = 600.0, **facts: Any) -> None:
        """Wait until a role logs `phase` with these facts."""
        wanted = {"phase": phase, **facts}
        deadline = time.monotonic() + seconds
        while not any(wanted.items() <= line.items() for line in self.lines(name)):
            running = self.processes.get(name)
            ended = running is not None and running.poll() is not None
            late = time.monotonic() > deadline
            if ended or late:
                tail = self.log(name).read_text()[-3000:]
                raise AssertionError(f"{name} never said {wanted}\n{tail}")
            time.sleep(0.1)

    # ------------------------------------------------------------------- setup

    def wallet(self, name: str) -> Wallet:
        return roles.dev_wallet(self.folder / name)

    def client(self, name: str | None = None) -> Federation:
        return connect_federation(self.location, self.wallet(name) if name else None)

    def _deploy(self) -> FederationLocation:
        from storage.ipfs import ContentStore

        store = ContentStore(self.net.ipfs_url)
        plan = found.plan(self.config, 3, self.folder / "cache", self.folder / "model")
        aggregator = self.wallet("aggregator")
        factory = factory_in(self.folder, self.sponsor)
        means = found.Means(self.sponsor, store, self.net.rpc_url, factory)
        location = found.deploy(plan, means, [aggregator.address])
        write_location(self.place, location)
        self._settings("aggregator", "aggregator", min_participants=2)
        terms = connect_federation(location).terms()
        sponsor = Federation(
            self.sponsor.w3,
            location.address,
            self.sponsor,
            deployment_block=location.deployment_block,
        )
        roles.give(self.sponsor, sponsor, aggregator.address, terms.money.aggregator_bond)
        for name, data in self.config.data.participants.items():
            wallet = self.wallet(name)
            roles.give(self.sponsor, sponsor, wallet.address, terms.money.participant_stake)
            shutil.copy(data, self.folder / name / "data.jsonl")
            self._settings(
                name,
                "participant",
                name=name,
                data="data.jsonl",
                model=self.config.model.source,
                cache=str(self.folder / "cache"),
            )
        return location

    def _settings(self, role: str, noun: str, **own: str | int) -> None:
        settings = {
            "federation": str(self.place),
            "keystore": "wallet.json",
            "password_file": "wallet.password",
            "poll_seconds": 0.3,
            "tensorboard": "figures",
            **own,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        text = "\n".join(lines) + "\n"
        assert tomllib.loads(text) == settings
        (self.folder / role / f"{noun}.toml").write_text(text)
