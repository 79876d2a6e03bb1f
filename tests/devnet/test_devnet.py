"""The devnet's chain: what is kept through stops and kills, and how a chain is chosen."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from devnet import anvil, daemons
from devnet.accounts import DEV_ACCOUNTS, dev_account
from devnet.daemons import Devnet, Wanted
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from tests.chain.probe import ABI, CODE

SPONSOR = Wallet.from_key(bytes(dev_account(0).key))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    daemons.down(tmp_path)


def up(folder: Path, **options: Any) -> tuple[Devnet, Web3]:
    net = daemons.up(folder, Wanted(**options), outlive=False)
    return net, connect(net.rpc_url)


def ask(w3: Web3, method: str, *params: Any) -> Any:
    answer = w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer["result"]


def probe(w3: Web3) -> tuple[Sender, Any]:
    """Return a contract that is new, and who has made it."""
    sender = Sender(w3, SPONSOR)
    receipt = sender.send(None, bytes.fromhex(CODE[2:]))
    assert receipt.contract_address is not None
    return sender, w3.eth.contract(
        address=w3.to_checksum_address(receipt.contract_address), abi=ABI
    )


def store(sender: Sender, contract: Any, value: int) -> bytes:
    data = bytes.fromhex(contract.encode_abi("store", [value])[2:])
    return bytes(sender.send(contract.address, data).transaction_hash)


def head(w3: Web3) -> tuple[int, bytes]:
    block = w3.eth.get_block("latest")
    return block["number"], bytes(block["hash"])


def kill(net: Devnet) -> None:
    os.kill(net.chain.pid, signal.SIGKILL)
    os.waitpid(net.chain.pid, 0)


def test_whoever_asks_at_once_gets_the_same_devnet(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(daemons.up, folder) for _ in range(4)]
        found = [each.result() for each in asked]
    assert len({(net.chain.pid, net.ipfs.pid) for net in found}) == 1


def test_the_chain_comes_back_with_blocks_logs_receipts_and_states(folder: Path) -> None:
    net, w3 = up(folder)
    sender, contract = probe(w3)
    sent = [store(sender, contract, value) for value in (5, 6)]
    before, logs = head(w3), w3.eth.get_logs({"fromBlock": 0})
    daemons.down(folder)

    again, w3 = up(folder)
    assert again.rpc_url == net.rpc_url
    assert head(w3) == before
    assert w3.eth.get_logs({"fromBlock": 0}) == logs
    assert w3.eth.get_transaction_receipt(sent[0])["blockNumber"] == before[0] - 1  # type: ignore[arg-type]
    contract = w3.eth.contract(address=contract.address, abi=ABI)
    assert contract.functions.value().call(block_identifier=before[0] - 1) == 5
    assert contract.functions.value().call() == 6
    store(Sender(w3, SPONSOR), contract, 7)
    assert head(w3)[0] == before[0] + 1


def test_after_a_kill_the_chain_of_the_last_start_is_there(folder: Path) -> None:
    _, w3 = up(folder)
    _, contract = probe(w3)
    before = head(w3)
    daemons.down(folder)

    net, _ = up(folder)
    kill(net)
    _, w3 = up(folder)
    assert head(w3) == before
    assert w3.eth.get_code(contract.address)


def test_a_state_that_was_cut_off_while_written_is_left_aside(folder: Path) -> None:
    _, w3 = up(folder)
    _, contract = probe(w3)
    before = head(w3)
    daemons.down(folder)
    _, w3 = up(folder)
    store(Sender(w3, SPONSOR), contract, 5)
    daemons.down(folder)
    written = folder / "anvil.next.json"
    whole = written.read_bytes()
    written.write_bytes(whole[: len(whole) // 2])

    _, w3 = up(folder)
    assert head(w3) == before


def test_time_that_was_moved_ahead_does_not_go_back(folder: Path) -> None:
    _, w3 = up(folder)
    ask(w3, "evm_increaseTime", 100_000)
    ask(w3, "evm_mine")
    before = w3.eth.get_block("latest")["timestamp"]
    daemons.down(folder)
    _, w3 = up(folder)
    ask(w3, "evm_mine")
    after = w3.eth.get_block("latest")["timestamp"]
    assert before < after < before + 1_000


def test_blocks_come_by_themselves_and_that_is_remembered(folder: Path) -> None:
    assert up(folder, block_time=1)[0].block_time == 1
    daemons.down(folder)
    net, w3 = up(folder)
    assert net.block_time == 1
    first, give_up = w3.eth.block_number, time.monotonic() + 60
    while w3.eth.block_number < first + 2:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    with pytest.raises(Misconfigured, match=r"block time 1(\.0)?, not 0"):
        daemons.start(folder, Wanted(block_time=0))


def test_the_chain_has_all_dev_accounts_and_is_final_soon(folder: Path) -> None:
    _, w3 = up(folder)
    for _ in range(4):
        ask(w3, "evm_mine")
    assert w3.eth.chain_id == 31337
    for index in (0, DEV_ACCOUNTS - 1):
        assert w3.eth.get_balance(dev_account(index).address) == 10_000 * 10**18
    assert w3.eth.get_block("finalized")["number"] == 2


def test_without_anvil_it_is_eth_tester_until_anvil_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        for module in (anvil, daemons):
            patch.setattr(module, "find_anvil", lambda: None)
        net, w3 = up(folder)
        assert net.chain.kind == "eth-tester"
        assert "anvil is not installed" in capsys.readouterr().err
        assert w3.eth.chain_id == 31337
        daemons.down(folder)
        with pytest.raises(Misconfigured, match="npm ci"):
            daemons.start(folder, Wanted(chain="anvil"))
    net, _ = up(folder)
    assert net.chain.kind == "anvil"
    assert not capsys.readouterr().err


def test_what_runs_is_not_taken_for_another(folder: Path) -> None:
    up(folder)
    with pytest.raises(Misconfigured, match="runs with chain anvil, not eth-tester"):
        daemons.start(folder, Wanted(chain="eth-tester"))
    daemons.down(folder)
    with pytest.raises(
        Misconfigured, match="eth-tester mines with each transaction: it takes no block time"
    ):
        daemons.start(folder, Wanted(chain="eth-tester", block_time=1))


def test_an_anvil_that_does_not_start_is_reported_with_its_log(folder: Path) -> None:
    (folder / "anvil.json").write_text('{"block": {"timestamp": "0x1"}}')  # no state of anvil's
    with pytest.raises(Unavailable, match=r"anvil ended while starting: see .*anvil\.log"):
        daemons.up(folder, outlive=False)
    assert "invalid value" in (folder / "anvil.log").read_text()
