"""Foundry's anvil as the devnet's chain: chain id 31337, loopback, state in a folder.

anvil 1.7.1 writes its whole state to one file every few seconds and at SIGTERM, in place: a write
that SIGKILL or a full disk cuts off leaves half a file, with which it would not start. So it writes
to one file and starts from another, and `anvil` moves the first over the second once it is whole.
SIGKILL therefore loses the blocks since the last write, or since the last start when it struck
during a write.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any, Final

from devnet.accounts import CHAIN_ID, DEV_ACCOUNTS
from devnet.program import Program
from protocol.errors import Misconfigured

_INSTALLED: Final = Path(__file__).parents[1] / "contracts" / "node_modules" / ".bin" / "anvil"
KEPT: Final = "anvil.json"
"""The file in the folder from which anvil starts."""
_WRITTEN: Final = "anvil.next.json"
# About 100 KB of the file for each block whose state is kept: not all of them, as no full node
# does. More than `confirmations` would sensibly be.
_STATES: Final = 64
_WRITE_SECONDS: Final = 10


def find_anvil() -> str | None:
    """Return the path of anvil, from contracts/node_modules or the PATH; None without one."""
    return str(_INSTALLED) if _INSTALLED.exists() else shutil.which("anvil")


def anvil(folder: Path, port: int, block_time: float = 0, host: str = "127.0.0.1") -> Program:
    """Return anvil with its state in `folder`, where no other anvil may be running.

    Blocks come every `block_time` seconds, or with each transaction when it is 0. Misconfigured
    when anvil is not installed.
    """
    binary = find_anvil()
    if binary is None:
        raise Misconfigured(
            "anvil is not installed: `npm ci` in contracts/ (`make setup`), or Foundry on the PATH"
        )
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        *("--host", host, "--port", str(port), "--chain-id", str(CHAIN_ID), "--quiet"),
        *("--accounts", str(DEV_ACCOUNTS), "--slots-in-an-epoch", "1"),
        *("--preserve-historical-states", "--prune-history", str(_STATES)),
        *("--dump-state", str(folder / _WRITTEN), "--state-interval", str(_WRITE_SECONDS)),
    ]
    state = _last_state(folder)
    if state is not None:
        options += ["--load-state", str(folder / KEPT)]
        options += _clock(int(state["block"]["timestamp"], 16))
    if block_time:
        options += ["--block-time", f"{block_time:g}"]
    mark = str(folder / _WRITTEN)
    return Program((binary, *options), f"http://{host}:{port}", mark, folder / "anvil.log")


def _last_state(folder: Path) -> dict[str, Any] | None:
    """Return the newest state that is whole, which KEPT holds afterwards."""
    kept, written = folder / KEPT, folder / _WRITTEN
    if _read(written) is not None:
        written.replace(kept)
    return _read(kept)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state


def _clock(head: int) -> list[str]:
    """Return the options that keep time from running backwards.

    anvil forgets evm_increaseTime when it ends, and would mine blocks that are older than their
    parents.
    """
    return ["--timestamp", str(head + 1)] if head >= time.time() else []
