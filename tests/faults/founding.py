"""The federation that a schedule begins with: deployed, funded, joined, before its first round."""

import shutil
import tempfile
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from devnet.accounts import dev_account
from devnet.anvil import KEPT
from ethereum.wallet import Wallet
from protocol.types import Address
from tests.ethereum.anvil import running_anvil
from tests.faults.schedule import CHAIN, IPFS, LEAD, NAMES, STANDBY, Schedule
from tests.masked.world import MaskedWorld
from tests.passwords import write_password
from tests.world import World

ROUNDS: Final = 2
LOOK_S: Final = 2  # which members of a masked set have to look at its sum
PASSWORD: Final = "secret"
WALLETS: Final = {
    name: Wallet.from_key(bytes(dev_account(index).key))
    for name, index in {LEAD: 1, STANDBY: 8, **dict(zip(NAMES, range(2, 8), strict=False))}.items()
}
AUDITOR: Final = Wallet.from_key(bytes(dev_account(9).key))
SPONSOR: Final = Wallet.from_key(bytes(dev_account(0).key))


@dataclass(frozen=True)
class Founded:
    """Where the federation is found, and the folders of its chain and its IPFS daemon."""

    address: Address
    deployment_block: int
    chain: Path
    repo: Path


def found(schedule: Schedule, folder: Path) -> Founded:
    """Return a federation whose files are in `folder`."""
    first = _first(schedule.names, schedule.has_standby, schedule.is_masked)
    chain, repo = folder / CHAIN, folder / IPFS / first.repo.name
    shutil.copytree(first.chain, chain)
    shutil.copytree(first.repo, repo)
    return Founded(first.address, first.deployment_block, chain, repo)


@cache
def _first(names: tuple[str, ...], has_standby: bool, is_masked: bool) -> Founded:
    """Found a federation once a process, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    chain = folder / CHAIN
    chain.mkdir()
    of_kind: Any = partial(MaskedWorld, challenge_seconds=LOOK_S) if is_masked else World
    with (
        running_anvil("--dump-state", chain / KEPT, "--preserve-historical-states") as url,
        of_kind(folder, names=names, rpc_url=url, rounds=ROUNDS) as world,
    ):
        if has_standby:
            world.stand_by()
    return Founded(world.address, world.deployment_block, chain, folder / "ipfs")


@cache
def keystores() -> Path:
    """Return a folder with everybody's keystore and the password, written once a process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    write_password(folder / "password", PASSWORD + "\n")
    for name, wallet in WALLETS.items():
        wallet.save_keystore(folder / f"{name}.json", PASSWORD, work_factor=4096)
    return folder
