"""A Kubo daemon that keeps to this machine and knows only the peers that it is given.

Kubo's routing, bootstrap nodes, discovery, gateway, telemetry and automatic configuration are off:
kubo.settings, a key and its JSON value per line, says so to these and to the containers' daemons.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devnet.built import find_built, run_built
from devnet.program import Program
from storage.files import read_json, write_json

SETTINGS: Final = Path(__file__).with_name("kubo.settings")


@dataclass(frozen=True)
class Peer:
    """Another daemon: its peer ID, and its swarm's address as a multiaddress."""

    id: str
    address: str


def kubo(folder: Path, port: int, *, swarm_port: int = 0, peers: Iterable[Peer] = ()) -> Program:
    """Prepare a repository in `folder` and return a daemon that serves its RPC at `port`.

    It stays connected to `peers`, which should know it in turn: either side drops a connection that
    only the other one wants. Without a `swarm_port` nobody can connect to it. Raises Misconfigured
    without a usable Kubo.
    """
    program, repo = find_built("ipfs"), folder / "kubo"
    # 1. The repository, with Kubo's own profile for daemons that keep to themselves.
    if not (repo / "config").exists():
        repo.parent.mkdir(parents=True, exist_ok=True)
        run_built(program, f"--repo-dir={repo}", "init", "--empty-repo", "--profile=test")
    # 2. Its configuration; what is not named stays as it is. Written anew each time, since ports
    # and peers may have changed.
    config = read_json(repo / "config")
    for key, value in keeping_to_itself().items():
        _change(config, key, value)
    swarm = [_loopback(swarm_port)] if swarm_port else []
    config["Addresses"] |= {"API": _loopback(port), "Swarm": swarm}
    config["Peering"] = {"Peers": [{"ID": peer.id, "Addrs": [peer.address]} for peer in peers]}
    write_json(repo / "config", config, mode=0o600)  # it holds the peer's private key
    command = (program, f"--repo-dir={repo}", "daemon")
    return Program(command, f"http://127.0.0.1:{port}", str(repo), folder / "kubo.log")


def keeping_to_itself() -> dict[str, Any]:
    """Return the settings of a daemon that knows nobody, by their keys in Kubo's configuration."""
    lines = SETTINGS.read_text().splitlines()
    return {key: json.loads(value) for key, _, value in (line.partition(" ") for line in lines)}


def peer_of(folder: Path, swarm_port: int) -> Peer:
    """Return the peer that `kubo` prepared in `folder` with this swarm port."""
    return Peer(read_json(folder / "kubo" / "config")["Identity"]["PeerID"], _loopback(swarm_port))


def _change(config: dict[str, Any], key: str, value: Any) -> None:
    """Set what `ipfs config` calls by a dotted key."""
    *sections, name = key.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    config[name] = value


def _loopback(port: int) -> str:
    return f"/ip4/127.0.0.1/tcp/{port}"
