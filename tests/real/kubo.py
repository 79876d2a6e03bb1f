"""Daemons of Kubo's own that know one another by their configuration.

with running_kubo(folder) as kubo:              # one without peers
with running_mesh(folder, ("ann", "bob")) as kubos:     # each is the peer of each
    kubos["ann"].url
"""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

from devnet.kubo import kubo, peer_of
from runtime.healthcheck import is_ipfs
from runtime.processes import free_port
from tests.real.daemon import Daemon

_PEERING_S: Final = 60.0
_ANSWER_S: Final = 30.0


class Kubo(Daemon):
    """A daemon with a repository in `folder`."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self._port, self._swarm_port = port or free_port(), free_port()
        super().__init__(kubo(folder, self._port, swarm_port=self._swarm_port), is_ipfs)
        self.peer = peer_of(folder, self._swarm_port)

    def peer_with(self, others: "Iterable[Kubo]") -> None:
        """Write who it stays connected to; it must not run. Do the same on the other side."""
        peers = [other.peer for other in others]
        kubo(self.folder, self._port, swarm_port=self._swarm_port, peers=peers)

    def successor(self, folder: Path) -> "Kubo":
        """Return another daemon at the same RPC, with another peer ID, address and repository."""
        return Kubo(folder, self._port)

    def open_gateway(self, *, fetches: bool = False) -> str:
        """Serve what it has at a gateway as docs/stores.md sets it up; it must not run.

        Returns the gateway's URL. With `fetches` it is as Kubo has it by default.
        """
        port = free_port()
        with self._configuring() as config:
            config["Addresses"]["Gateway"] = f"/ip4/127.0.0.1/tcp/{port}"
            config["Gateway"] |= {"NoFetch": not fetches, "DeserializedResponses": fetches}
        return f"http://127.0.0.1:{port}"

    def limit_connections(self, most: int) -> None:
        """Let it drop what goes beyond `most`, within seconds; it must not run."""
        with self._configuring() as config:
            limits = {"Type": "basic", "LowWater": 1, "HighWater": most, "GracePeriod": "1s"}
            config["Swarm"]["ConnMgr"] = limits

    @contextmanager
    def _configuring(self) -> Iterator[Any]:
        file = self.folder / "kubo" / "config"
        config = json.loads(file.read_text())
        yield config
        file.write_text(json.dumps(config))

    def peers(self) -> set[str]:
        """Return the IDs of whom it is connected to now."""
        return {each["Peer"] for each in self.ask("swarm/peers")["Peers"] or ()}

    def await_peers(self, others: "Iterable[Kubo]") -> None:
        """Return once it is connected to all of `others`."""
        wanted, deadline = {other.peer.id for other in others}, time.monotonic() + _PEERING_S
        while missing := wanted - self.peers():
            assert time.monotonic() < deadline, f"{self.folder.name} never connected to {missing}"
            time.sleep(0.1)

    def collect_garbage(self) -> None:
        """`ipfs repo gc`: drop every block that nothing pinned needs."""
        command = [*self.program.command[:-1], f"--api=/ip4/127.0.0.1/tcp/{self._port}"]
        subprocess.run([*command, "repo", "gc"], check=True, capture_output=True, timeout=_ANSWER_S)

    def has(self, cid: str) -> bool:
        """Whether a block lies in this daemon's own repository."""
        try:
            self.ask(f"block/stat?offline=true&arg={cid}")
        except HTTPError:
            return False
        return True

    def wants(self) -> set[str]:
        """Return the CIDs of the blocks that it looks for at its peers."""
        return {each["/"] for each in self.ask("bitswap/wantlist")["Keys"] or ()}

    def ask(self, command: str) -> Any:
        """Return what a command of its RPC answers."""
        request = urllib.request.Request(f"{self.url}/api/v0/{command}", b"")
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)


@contextmanager
def running_kubo(folder: Path) -> Iterator[Kubo]:
    """Yield a daemon that has no peers."""
    with Kubo(folder) as daemon:
        yield daemon


@contextmanager
def running_mesh(folder: Path, names: Iterable[str]) -> Iterator[dict[str, Kubo]]:
    """Yield a daemon for each name, all of them connected to one another."""
    mesh = {name: Kubo(folder / name) for name in names}
    with ExitStack() as stack:
        for name, daemon in mesh.items():
            daemon.peer_with(other for other in mesh.values() if other is not mesh[name])
        for daemon in mesh.values():
            stack.enter_context(daemon)
        for daemon in mesh.values():
            daemon.await_peers(other for other in mesh.values() if other is not daemon)
        yield mesh
