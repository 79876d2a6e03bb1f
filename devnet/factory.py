"""The factory of a devnet: deployed when it is first needed, and noted in factory.json."""

from pathlib import Path
from typing import Final

from web3 import Web3

from chain.authentic import check_factory
from chain.deploy import deploy_factory
from chain.factory import Factory
from devnet import daemons
from ethereum.rpc import connect
from ethereum.transactions import Sender
from protocol.errors import CommonweightError
from protocol.types import Address, parse_address
from runtime.home import home
from storage.files import read_json, write_json

_FILE: Final = "factory.json"


def factory_in(folder: Path, sponsor: Sender) -> Factory:
    """Return the factory noted in `folder`, or a new one when the chain has none there."""
    address = _noted(folder, sponsor.w3)
    if address is not None:
        return Factory(sponsor.w3, address, sponsor)
    factory = deploy_factory(sponsor)
    write_json(folder / _FILE, {"address": factory.address})
    return factory


def devnet_factory(rpc_url: str) -> Address | None:
    """Return the factory of this program's devnet if `rpc_url` is its chain's; None without one."""
    net = daemons.running(home() / "devnet")
    if net is None or net.rpc_url.rstrip("/") != rpc_url.rstrip("/"):
        return None
    return _noted(home() / "devnet", connect(rpc_url))


def note_devnet_factory(rpc_url: str, address: Address) -> None:
    """Note the factory for `devnet_factory`, if `rpc_url` is the devnet's chain and none is noted.

    The next federation is then founded by the same factory, and both are listed together.
    """
    net = daemons.running(home() / "devnet")
    if net is None or net.rpc_url.rstrip("/") != rpc_url.rstrip("/"):
        return
    if _noted(home() / "devnet", connect(rpc_url)) is None:
        write_json(home() / "devnet" / _FILE, {"address": address})


def _noted(folder: Path, w3: Web3) -> Address | None:
    if not (folder / _FILE).exists():
        return None
    # The chain may be another one by now: eth-tester's is lost when it stops.
    try:
        address = parse_address(read_json(folder / _FILE)["address"])
        check_factory(w3, address)
    except (CommonweightError, KeyError, TypeError):
        return None
    return address
