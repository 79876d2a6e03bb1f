"""The devnet in the foreground, and the network of containers that is prepared on it."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from aggregator.settings import AggregatorSettings
from chain.federation import connect_federation
from chain.location import FederationLocation
from commonweight.cli.devnet import devnet_prepare
from devnet.ipfs.daemon import DevIpfsDaemon
from devnet.network import prepare
from ethereum.wallet import load_keystore
from node.settings import ParticipantSettings
from protocol.errors import Misconfigured
from runtime import healthcheck
from runtime.processes import free_port
from sponsor.config import Config
from storage.ipfs import ContentStore
from tests.commonweight.program import ROOT, TINY
from tests.ethereum.anvil import running_anvil

COMPOSE = ROOT / "configs" / "compose.toml"
COMMAND = (sys.executable, "-P", "-m", "commonweight", "devnet", "serve")


@contextmanager
def serving(daemon: str, folder: Path, port: int) -> Iterator[str]:
    """Yield the URL of a daemon in the foreground; it must end well when it is asked to."""
    command = [*COMMAND, daemon, "--folder", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


def roles(folder: Path) -> dict[str, str]:
    """Return every small file below `folder` by its path."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.*")}


def test_a_prepared_network_is_private_and_prepared_once(tmp_path: Path) -> None:
    config, folder = Config.load(COMPOSE), tmp_path / "network"
    ports = free_port(), free_port()
    heard: list[str] = []
    with serving("chain", tmp_path, ports[0]) as rpc, serving("ipfs", tmp_path, ports[1]) as ipfs:
        file = prepare(config, folder, rpc, ipfs, heard.append)
        location = FederationLocation.load(file)
        federation = connect_federation(location)
        assert federation.active_count() == 3
        assert federation.escrow() == 100 * federation.terms().round_cost
        blocks = Web3(Web3.HTTPProvider(rpc)).eth.block_number
    assert any(location.address in line for line in heard)
    secret = [*folder.glob("*/wallet.*"), *folder.glob("*/data.jsonl")]
    assert len(secret) == 2 * 5 + 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in secret)

    before = roles(folder)
    # The chain and its clock go on where they were, in other processes.
    with serving("chain", tmp_path, ports[0]) as rpc, serving("ipfs", tmp_path, ports[1]) as ipfs:
        prepare(config, folder, rpc, ipfs, heard.append)
        assert Web3(Web3.HTTPProvider(rpc)).eth.block_number == blocks
        # Who has left since is not brought back.
        home = folder / "cardiology"
        wallet = load_keystore(home / "wallet.json", (home / "wallet.password").read_text().strip())
        connect_federation(location, wallet).leave()
        prepare(config, folder, rpc, ipfs, heard.append)
        assert connect_federation(location).active_count() == 2
    assert roles(folder) == before

    with running_anvil() as rpc, DevIpfsDaemon(tmp_path / "blocks") as daemon:
        ipfs = daemon.url
        location = location.model_copy(update={"rpc_url": rpc, "ipfs_url": ipfs})
        file.write_text(location.model_dump_json())
        with pytest.raises(Misconfigured, match="remove its volumes"):
            prepare(config, folder, rpc, ipfs, heard.append)


@pytest.fixture
def container_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve a container's name, ipfs-ann and such, to this machine."""
    resolve = socket.getaddrinfo

    def here(host: str, *rest: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if str(host).startswith("ipfs-") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


def test_a_role_with_a_daemon_of_its_own_says_on_chain_where_that_is(
    tmp_path: Path, container_names: None
) -> None:
    config, folder = Config.load(TINY), tmp_path / "network"
    with running_anvil() as rpc, DevIpfsDaemon(tmp_path / "blocks") as daemon:
        own = daemon.url.replace("127.0.0.1", "ipfs-{name}")
        shared = daemon.url
        file = prepare(config, folder, rpc, shared, lambda line: None, own)
        peer = ContentStore(daemon.url).id()
        federation = connect_federation(FederationLocation.load(file))
        sponsors = federation.history().announced[federation.sponsor()]
        assert sponsors.whereabouts.endswith(f"/p2p/{peer}")
    settings: dict[str, Any] = {
        name: ParticipantSettings.load(folder / name / "participant.toml")
        for name in config.data.participants
    }
    settings["aggregator"] = AggregatorSettings.load(folder / "aggregator" / "aggregator.toml")
    for name, each in settings.items():
        store = each.store
        assert store.ipfs == own.format(name=name)
        assert store.whereabouts == f"/dns4/ipfs-{name}/tcp/4001/p2p/{peer}"
        assert store.allow_private
        assert store.is_own(shared)


def test_one_daemon_is_nobodys_own(tmp_path: Path) -> None:
    own = "http://ipfs:5001"
    with (
        running_anvil() as rpc,
        DevIpfsDaemon(tmp_path / "blocks") as daemon,
        pytest.raises(Misconfigured, match="each role's own"),
    ):
        prepare(Config.load(TINY), tmp_path, rpc, daemon.url, lambda line: None, own)


def test_a_participant_is_not_named_like_a_role(tmp_path: Path) -> None:
    config = Config.load(TINY)
    names = {"auditor": next(iter(config.data.participants.values()))}
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"participants": names})}
    )
    with pytest.raises(Misconfigured, match="auditor is the name of another role"):
        prepare(config, tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1", print)


def test_the_configuration_of_the_network_is_the_one_prepared_by_default() -> None:
    (option,) = [p for p in devnet_prepare.params if p.name == "config"]
    assert Path(str(option.default)).samefile(COMPOSE)


@pytest.mark.parametrize("kind", ["chain", "ipfs"])
def test_a_health_check_knows_the_living_from_the_dead(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path, 0) as url:
        assert healthcheck.main([kind, url]) == 0
        other = {"chain": "ipfs", "ipfs": "chain"}[kind]
        assert healthcheck.main([other, url]) == 1
        assert healthcheck.main(["metrics", url]) == 1
    assert healthcheck.main([kind, url]) == 1


def test_a_health_check_that_cannot_be_understood_is_not_healthy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert healthcheck.main(["chain"]) == 2
    assert healthcheck.main(["moon", "http://127.0.0.1:1"]) == 2
    assert "usage: " in capsys.readouterr().err
