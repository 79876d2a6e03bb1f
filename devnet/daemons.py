"""The devnet's two daemons, a chain and an IPFS daemon: processes with their state in one folder.

devnet.json holds their kinds, addresses and process ids. Starting them again brings back the same
chain and blocks, at the same ports where those are still free.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from devnet.accounts import CHAIN_ID
from devnet.anvil import anvil, find_anvil
from devnet.geth import geth
from devnet.kubo import kubo
from devnet.program import Program
from protocol.errors import Misconfigured, Unavailable
from runtime.healthcheck import is_chain, is_ipfs
from runtime.processes import check_port, free_port, is_running, spawn, stop
from storage.files import locked, read_json, write_json

_START_SECONDS: Final = 60.0

Maker = Callable[[Path, int], Program]


def eth_tester(folder: Path, port: int, host: str = "127.0.0.1") -> Program:
    """Return eth-tester as a chain; only its log is in `folder`."""
    return _python("devnet.tester", folder / "tester.log", host, port)


def dev_ipfs(folder: Path, port: int) -> Program:
    """Return the dev IPFS daemon, with its blocks in `folder`."""
    repo = ("--repo", str(folder / "ipfs"))
    return _python("devnet.ipfs.daemon", folder / "ipfs.log", "127.0.0.1", port, *repo)


def _python(module: str, log: Path, host: str, port: int, *options: str) -> Program:
    # -P: Python must not look for these packages in the user's working directory.
    command = (sys.executable, "-P", "-m", module, "--host", host, "--port", str(port), *options)
    return Program(command, f"http://{host}:{port}", module, log)


# anvil is the default; where it is not installed, eth-tester takes its place.
CHAINS: Final[dict[str, Maker]] = {"anvil": anvil, "eth-tester": eth_tester, "geth": geth}
# The first is the default.
IPFS: Final[dict[str, Maker]] = {"dev": dev_ipfs, "kubo": kubo}


@dataclass(frozen=True)
class Daemon:
    """A daemon that was started; `mark` is a part of its command line."""

    kind: str
    url: str
    pid: int
    mark: str
    log: str

    def is_running(self) -> bool:
        """Return whether its process is running."""
        # By more than its number, which another process may have by now (after a restart of the
        # machine, say): `down` would stop that one.
        return is_running(self.pid, self.mark)


@dataclass(frozen=True)
class Devnet:
    """A devnet that was started."""

    chain: Daemon
    ipfs: Daemon
    block_time: float = 0  # seconds; 0: a block with each transaction
    chain_id: int = CHAIN_ID

    @property
    def rpc_url(self) -> str:
        """The URL of the chain's JSON-RPC."""
        return self.chain.url

    @property
    def ipfs_url(self) -> str:
        """The URL of the IPFS daemon's RPC."""
        return self.ipfs.url


@dataclass(frozen=True)
class Wanted:
    """The devnet to start: kinds of CHAINS and IPFS, ports, seconds between blocks.

    Whatever is not given (an empty kind, port 0, no block time) is as before, else the default or a
    free port.
    """

    chain: str = ""
    ipfs: str = ""
    chain_port: int = 0
    ipfs_port: int = 0
    block_time: float | None = None


AS_BEFORE: Final = Wanted()


def up(folder: Path, wanted: Wanted = AS_BEFORE, *, outlive: bool = True) -> Devnet:
    """Start the devnet unless it runs, and return it once both daemons answer; see `start`.

    Raises Unavailable when a daemon does not start.
    """
    devnet = start(folder, wanted, outlive=outlive)
    wait(devnet, folder)
    return devnet


def start(folder: Path, wanted: Wanted, *, outlive: bool = True) -> Devnet:
    """Start both daemons, unless they run, and return the devnet without waiting for it.

    Without `outlive` the daemons end with this process. Raises Misconfigured when a port is taken,
    when a daemon is not installed, or when a devnet runs that is not the one wanted.
    """
    # Whoever asks while another process starts it gets the same one: two chains on one folder would
    # spoil its state.
    with locked(folder):
        last = last_started(folder)
        if last is not None and last.chain.is_running() and last.ipfs.is_running():
            return _as_wanted(last, wanted)
        # One of the two may be left of a devnet that was cut off: it holds its port and its state.
        down(folder)
        return _start_both(folder, wanted, last, outlive=outlive)


