"""An IPFS daemon of Kubo's that keeps to this machine: it knows the peers it is given, and no more.

Kubo's routing, bootstrap nodes, discovery, gateway, telemetry and automatic configuration are off.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devnet.built import find_built
from devnet.program import Program
from protocol.errors import Misconfigured
from storage.files import read_json, write_json

_INIT_S: Final = 60.0


@dataclass(frozen=True)
class Peer:
    """Another daemon: its peer ID, and the address of its swarm as a multiaddress."""

    id: str
    address: str


def kubo(folder: Path, port: int, *, swarm_port: int = 0, peers: Iterable[Peer] = ()) -> Program:
    """Prepare a repository in `folder` and return how to run a daemon with its RPC at `port`.

    It stays connected to `peers`, which should know it in turn: either side drops a connection that
    only the other one wants. Without a `swarm_port` nobody can connect to it. Raises Misconfigured
    without a usable Kubo.
    """
    program, repo = find_built("ipfs"), folder / "kubo"
    if not (repo / "config").exists():
        _init(program, repo)
    swarm = [_loopback(swarm_port)] if swarm_port else []
    about_peers = [{"ID": peer.id, "Addrs": [peer.address]} for peer in peers]
    _configure(
        repo,
        {
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
        },
    )
    command = (program, f"--repo-dir={repo}", "daemon")
    return Program(command, f"http://127.0.0.1:{port}", str(repo), folder / "kubo.log")


def peer_of(folder: Path, swarm_port: int) -> Peer:
    """Return how others reach the daemon of a folder that `kubo` prepared with this swarm port."""
    return Peer(read_json(folder / "kubo" / "config")["Identity"]["PeerID"], _loopback(swarm_port))


def _loopback(port: int) -> str:
    return f"/ip4/127.0.0.1/tcp/{port}"


def _init(program: str, repo: Path) -> None:
    repo.parent.mkdir(parents=True, exist_ok=True)
    command = (program, f"--repo-dir={repo}", "init", "--empty-repo", "--profile=test")
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_INIT_S)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise Misconfigured(f"{program} init: {said.strip().splitlines()[-1]}") from error


def _configure(repo: Path, changes: dict[str, dict[str, Any] | list[str]]) -> None:
    """Change sections of the repository's configuration; what they do not name stays."""
    config = read_json(repo / "config")
    for section, change in changes.items():
        if isinstance(change, dict):
            change = {**config.get(section, {}), **change}
        config[section] = change
    write_json(repo / "config", config, mode=0o600)
