"""A devnet of geth and Kubo, which `commonweight devnet up --chain geth --ipfs kubo` starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet import daemons
from devnet.accounts import dev_account
from devnet.daemons import Wanted
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import Address
from storage.ipfs import ContentStore

NOBODY = Address("0x000000000000000000000000000000000000dEaD")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    daemons.down(tmp_path)


def test_it_comes_back_with_its_chain_and_blocks(folder: Path) -> None:
    net = daemons.up(folder, Wanted(chain="geth", ipfs="kubo"), outlive=False)
    sender = Sender(connect(net.rpc_url), Wallet.from_key(bytes(dev_account(0).key)))
    mined = sender.send(NOBODY, b"", 1)
    digest = ContentStore(net.ipfs_url).put_block(b"kept")
    assert daemons.down(folder)
    again = daemons.up(folder, outlive=False)
    assert (again.chain.kind, again.ipfs.kind) == ("geth", "kubo")
    found = connect(again.rpc_url).eth.get_block(mined.block_number)
    assert bytes(found["hash"]) == mined.block_hash
    assert ContentStore(again.ipfs_url).get_block(digest) == b"kept"


def test_geth_takes_blocks_of_whole_seconds(folder: Path) -> None:
    with pytest.raises(Misconfigured, match=r"blocks of whole seconds, not of 0\.5 s"):
        daemons.up(folder, Wanted(chain="geth", block_time=0.5))
