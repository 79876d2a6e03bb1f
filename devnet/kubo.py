"""A Kubo daemon that keeps to this machine and knows only the peers that it is given.

Kubo's routing, bootstrap nodes, discovery, gateway, telemetry and automatic configuration are off.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devnet.built import find_built, run_built
from devnet.program import Program
from storage.files import read_json, write_json


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
    # 2. Sections of its configuration; what they do not name stays as it is. Written anew each
    # time, since ports and peers may have changed.
    swarm = [_loopback(swarm_port)] if swarm_port else []
    about_peers = [{"ID": peer.id, "Addrs": [peer.address]} for peer in peers]
    changes: dict[str, dict[str, Any] | list[str]] = {
        "Addresses": {"API": _loopback(port), "Gateway": [], "Swarm": swarm},
        "AutoConf": {"Enabled": False},
        "AutoTLS": {"Enabled": False},
        "Bootstrap": [],
        "DNS": {"Resolvers": {}},
        "Discovery": {"MDNS": {"Enabled": False}},
        "Ipns": {"DelegatedPublishers": []},
        "Peering": {"Peers": about_peers},
        "Plugins": {"Plugins": {"telemetry": {"Disabled": True}}},
        "Routing": {"Type": "none", "DelegatedRouters": []},
        "Swarm": {"DisableNatPortMap": True},
        "Version": {"SwarmCheckEnabled": False},
    }
    config = read_json(repo / "config")
    for section, change in changes.items():
        if isinstance(change, dict):
            change = {**config.get(section, {}), **change}
        config[section] = change
    write_json(repo / "config", config, mode=0o600)  # it holds the peer's private key
    command = (program, f"--repo-dir={repo}", "daemon")
    return Program(command, f"http://127.0.0.1:{port}", str(repo), folder / "kubo.log")


def peer_of(folder: Path, swarm_port: int) -> Peer:
    """Return the peer that `kubo` prepared in `folder` with this swarm port."""
    return Peer(read_json(folder / "kubo" / "config")["Identity"]["PeerID"], _loopback(swarm_port))


def _loopback(port: int) -> str:
    return f"/ip4/127.0.0.1/tcp/{port}"
