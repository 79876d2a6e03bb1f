"""A chain of geth's own: one node that mines alone, with our chain id and the dev accounts funded.

It is no archive: the state of about the last 128 blocks is there, as on any full node. SIGTERM
keeps the chain; after SIGKILL a node started with --dev is back at its genesis block.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from devnet.accounts import CHAIN_ID, DEV_ACCOUNTS, DEV_BALANCE_WEI, dev_account
from devnet.built import find_built
from devnet.program import Program
from protocol.errors import Misconfigured
from storage.files import write_json

_GAS_LIMIT: Final = 60_000_000  # Ethereum's
_NEWEST_FORK: Final = "osakaTime"
_INIT_S: Final = 60.0


def geth(folder: Path, port: int, *options: str, period: int = 0) -> Program:
    """Prepare a chain in `folder`, unless one is there, and return how to run it at `port`.

    `options` are added to geth's command line. `period` is the time between two blocks in seconds;
    0 mines a block whenever a transaction arrives. Raises Misconfigured without a usable geth.
    """
    program, data = find_built("geth"), folder / "geth"
    if not (data / "geth" / "chaindata").exists():
        write_json(folder / "genesis.json", _genesis(program))
        _run(program, "init", "--datadir", str(data), str(folder / "genesis.json"))
    command = [program, "--datadir", str(data), "--dev", "--dev.period", str(period)]
    command += ["--networkid", str(CHAIN_ID), "--cache", "64", "--ipcdisable"]
    command += ["--http", "--http.addr", "127.0.0.1", "--http.port", str(port)]
    command += ["--http.api", "eth,net,web3,txpool,debug"]
    command += ["--port", "0", "--nodiscover", "--maxpeers", "0", "--nat", "none", *options]
    return Program(tuple(command), f"http://127.0.0.1:{port}", str(data), folder / "geth.log")


def _genesis(program: str) -> dict[str, Any]:
    """Return geth's own development genesis, with the forks that Ethereum has and our accounts."""
    genesis: dict[str, Any] = json.loads(_run(program, "--dev", "dumpgenesis"))
    forks = genesis["config"]
    times = [name for name in forks if name.endswith("Time")]  # in the order of the forks
    if _NEWEST_FORK not in times:
        raise Misconfigured(f"{program} does not know the fork Osaka: a newer geth was expected")
    for draft in times[times.index(_NEWEST_FORK) + 1 :]:
        del forks[draft]
    forks["chainId"] = CHAIN_ID
    forks["blobSchedule"]["osaka"] = forks["blobSchedule"]["prague"]
    genesis["gasLimit"] = hex(_GAS_LIMIT)
    for index in range(DEV_ACCOUNTS):
        genesis["alloc"][dev_account(index).address] = {"balance": hex(DEV_BALANCE_WEI)}
    return genesis


def _run(*command: str) -> str:
    """Return what a command of geth's prints; Misconfigured when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_INIT_S)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise Misconfigured(f"{' '.join(command[:2])}: {said.strip().splitlines()[-1]}") from error
    return done.stdout
