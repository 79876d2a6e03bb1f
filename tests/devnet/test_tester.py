"""eth-tester behind JSON-RPC: what the bridge adds to web3's own provider for it."""

import json
import time
import urllib.request
from typing import Any

import pytest
from web3 import Web3

from contracts.reverts import UNKNOWN, Reverted
from devnet.accounts import DEV_ACCOUNTS, dev_account
from devnet.tester import connect_tester
from ethereum.rpc import connect, plain_errors
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from tests.chain.anvil import running_tester
from tests.chain.probe import ABI, CODE
from tests.chain.stage import ask, now, undone

SPONSOR = Wallet.from_key(bytes(dev_account(0).key))


@pytest.fixture(scope="module")
def w3() -> Web3:
    return connect_tester()


@pytest.fixture
def probe(w3: Web3) -> Any:
    receipt = Sender(w3, SPONSOR).send(None, bytes.fromhex(CODE[2:]))
    assert receipt.contract_address is not None
    return w3.eth.contract(address=w3.to_checksum_address(receipt.contract_address), abi=ABI)


def store(w3: Web3, contract: Any, value: int) -> None:
    Sender(w3, SPONSOR).send(
        contract.address, bytes.fromhex(contract.encode_abi("store", [value])[2:])
    )


def test_chain_and_accounts_are_the_devnets(w3: Web3) -> None:
    assert w3.eth.chain_id == 31337
    assert w3.net.version == "31337"
    assert list(w3.eth.accounts) == [dev_account(index).address for index in range(DEV_ACCOUNTS)]
    assert w3.eth.get_balance(dev_account(19).address) == 10_000 * 10**18


def test_blocks_keep_to_the_wall_clock(w3: Web3, probe: Any) -> None:
    """eth-tester's own would fall behind, a second a block."""
    with undone(w3):
        time.sleep(2)
        store(w3, probe, 1)
        assert now(w3) >= int(time.time()) - 1
        assert w3.eth.get_block("pending")["timestamp"] > now(w3)


def test_the_clock_moves_ahead_and_comes_back_with_a_snapshot(w3: Web3) -> None:
    with undone(w3):
        before = now(w3)
        ask(w3, "evm_increaseTime", 5_000)
        ask(w3, "evm_mine")
        assert now(w3) >= before + 5_000
        ask(w3, "evm_setNextBlockTimestamp", before + 9_000)
        assert w3.eth.get_block("pending")["timestamp"] == before + 9_000
        ask(w3, "evm_mine")
        assert now(w3) == before + 9_000
        ask(w3, "evm_mine")
        assert before + 9_000 < now(w3) < before + 9_100
        past = w3.provider.make_request("evm_setNextBlockTimestamp", [before])  # type: ignore[arg-type]
        assert "later than" in past["error"]["message"]
    assert now(w3) == before
    ask(w3, "evm_mine")
    assert now(w3) < before + 1_000


def test_a_snapshot_brings_back_state_and_nonces(w3: Web3, probe: Any) -> None:
    store(w3, probe, 3)
    with undone(w3):
        store(w3, probe, 4)
        assert probe.functions.value().call() == 4
    assert probe.functions.value().call() == 3
    store(w3, probe, 5)
    assert probe.functions.value().call() == 5


def test_calls_see_the_pending_block_and_older_states(w3: Web3, probe: Any) -> None:
    store(w3, probe, 1)
    block = w3.eth.block_number
    store(w3, probe, 2)
    assert probe.functions.value().call(block_identifier=block) == 1
    time_of_call, number, _ = probe.functions.nextBlock().call(block_identifier="pending")
    assert number == w3.eth.block_number + 1
    assert time_of_call > now(w3)


def test_what_a_contract_draws_is_not_zero(w3: Web3, probe: Any) -> None:
    """eth-tester's own chain runs transactions before it draws `block.prevrandao`."""
    drawn = set()
    for value in range(3):
        store(w3, probe, value)
        drawn.add(probe.functions.storedRandao().call())
    assert len(drawn) == 3
    assert 0 not in drawn


def test_reverts_keep_their_data(w3: Web3, probe: Any) -> None:
    words = f"{4:064x}{7:064x}"
    with pytest.raises(Reverted) as called, plain_errors():
        probe.functions.refuse(4).call()
    assert called.value.name == UNKNOWN
    assert words in called.value.arguments["data"]
    with pytest.raises(Reverted) as sent:
        Sender(w3, SPONSOR).send(probe.address, bytes.fromhex(probe.encode_abi("complain", [])[2:]))
    assert sent.value.arguments == {"message": "not today"}


def test_gas_that_is_estimated_is_enough(w3: Web3, probe: Any) -> None:
    for cells in (1, 200):
        estimate = w3.eth.estimate_gas(
            {"to": probe.address, "data": probe.encode_abi("fill", [cells])}, "pending"
        )
        store_all = {"from": dev_account(0).address, "gas": estimate}
        sent = probe.functions.fill(cells).transact(store_all)
        receipt = w3.eth.get_transaction_receipt(sent)
        assert receipt["status"] == 1
        assert receipt["gasUsed"] <= estimate < 2 * receipt["gasUsed"]


def test_a_caller_needs_no_ether(w3: Web3, probe: Any) -> None:
    nobody = Wallet.create().address
    assert probe.functions.nextBlock().call({"from": w3.to_checksum_address(nobody)})


def test_over_http_it_is_the_same_chain() -> None:
    with running_tester() as url:
        w3 = connect(url, chain_id=31337)
        receipt = Sender(w3, SPONSOR).send(None, bytes.fromhex(CODE[2:]))
        assert len(w3.eth.get_logs({"fromBlock": 0})) == 0
        assert w3.eth.get_code(w3.to_checksum_address(str(receipt.contract_address)))
        for body in (b"{", b"[]", b"7", b'{"id": 1}'):
            request = urllib.request.Request(url, body)
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert json.load(answer)["error"]["code"] == -32600
        assert "is not available" in str(
            w3.provider.make_request("eth_foo", [])  # type: ignore[arg-type]
        )
