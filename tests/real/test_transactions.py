"""Sending on geth: what its pool does to transactions, and what anvil's does not."""

from dataclasses import replace
from pathlib import Path

import pytest
from web3 import Web3

from devnet.accounts import dev_account
from ethereum.pool import MOST_GAS
from ethereum.rpc import connect
from ethereum.transactions import Sender, SendingLimits
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address
from tests.chain.sending import GWEI, balance, count, send_from_elsewhere, start, wait_for
from tests.chain.stage import ask
from tests.real.geth import Geth, running_geth

# Nothing here happens because time has passed.
PATIENT = SendingLimits(receipt_seconds=120.0, bump_after_seconds=600.0, displaced_seconds=1.0)
# Without this geth returns a hash for what its pool refuses.
FRANK = "--txpool.nolocals"
TINY_POOL = (
    *("--txpool.globalslots", "2", "--txpool.accountslots", "1"),
    *("--txpool.globalqueue", "1", "--txpool.accountqueue", "1"),
)


@pytest.fixture
def wallet() -> Wallet:
    return dev_wallet(0)


@pytest.fixture
def other() -> Address:
    return Wallet.create().address


def dev_wallet(index: int) -> Wallet:
    return Wallet.from_key(bytes(dev_account(index).key))


def base_fee(w3: Web3) -> int:
    return int(w3.eth.get_block("latest")["baseFeePerGas"])


def await_block(w3: Web3) -> None:
    """Return just after a block, so that much can be done before the next."""
    before = w3.eth.block_number
    wait_for(lambda: w3.eth.block_number > before)


def test_hole_that_a_reorganisation_left(wallet: Wallet, other: Address) -> None:
    with running_geth(FRANK, period=3) as url:
        w3 = connect(url)
        sender = Sender(w3, wallet, PATIENT)
        first = sender.send(other, b"", 1)
        sent = start(lambda: sender.send(other, b"", 2))
        wait_for(
            lambda: count(w3, wallet.address, "pending") == 2 and count(w3, wallet.address) == 1
        )
        ask(w3, "debug_setHead", hex(first.block_number - 1))
        assert sent.result(timeout=60).block_number <= first.block_number + 2
        assert balance(w3, other) == 3


