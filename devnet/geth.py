"""A chain of a single geth node that mines alone, with the devnet's chain id and dev accounts.

It is no archive: it has the state of about the last 128 blocks, as any full node does. The chain
survives SIGTERM; after SIGKILL a node started with --dev is back at its genesis block.
"""

import json
from pathlib import Path
from typing import Any, Final

from devnet.accounts import CHAIN_ID, DEV_ACCOUNTS, DEV_BALANCE_WEI, dev_account
from devnet.built import find_built, run_built
from devnet.program import Program
from protocol.errors import Misconfigured
from storage.files import write_json

_GAS_LIMIT: Final = 60_000_000  # Ethereum's
# The fork that Ethereum runs; later ones in geth's own genesis are drafts.
_NEWEST_FORK: Final = "osakaTime"


def geth(folder: Path, port: int, *options: str, period: int = 0) -> Program:
    """Prepare a chain in `folder`, unless there is one, and return the program to serve it.

    `options` are added to geth's command line. `period` is the time between two blocks in seconds;
    0 mines a block whenever a transaction arrives. Raises Misconfigured without a usable geth.
    """
    program, data = find_built("geth"), folder / "geth"
    if not (data / "geth" / "chaindata").exists():
        write_json(folder / "genesis.json", _genesis(program))
        run_built(program, "init", "--datadir", str(data), str(folder / "genesis.json"))
    command = [program, "--datadir", str(data), "--dev", "--dev.period", str(period)]
    command += ["--networkid", str(CHAIN_ID), "--cache", "64", "--ipcdisable"]
    command += ["--http", "--http.addr", "127.0.0.1", "--http.port", str(port)]
    command += ["--http.api", "eth,net,web3,txpool,debug"]
    # No peers, and no attempt to find any or to open the router's ports.
    command += ["--port", "0", "--nodiscover", "--maxpeers", "0", "--nat", "none", *options]
    return Program(tuple(command), f"http://127.0.0.1:{port}", str(data), folder / "geth.log")


def _genesis(program: str) -> dict[str, Any]:
    """Return geth's own development genesis, with Ethereum's forks and the dev accounts."""
    genesis: dict[str, Any] = json.loads(run_built(program, "--dev", "dumpgenesis"))
    forks = genesis["config"]
    times = [name for name in forks if name.endswith("Time")]  # in the order of the forks
    if _NEWEST_FORK not in times:
        raise Misconfigured(f"{program} does not know the fork Osaka: a newer geth was expected")
    for draft in times[times.index(_NEWEST_FORK) + 1 :]:
        del forks[draft]
    forks["chainId"] = CHAIN_ID
    # Every fork with blobs needs a schedule; Osaka changed nothing about Prague's.
    forks["blobSchedule"]["osaka"] = forks["blobSchedule"]["prague"]
    genesis["gasLimit"] = hex(_GAS_LIMIT)
    for index in range(DEV_ACCOUNTS):
        genesis["alloc"][dev_account(index).address] = {"balance": hex(DEV_BALANCE_WEI)}
    return genesis
