"""That the daemons of these tests are what the others take them for."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from web3.exceptions import Web3RPCError

from devnet.accounts import CHAIN_ID, DEV_BALANCE_WEI, dev_account
from devnet.built import find_built
from devnet.kubo import SETTINGS, keeping_to_itself, kubo
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.cid import raw_cid
from protocol.types import Address
from storage.ipfs import ContentStore
from tests.real.geth import Geth, running_geth
from tests.real.kubo import running_kubo, running_mesh

SENDER = Wallet.from_key(bytes(dev_account(0).key))
SCRIPT = "kubo-private.sh"
NOBODY = Address("0x000000000000000000000000000000000000dEaD")


@pytest.fixture
def geth(tmp_path: Path) -> Geth:
    return Geth(tmp_path)


def test_geth_has_our_chain_id_the_dev_accounts_and_blocks_of_a_second() -> None:
    with running_geth() as url:
        w3 = connect(url, chain_id=CHAIN_ID)
        for index in (0, 19):
            assert w3.eth.get_balance(dev_account(index).address) == DEV_BALANCE_WEI
        first = Sender(w3, SENDER).send(NOBODY, b"", 1).block_number
        second = Sender(w3, SENDER).send(NOBODY, b"", 1).block_number
        assert second > first
        times = [w3.eth.get_block(number)["timestamp"] for number in (first, second)]
        assert times[1] - times[0] >= second - first


def test_geth_takes_transactions_up_to_the_gas_of_osaka() -> None:
    """EIP-7825 came with Osaka, so this chain has all forks up to it."""
    with running_geth() as url:
        w3 = connect(url)
        large = {"nonce": 0, "chainId": CHAIN_ID, "value": 0, "gasPrice": 10**10, "gas": 2**24 + 1}
        signed = dev_account(0).sign_transaction({**large, "to": bytes(20)})
        with pytest.raises(Web3RPCError, match="gas limit too high"):
            w3.eth.send_raw_transaction(signed.raw_transaction)


def test_geth_keeps_its_chain_when_it_is_stopped(geth: Geth) -> None:
    with geth:
        mined = Sender(connect(geth.url), SENDER).send(NOBODY, b"", 1)
        geth.stop()
        geth.start()
        block = connect(geth.url).eth.get_block(mined.block_number)
        assert bytes(block["hash"]) == mined.block_hash
        assert Sender(connect(geth.url), SENDER).send(NOBODY, b"", 1).block_number > block["number"]


def test_a_rewound_geth_has_dropped_transactions_and_goes_on(geth: Geth) -> None:
    with geth:
        w3, account = connect(geth.url), dev_account(0).address
        mined = Sender(w3, SENDER).send(NOBODY, b"", 1)
        assert w3.eth.get_transaction_count(account) == 1
        geth.rewind(mined.block_number - 1)
        assert w3.eth.get_transaction_count(account) == 0
        again = Sender(w3, SENDER).send(NOBODY, b"", 1)
        assert again.block_number >= mined.block_number
        assert again.block_hash != mined.block_hash


def test_kubo_knows_nobody_it_was_not_told_of(tmp_path: Path) -> None:
    with running_kubo(tmp_path) as kubo:
        assert kubo.peers() == set()
        assert ContentStore(kubo.url).get_block(ContentStore(kubo.url).put_block(b"x")) == b"x"


def test_kubos_that_were_told_of_one_another_stay_connected(tmp_path: Path) -> None:
    with running_mesh(tmp_path, ("ann", "bob")) as kubos:
        ann, bob = kubos["ann"], kubos["bob"]
        kept = ContentStore(ann.url).put_block(b"from ann")
        assert ContentStore(bob.url).get_block(kept) == b"from ann"
        ann.kill()
        ann.start()
        ann.await_peers([bob])
        later = ContentStore(ann.url).put_block(b"after a restart")
        assert ContentStore(bob.url).get_block(later) == b"after a restart"
        assert ContentStore(ann.url).get_block(kept) == b"from ann"


def test_collecting_garbage_leaves_what_is_pinned(tmp_path: Path) -> None:
    with running_mesh(tmp_path, ("ann", "bob")) as kubos:
        block = ContentStore(kubos["ann"].url).put_block(b"pinned by ann alone")
        assert ContentStore(kubos["bob"].url).get_block(block) == b"pinned by ann alone"
        assert kubos["bob"].has(raw_cid(block))
        for kubo in kubos.values():
            kubo.collect_garbage()
        assert kubos["ann"].has(raw_cid(block))
        assert not kubos["bob"].has(raw_cid(block))


def test_kubos_in_containers_and_without_differ_in_addresses_alone(tmp_path: Path) -> None:
    kubo(tmp_path, 5001)
    # As docker-compose.yml lets Kubo's image do it.
    other, script, key = tmp_path / "other", *map(SETTINGS.with_name, (SCRIPT, "swarm.key"))
    given = {"IPFS_PATH": str(other), "SWARM_KEY": str(key), "KUBO_SETTINGS": str(SETTINGS)}
    given["PATH"] = f"{Path(find_built('ipfs')).parent}:/usr/bin:/bin"
    for command in (("ipfs", "init", "--empty-repo"), ("sh", script)):
        subprocess.run(command, check=True, env=given, timeout=120, capture_output=True)
    ours, theirs = (
        json.loads((repo / "config").read_text()) for repo in (tmp_path / "kubo", other)
    )
    for name, value in keeping_to_itself().items():
        assert value == at(ours, name) == at(theirs, name), name
    assert (other / "swarm.key").read_bytes() == key.read_bytes()
    # A swarm key works over plain TCP alone.
    assert theirs["Swarm"].pop("Transports") != ours["Swarm"].pop("Transports")
    assert theirs["Addresses"]["Gateway"] == []
    assert differing(ours, theirs) == {"Addresses", "Identity", "Peering"}


def at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one | other if one.get(key) != other.get(key)}
