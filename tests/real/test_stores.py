"""Rounds of roles that find one another's stores from the chain, each with another kind of store.

Nobody's daemon knows another's: there is no routing, no bootstrap node, no peering by hand.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chain.federation import connect_federation
from contracts.enums import Status
from devnet import roles
from devnet.accounts import CHAIN_ID
from node.results import Outcome, round_results
from protocol.types import RoundId
from runtime.settings import write_toml
from tests.commonweight.program import COMMONWEIGHT
from tests.real.founding import AGGREGATOR, AUDITOR, PARTICIPANTS, ROLES, SPONSOR, read_log
from tests.real.kubo import Kubo
from tests.real.network import Network
from tests.real.s3 import BUCKET, S3, running_s3
from tests.storage.test_bucket import web_server

ROUNDS = 3


class Strangers(Network):
    """A federation whose roles have Kubos that know nobody, but for those in `without`."""

    without: tuple[str, ...] = ()

    def _start_kubos(self, stack: ExitStack) -> dict[str, Kubo]:
        names = [name for name in ROLES if name not in self.without]
        kubos = {name: Kubo(self.folder / "kubo" / name) for name in names}
        self.gateway = kubos[AGGREGATOR].open_gateway()
        for kubo in kubos.values():
            stack.enter_context(kubo)
        return kubos

    def _prepare(self, stack: ExitStack) -> None:
        sponsor = roles.connect_sponsor(self.geth.url, CHAIN_ID)
        client = connect_federation(self.founded.location, sponsor.wallet)
        client.announce(self.peer(SPONSOR))
        hub = {"public": self.gateway, "announce": [self.peer(AGGREGATOR)]}
        self.settle_store(AGGREGATOR, "aggregator", **hub)
        for name in PARTICIPANTS:
            if name not in self.without:
                # Behind a NAT: others know who it is, and it connects itself.
                only = f"/p2p/{self.kubos[name].peer.id}"
                self.settle_store(name, "participant", announce=[only])

    def peer(self, name: str) -> str:
        peer = self.kubos[name].peer
        return f"{peer.address}/p2p/{peer.id}"

    def settle_store(self, name: str, noun: str, **store: Any) -> None:
        """Add the section [store] to a role's settings."""
        file = self.folder / name / f"{noun}.toml"
        with file.open("ab") as settings:
            part = file.with_suffix(".store")
            write_toml(part, {"store": {"allow_private": True, **store}})
            settings.write(part.read_bytes())

    def play(self) -> None:
        """Start everybody and wait for the end."""
        self.start(AGGREGATOR, *PARTICIPANTS)
        last = RoundId(self.rounds)
        for round_id in range(1, self.rounds + 1):
            number = RoundId(round_id)
            self.until(lambda n=number: self.status(n).is_ended, f"round {number} does not end")  # type: ignore[misc]
        assert self.status(last) is Status.FINALIZED

    def unpaid(self) -> list[str]:
        """Return what every participant was not paid for."""
        client = self.founded.client()
        return [
            f"{name}, round {each.round}: {each.reason}"
            for name in PARTICIPANTS
            for each in round_results(client, self.founded.wallet(name).address)
            if each.outcome is not Outcome.PAID
        ]

    def audit(self, ipfs: str) -> Any:
        """Audit from nothing, as a command, with this store."""
        place = ["--federation", str(self.folder / AUDITOR / "federation.json")]
        store = ["--ipfs", ipfs, "--allow-private", "--no-cache", "--json"]
        done = subprocess.run(
            [str(COMMONWEIGHT), "audit", "run", *place, *store],
            capture_output=True,
            text=True,
            env={**os.environ, "COMMONWEIGHT_HOME": str(self.folder / "home")},
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return json.loads(done.stdout)


class EachItsOwn(Strangers):
    """ann has a bucket, bob a folder behind a web server, cem and the others Kubos."""

    without = ("ann", "bob")

    def _prepare(self, stack: ExitStack) -> None:
        self.s3: S3 = stack.enter_context(running_s3(self.folder))
        folder = self.folder / "www" / "a"
        folder.mkdir(parents=True)
        bob = stack.enter_context(web_server(folder.parent)).line
        public = self.s3.gateway("ann").line
        self.settle_store("ann", "participant", bucket=f"s3://{BUCKET}/ann", public=public)
        self.settle_store("bob", "participant", bucket=str(folder), public=bob)
        super()._prepare(stack)


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[Strangers]:
    with Strangers(tmp_path, rounds=ROUNDS, confirmations=0) as network:
        yield network


def test_daemons_that_know_nobody_find_each_other_from_the_chain(strangers: Strangers) -> None:
    strangers.play()
    assert strangers.unpaid() == []
    lines = read_log(strangers.log(AGGREGATOR))
    assert not [each for each in lines if each["phase"] == "rejected"]
    assert strangers.audit(strangers.kubos[AUDITOR].url)["failed"] == 0


class Troubled(Strangers):
    """Strangers whose hub keeps two connections at most."""

    def _start_kubos(self, stack: ExitStack) -> dict[str, Kubo]:
        kubos = super()._start_kubos(stack)
        hub = kubos[AGGREGATOR]
        hub.stop()
        hub.limit_connections(2)
        hub.start()
        return kubos

    def replace(self, name: str) -> None:
        """Put another daemon into the place of one: what that had is gone."""
        self.kubos[name].kill()
        new = self.kubos[name].successor(self.folder / "kubo" / f"{name}-2")
        self.kubos[name] = self._cleanup.enter_context(new)


def test_daemons_that_fail_while_roles_run_cost_nobody_anything(tmp_path: Path) -> None:
    """Restarted and replaced between commitment and reveal; nothing is done by hand."""
    with Troubled(tmp_path, rounds=4, confirmations=0) as network:
        network.start(AGGREGATOR, *PARTICIPANTS)
        network.await_phase("ann", "committed", round=1)
        network.kubos["ann"].stop()
        network.kubos["ann"].start()
        network.await_phase("bob", "committed", round=2)
        network.replace("bob")
        network.await_phase("cem", "committed", round=3)
        network.kubos[AGGREGATOR].stop()
        network.kubos[AGGREGATOR].start()
        last = RoundId(network.rounds)
        network.until(lambda: network.status(last).is_ended, "the last round does not end")
        assert network.unpaid() == []
        assert not [
            each
            for each in read_log(network.log(AGGREGATOR))
            if each["phase"] in ("rejected", "penalized")
        ]
        for kubo in network.kubos.values():
            kubo.collect_garbage()
        assert network.audit(network.kubos[AUDITOR].url)["failed"] == 0


def test_a_bucket_a_folder_and_an_auditor_with_nothing_but_http(tmp_path: Path) -> None:
    with EachItsOwn(tmp_path, rounds=ROUNDS, confirmations=0) as network:
        network.play()
        assert network.unpaid() == []
        for store in ("none", network.kubos[AUDITOR].url):
            found = network.audit(store)
            assert (found["failed"], len(found["rounds"])) == (0, ROUNDS)
        for kubo in network.kubos.values():
            kubo.collect_garbage()
        assert network.audit("none")["failed"] == 0