def test_hole_below_a_nonce_chosen_too_high(
    wallet: Wallet, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_geth(FRANK) as url:
        w3 = connect(url)
        counted, too_high = w3.eth.get_transaction_count, iter([1])
        monkeypatch.setattr(
            w3.eth,
            "get_transaction_count",
            lambda who, block: (
                counted(who, block) + (next(too_high, 0) if block == "pending" else 0)
            ),
        )
        before = w3.eth.block_number
        assert Sender(w3, wallet, PATIENT).send(other, b"", 1).block_number <= before + 3
        assert counted(Web3.to_checksum_address(wallet.address), "latest") == 2


def test_foreign_transaction_below_with_too_low_a_fee(wallet: Wallet, other: Address) -> None:
    with running_geth(FRANK) as url:
        w3, told = connect(url), list[str]()
        held = send_from_elsewhere(w3, wallet, 0, most=1_000)
        before = w3.eth.block_number
        receipt = Sender(w3, wallet, PATIENT, report=told.append).send(other, b"", 7)
        assert receipt.block_number <= before + 6
        assert balance(w3, other) == 7
        [line] = told
        assert f"nonce 0 of {wallet.address} was held by transaction {held}" in line


def test_foreign_transaction_below_that_a_node_does_not_show(
    wallet: Wallet, other: Address
) -> None:
    with running_geth(FRANK, "--http.api", "eth,net,web3") as url:
        w3, told = connect(url), list[str]()
        send_from_elsewhere(w3, wallet, 0, most=1_000)
        Sender(w3, wallet, PATIENT, report=told.append).send(other, b"", 7)
        assert balance(w3, other) == 7
        assert "held by transaction that the node does not show, not from here" in told[0]


def test_node_that_has_forgotten_what_waits(wallet: Wallet, other: Address, tmp_path: Path) -> None:
    """It stops with an empty journal; what it was sent is then nowhere."""
    with Geth(tmp_path, FRANK, "--txpool.journal", "", period=5) as geth:
        w3 = connect(geth.url)
        await_block(w3)
        sent = start(lambda: Sender(w3, wallet, PATIENT).send(other, b"", 7))
        wait_for(lambda: count(w3, wallet.address, "pending") == 1)
        before = geth.height()
        geth.stop()
        geth.start()
        assert geth.height() <= before + 1
        assert sent.result(timeout=60).block_number <= before + 3


def test_full_pool_gets_what_it_asks_for(wallet: Wallet, other: Address) -> None:
    with running_geth(FRANK, *TINY_POOL, "--txpool.pricebump", "25", period=10) as url:
        w3 = connect(url)
        await_block(w3)
        before = fill_pool(w3)
        sent = start(lambda: Sender(w3, wallet, PATIENT).send(other, b"", 7))
        wait_for(lambda: count(w3, wallet.address, "pending") == 1)
        assert w3.eth.block_number == before  # still full: it has displaced one of the others
        receipt = sent.result(timeout=60)
        assert receipt.block_number == before + 1
        assert receipt.effective_gas_price > 30 * GWEI


def test_full_pool_that_asks_for_more_than_the_limit(wallet: Wallet, other: Address) -> None:
    with running_geth(FRANK, *TINY_POOL, period=10) as url:
        w3 = connect(url)
        await_block(w3)
        fill_pool(w3)
        thrifty = Sender(w3, wallet, replace(PATIENT, max_fee_per_gas=10 * GWEI))
        with pytest.raises(Unavailable, match=r"the pool .* 10,000,000,000: transaction underpr"):
            thrifty.send(other, b"", 7)


def test_full_pool_that_says_nothing(wallet: Wallet, other: Address) -> None:
    with running_geth(*TINY_POOL, period=5) as url:
        w3 = connect(url)
        await_block(w3)
        before = fill_pool(w3)
        receipt = Sender(w3, wallet, PATIENT).send(other, b"", 7)
        assert before < receipt.block_number <= before + 3


def fill_pool(w3: Web3) -> int:
    """Fill the tiny pool with transactions of others, and return the latest block."""
    for index in (1, 2, 3):
        send_from_elsewhere(w3, dev_wallet(index), 0, most=60 * GWEI, tip=30 * GWEI)
    assert ask(w3, "txpool_status") == {"pending": "0x3", "queued": "0x0"}
    return w3.eth.block_number


@pytest.mark.parametrize("percent", ["10", "25", "100"])
def test_replacement_goes_up_until_it_is_taken(
    wallet: Wallet, other: Address, percent: str
) -> None:
    with running_geth(FRANK, "--txpool.pricebump", percent, period=5) as url:
        w3 = connect(url)
        await_block(w3)
        limits = replace(PATIENT, bump_after_seconds=0.2)
        sent = start(lambda: Sender(w3, wallet, limits).send(other, b"", 7))
        wait_for(lambda: count(w3, wallet.address, "pending") == 1)
        first = waiting(w3, wallet)
        wait_for(lambda: waiting(w3, wallet) > first)
        assert waiting(w3, wallet) * 100 >= first * (100 + int(percent))
        sent.result(timeout=60)


def waiting(w3: Web3, wallet: Wallet) -> int:
    """Return the most that the wallet's waiting transaction pays for a unit of gas, in wei."""
    found = ask(w3, "txpool_contentFrom", wallet.address)["pending"]
    assert found, "it was mined before it was raised"
    return int(found["0"]["maxFeePerGas"], 16)


def burner(slots: int) -> bytes:
    """Return the code of a deployment that fills `slots` slots, at 22,100 gas each or more."""
    # PUSH2 slots; loop: JUMPDEST DUP1 DUP1 SSTORE PUSH1 1 SWAP1 SUB DUP1 PUSH1 loop JUMPI STOP
    return bytes.fromhex(f"61{slots:04x}5b8080556001900380600357") + b"\x00"


def test_gas_limits(wallet: Wallet) -> None:
    with running_geth(FRANK) as url:
        sender = Sender(connect(url), wallet, PATIENT)
        receipt = sender.send(None, burner(700))
        assert 14_000_000 < receipt.gas_used < MOST_GAS < receipt.gas_used * 6 // 5
        with pytest.raises(Misconfigured, match=r"more than 16,777,216 gas .*needs more than that"):
            sender.send(None, burner(760))


def test_cap_on_fees_is_met_by_offering_less(wallet: Wallet, other: Address) -> None:
    """25,200 gas at twice the base fee of a new chain, 2 gwei, are 0.00005 ether."""
    with running_geth(FRANK, "--rpc.txfeecap", "0.00003") as url:
        w3 = connect(url)
        cost = 25_200 * (2 * base_fee(w3) + w3.eth.max_priority_fee)
        assert cost > 0.00003 * 10**18
        assert Sender(w3, wallet, PATIENT).send(other, b"", 7).block_number <= 4
