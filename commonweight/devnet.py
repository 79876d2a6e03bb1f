"""The devnet: a dev chain and a dev IPFS daemon, two processes with their state on disk.

Their addresses stand in devnet.json. Starting it again brings back the same chain and blocks, at
the same ports where those are still free.
"""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from commonweight.healthcheck import is_chain, is_ipfs
from commonweight.processes import check_port, free_port, is_running, spawn, stop
from protocol.errors import Misconfigured, Unavailable
from storage.files import read_json, write_json

CHAIN_ID: Final = 31337
_START_SECONDS: Final = 120.0  # replaying a long journal takes a while
_CHAIN, _IPFS = "chain.devchain", "storage.dev_daemon"


@dataclass(frozen=True)
class Devnet:
    """A devnet that was started: its endpoints and processes."""

    rpc_url: str
    ipfs_url: str
    chain_pid: int
    ipfs_pid: int
    chain_id: int = CHAIN_ID


def up(folder: Path, *, chain_port: int = 0, ipfs_port: int = 0, outlive: bool = True) -> Devnet:
    """Start what is not running and return the devnet once both daemons answer; see `start`.

    Unavailable when a daemon does not come up.
    """
    devnet = start(folder, chain_port=chain_port, ipfs_port=ipfs_port, outlive=outlive)
    wait(devnet, folder)
    return devnet


def start(folder: Path, *, chain_port: int = 0, ipfs_port: int = 0, outlive: bool = True) -> Devnet:
    """Start both daemons, unless they run, and return the devnet without waiting for it.

    Port 0 means the port of the last time, or a free one. Without `outlive` the daemons end with
    this process. Misconfigured when a port is taken.
    """
    known = running(folder)
    if known is not None:
        return known
    down(folder)
    last = _last(folder)
    chain_port = _choose_port(chain_port, last.rpc_url if last else None, "the dev chain")
    ipfs_port = _choose_port(ipfs_port, last.ipfs_url if last else None, "the dev IPFS daemon")
    # -P: no package of ours may be looked for where the user happens to stand.
    python = (sys.executable, "-P", "-m")
    chain = [*python, _CHAIN, "--journal", str(folder / "chain.jsonl"), "--port", str(chain_port)]
    ipfs = [*python, _IPFS, "--repo", str(folder / "ipfs"), "--port", str(ipfs_port)]
    devnet = Devnet(
        rpc_url=f"http://127.0.0.1:{chain_port}",
        ipfs_url=f"http://127.0.0.1:{ipfs_port}",
        chain_pid=spawn(chain, folder / "chain.log", outlive=outlive).pid,
        ipfs_pid=spawn(ipfs, folder / "ipfs.log", outlive=outlive).pid,
    )
    write_json(folder / "devnet.json", asdict(devnet))
    return devnet


def down(folder: Path) -> bool:
    """Stop the devnet's processes; whether any was running. The state stays on disk."""
    last = _last(folder)
    if last is None:
        return False
    stopped = False
    for pid, mark in ((last.chain_pid, _CHAIN), (last.ipfs_pid, _IPFS)):
        if is_running(pid, mark):
            stop(pid)
            stopped = True
    return stopped


def running(folder: Path) -> Devnet | None:
    """Return the devnet of `folder` when both its daemons answer, else None."""
    last = _last(folder)
    if last is None:
        return None
    alive = is_running(last.chain_pid, _CHAIN) and is_running(last.ipfs_pid, _IPFS)
    return last if alive and _answers(last) else None


def _last(folder: Path) -> Devnet | None:
    path = folder / "devnet.json"
    return Devnet(**read_json(path)) if path.exists() else None


def _choose_port(wanted: int, last_url: str | None, purpose: str) -> int:
    if wanted:
        return check_port(wanted, purpose)
    if last_url is not None:
        try:
            return check_port(int(last_url.rpartition(":")[2]), purpose)
        except Misconfigured:
            pass
    return free_port()


def wait(devnet: Devnet, folder: Path) -> None:
    """Return once both daemons answer; Unavailable, with both stopped, when they do not."""
    try:
        _wait(devnet, folder)
    except Unavailable:
        down(folder)
        raise


def _wait(devnet: Devnet, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(devnet):
        for pid, mark, log in (
            (devnet.chain_pid, _CHAIN, "chain.log"),
            (devnet.ipfs_pid, _IPFS, "ipfs.log"),
        ):
            if not is_running(pid, mark):
                raise Unavailable(f"{mark} ended while starting: see {folder / log}")
        if time.monotonic() > deadline:
            raise Unavailable(f"the devnet did not answer within {_START_SECONDS:.0f} s: {folder}")
        time.sleep(0.1)


def _answers(devnet: Devnet) -> bool:
    return is_chain(devnet.rpc_url) and is_ipfs(devnet.ipfs_url)