def _start_both(folder: Path, wanted: Wanted, last: Devnet | None, *, outlive: bool) -> Devnet:
    chain = wanted.chain or _default_chain(last)
    ipfs = wanted.ipfs or (last.ipfs.kind if last else next(iter(IPFS)))
    block_time = wanted.block_time
    if block_time is None:  # a block time belongs to the kind of chain that takes it
        block_time = last.block_time if last and last.chain.kind == chain else 0
    chain_port = _choose_port(wanted.chain_port, last.chain.url if last else None, "the chain")
    ipfs_port = _choose_port(wanted.ipfs_port, last.ipfs.url if last else None, "the IPFS daemon")
    # Both programs are prepared before the first is started: one that is not installed leaves no
    # half of a devnet behind.
    chain_program = _chain_program(chain, folder, chain_port, block_time)
    ipfs_program = IPFS[ipfs](folder, ipfs_port)
    devnet = Devnet(
        chain=_start(chain, chain_program, outlive=outlive),
        ipfs=_start(ipfs, ipfs_program, outlive=outlive),
        block_time=block_time,
    )
    write_json(folder / "devnet.json", asdict(devnet))
    return devnet


def down(folder: Path) -> bool:
    """Stop the devnet's processes and return whether any was running; its state stays on disk."""
    last = last_started(folder)
    alive = [each for each in (last.chain, last.ipfs) if each.is_running()] if last else []
    for daemon in alive:
        stop(daemon.pid)
    return bool(alive)


def running(folder: Path) -> Devnet | None:
    """Return the devnet of `folder` if both its daemons answer, else None."""
    last = last_started(folder)
    if last is None or not (last.chain.is_running() and last.ipfs.is_running()):
        return None
    return last if _answers(last) else None


def wait(devnet: Devnet, folder: Path) -> None:
    """Return once both daemons answer; else stop both and raise Unavailable."""
    deadline = time.monotonic() + _START_SECONDS
    try:
        while not _answers(devnet):
            for daemon in (devnet.chain, devnet.ipfs):
                if not daemon.is_running():
                    raise Unavailable(f"{daemon.kind} ended while starting: see {daemon.log}")
            if time.monotonic() > deadline:
                seconds = f"{_START_SECONDS:.0f} s"
                raise Unavailable(f"the devnet did not answer within {seconds}: {folder}")
            time.sleep(0.05)
    except Unavailable:
        down(folder)
        raise


def _answers(devnet: Devnet) -> bool:
    return is_chain(devnet.rpc_url) and is_ipfs(devnet.ipfs_url)


def _start(kind: str, program: Program, *, outlive: bool) -> Daemon:
    process = spawn(program.command, program.log, outlive=outlive)
    return Daemon(kind, program.url, process.pid, program.mark, str(program.log))


def _default_chain(last: Devnet | None) -> str:
    """Return the kind used before, or anvil; eth-tester only where anvil is not installed."""
    # A devnet that had to use eth-tester changes to anvil as soon as it is there: no state is lost,
    # since eth-tester keeps none.
    kind = last.chain.kind if last else "anvil"
    if kind not in ("anvil", "eth-tester"):
        return kind
    if find_anvil() is not None:
        return "anvil"
    print(
        "anvil is not installed: the chain is eth-tester, in memory only, gone once it stops",
        file=sys.stderr,
    )
    return "eth-tester"


def _chain_program(kind: str, folder: Path, port: int, block_time: float) -> Program:
    if kind == "anvil":
        return anvil(folder, port, block_time)
    if kind == "geth":
        if block_time != round(block_time):
            raise Misconfigured(f"geth takes a block time in whole seconds, not {block_time:g} s")
        return geth(folder, port, period=round(block_time))
    if block_time:
        raise Misconfigured(f"{kind} mines with each transaction: it takes no block time")
    return CHAINS[kind](folder, port)


def _as_wanted(known: Devnet, wanted: Wanted) -> Devnet:
    """Return the running devnet; raise Misconfigured when it is not the one wanted."""
    block_time = known.block_time if wanted.block_time is None else wanted.block_time
    has = {
        "chain": (known.chain.kind, wanted.chain or known.chain.kind),
        "IPFS daemon": (known.ipfs.kind, wanted.ipfs or known.ipfs.kind),
        "block time": (known.block_time, block_time),
    }
    for what, (found, asked) in has.items():
        if found != asked:
            raise Misconfigured(
                f"the devnet runs with {what} {found}, not {asked}: stop it first with"
                " `commonweight devnet down`"
            )
    return known


def last_started(folder: Path) -> Devnet | None:
    """Return the devnet started last in `folder`, or None if there is none."""
    path = folder / "devnet.json"
    if not path.exists():
        return None
    known = read_json(path)
    try:
        chain, ipfs = Daemon(**known.pop("chain")), Daemon(**known.pop("ipfs"))
        return Devnet(chain=chain, ipfs=ipfs, **known)
    except (KeyError, TypeError):  # another version's: started anew, as without one
        return None


def _choose_port(wanted: int, last_url: str | None, purpose: str) -> int:
    if wanted:
        return check_port(wanted, purpose)
    if last_url is not None:
        try:
            return check_port(int(last_url.rpartition(":")[2]), purpose)
        except Misconfigured:  # taken meanwhile; nobody asked for this port
            pass
    return free_port()
