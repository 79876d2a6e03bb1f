"""Foundry's anvil as the devnet's chain: chain id 31337, loopback, state in a folder.

anvil 1.7.1 writes its whole state to one file every few seconds and at SIGTERM. SIGKILL loses the
blocks since the last write, or since the last start if it strikes during a write. After a start
from that file, BLOCKHASH is wrong for every block in it: an audit refuses the seed of a round that
was opened before and seeded after. Why anvil, and what was measured:
docs/decisions/0011-anvil-under-the-devnet.md.
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
# anvil writes in place: a write that SIGKILL or a full disk cuts off leaves half a file, with which
# it would not start. So it starts from one file and writes to another.
KEPT: Final = "anvil.json"
_WRITTEN: Final = "anvil.next.json"
# The file holds about 100 KB for each block whose state is kept. Not of all blocks, as no full node
# keeps them; of more than `confirmations` would sensibly be.
_STATES: Final = 64
_WRITE_SECONDS: Final = 10


def find_anvil() -> str | None:
    """Return the path of anvil, from contracts/node_modules or the PATH; None without one."""
    return str(_INSTALLED) if _INSTALLED.exists() else shutil.which("anvil")


def anvil(folder: Path, port: int, block_time: float = 0, host: str = "127.0.0.1") -> Program:
    """Return anvil with its state in `folder`, where no other anvil may be running.

    A block is mined every `block_time` seconds, or with each transaction when it is 0. Raises
    Misconfigured when anvil is not installed.
    """
    binary = find_anvil()
    if binary is None:
        raise Misconfigured(
            "anvil is not installed: `npm ci` in contracts/ (`make setup`), or Foundry on the PATH"
        )
    # 1. The newest state that is whole becomes the one to start from.
    folder.mkdir(parents=True, exist_ok=True)
    kept, written = folder / KEPT, folder / _WRITTEN
    if _read(written) is not None:
        written.replace(kept)
    state = _read(kept)
    # 2. The command. One slot an epoch, so that `finalized` follows the head within a few blocks.
    options = [
        *("--host", host, "--port", str(port), "--chain-id", str(CHAIN_ID), "--quiet"),
        *("--accounts", str(DEV_ACCOUNTS), "--slots-in-an-epoch", "1"),
        *("--preserve-historical-states", "--prune-history", str(_STATES)),
        *("--dump-state", str(written), "--state-interval", str(_WRITE_SECONDS)),
    ]
    if state is not None:
        options += ["--load-state", str(kept)]
        # anvil forgets evm_increaseTime when it ends, and would go on with blocks that are older
        # than their parents.
        head = int(state["block"]["timestamp"], 16)
        if head >= time.time():
            options += ["--timestamp", str(head + 1)]
    if block_time:
        options += ["--block-time", f"{block_time:g}"]
    # The file names this folder's anvil among all processes.
    mark = str(written)
    return Program((binary, *options), f"http://{host}:{port}", mark, folder / "anvil.log")


def _read(path: Path) -> dict[str, Any] | None:
    # ValueError: half a file.
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state
