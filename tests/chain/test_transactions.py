"""Sending: what is refused, what is sent, and that it is mined once whatever goes wrong."""

import errno
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3RPCError

from contracts.reverts import UNKNOWN, Reverted
from ethereum.fees import Fees
from ethereum.rpc import connect
from ethereum.transactions import NotMined, Receipt, Sender, SendingLimits
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address, RoundId
from tests.chain.anvil import needs_anvil, running_anvil
from tests.chain.sending import balance, wait_for
from tests.chain.stage import Stage, ask, digest

PURSE = 10**18
HURRIED = SendingLimits(receipt_seconds=20.0, bump_after_seconds=0.3, displaced_seconds=0.2)


@pytest.fixture
def other() -> Address:
    return Wallet.create().address


@pytest.fixture
def sender(w3: Web3, wallets: tuple[Wallet, ...]) -> Sender:
    return Sender(w3, wallets[7])


def refusal(message: str) -> Web3RPCError:
    told: Any = {"error": {"code": -32000, "message": message}}
    return Web3RPCError("", rpc_response=told)


def nonce_of(sender: Sender) -> int:
    return sender.w3.eth.get_transaction_count(Web3.to_checksum_address(sender.address))


# ------------------------------------------------------------------- one transaction


def test_receipt_is_what_the_chain_has(sender: Sender, other: Address) -> None:
    receipt = sender.send(other, b"", 5)
    mined = sender.w3.eth.get_transaction(receipt.transaction_hash)  # type: ignore[arg-type]
    block = sender.w3.eth.get_block(receipt.block_number)
    assert str(mined["from"]) == sender.address
    assert mined["type"] == 2
    assert mined["gas"] == 21_000 * 6 // 5
    assert receipt.block_hash == bytes(block["hash"])
    assert receipt.gas_used == 21_000
    tip = mined["maxPriorityFeePerGas"]
    assert receipt.effective_gas_price == block["baseFeePerGas"] + tip
    assert receipt.logs == ()
    assert receipt.contract_address is None
    assert balance(sender.w3, other) == 5


def test_what_reverts_when_estimated_is_not_sent(stage: Stage) -> None:
    sender = stage.outsider.sender
    before = nonce_of(sender), balance(stage.w3, sender.address)
    with pytest.raises(Reverted, match="round 1 is in None"):
        stage.outsider.commit(RoundId(1), digest(1))
    assert (nonce_of(sender), balance(stage.w3, sender.address)) == before


def test_mined_failure_is_decoded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = stage.outsider.sender
    before = nonce_of(sender)
    monkeypatch.setattr(Sender, "_estimate_gas", lambda *_: 200_000)
    with pytest.raises(Reverted, match=r"nothing is credited to .* \(transaction 0x") as caught:
        stage.outsider.withdraw()
    assert caught.value.name == "NothingToWithdraw"
    assert caught.value.arguments == {"account": sender.address}
    assert nonce_of(sender) == before + 1


def test_failure_whose_reason_has_passed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sender, "_estimate_gas", lambda *_: 200_000)
    monkeypatch.setattr(stage.w3.eth, "call", lambda *_: b"")
    with pytest.raises(Reverted, match="does not when called again") as caught:
        stage.outsider.withdraw()
    assert caught.value.name == UNKNOWN


def test_running_out_of_gas(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sender, "_estimate_gas", lambda *_: 30_000)
    with pytest.raises(Reverted, match="it ran out of its 30,000 gas") as caught:
        stage.participants[0].join()
    assert caught.value.name == "OutOfGas"


def test_wallet_that_cannot_pay(w3: Web3, stage: Stage) -> None:
    poor = Sender(w3, Wallet.create())
    with pytest.raises(Misconfigured, match=f"{poor.address} holds 0 wei, .* may cost [0-9,]+"):
        poor.send(stage.token.address, bytes.fromhex("313ce567"))  # decimals()


def test_fee_limit(w3: Web3, wallets: tuple[Wallet, ...], other: Address) -> None:
    thrifty = Sender(w3, wallets[7], SendingLimits(max_fee_per_gas=10))
    with pytest.raises(Unavailable, match=r"gas costs .* the limit is 10: wait or raise it"):
        thrifty.send(other, b"", 1)
    assert balance(w3, other) == 0


# ------------------------------------------------------------------------ nonces


def test_wallet_used_over_two_connections(
    rpc_url: str, wallets: tuple[Wallet, ...], other: Address
) -> None:
    senders = [Sender(connect(rpc_url), wallets[7]) for _ in range(2)]
    for turn in range(4):
        senders[turn % 2].send(other, b"", 1)
    assert balance(senders[0].w3, other) == 4


def test_node_that_lags_behind(
    sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the same fees the same call under the same nonce is a transaction that is mined."""
    monkeypatch.setattr("ethereum.pool.going_fees", lambda *_: Fees(1, 10**10))
    sender.send(other, b"", 1)
    counted = sender.w3.eth.get_transaction_count
    lags = iter([1, 1])  # "nonce too low", twice

    def count(*arguments: Any) -> int:
        return counted(*arguments) - next(lags, 0)

    monkeypatch.setattr(sender.w3.eth, "get_transaction_count", count)
    sender.send(other, b"", 1)
    assert balance(sender.w3, other) == 2


@pytest.mark.parametrize(
    "failure",
    [
        refusal("already known"),
        Unavailable("the line broke"),
    ],
)
def test_sent_but_said_to_have_failed(
    sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    deliver = sender.w3.eth.send_raw_transaction

    def send(raw: bytes) -> None:
        deliver(raw)
        raise failure

    before = nonce_of(sender)
    monkeypatch.setattr(sender.w3.eth, "send_raw_transaction", send)
    assert sender.send(other, b"", 3).gas_used == 21_000
    assert balance(sender.w3, other) == 3
    assert nonce_of(sender) == before + 1


def test_line_that_breaks_while_waiting(
    sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[Callable[..., Any]] = iter(
        [lambda _: _raise(Unavailable("down")), lambda _: _raise(TransactionNotFound("not yet"))]
    )
    found = sender.w3.eth.get_transaction_receipt
    monkeypatch.setattr(
        sender.w3.eth, "get_transaction_receipt", lambda each: next(answers, found)(each)
    )
    sender.send(other, b"", 1)
    assert balance(sender.w3, other) == 1


def _raise(error: Exception) -> None:
    raise error


def test_refusal_is_told(sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = refusal("transaction type\nnot supported")
    monkeypatch.setattr(sender.w3.eth, "send_raw_transaction", lambda _: _raise(failure))
    with pytest.raises(Unavailable, match="refuses the transaction: transaction type not supp"):
        sender.send(other, b"", 1)


def test_nonce_that_never_fits(
    sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = refusal("nonce too low")
    monkeypatch.setattr(sender.w3.eth, "send_raw_transaction", lambda _: _raise(failure))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(Unavailable, match=f"takes no nonce of {sender.address}, the last tried"):
        sender.send(other, b"", 1)


def test_four_threads_and_one_wallet(w3: Web3, wallets: tuple[Wallet, ...], other: Address) -> None:
    senders = [Sender(w3, wallets[7]) for _ in range(4)]
    before = nonce_of(senders[0])

    def send(turn: int) -> Receipt:
        return senders[turn % 4].send(other, b"", 1)

    with ThreadPoolExecutor(4) as threads:
        receipts = list(threads.map(send, range(16)))
    assert balance(w3, other) == 16
    assert nonce_of(senders[0]) == before + 16
    assert len({each.transaction_hash for each in receipts}) == 16


# ----------------------------------------------------- a pool whose blocks do not come


@pytest.fixture(scope="module")
def idle_chain() -> Iterator[str]:
    with running_anvil("--no-mining") as url:
        yield url


@pytest.fixture
def idle(idle_chain: str, wallets: tuple[Wallet, ...]) -> Iterator[Sender]:
    yield Sender(connect(idle_chain), wallets[0], HURRIED)
    ask(connect(idle_chain), "anvil_dropAllTransactions")


def pool(w3: Web3, address: Address) -> dict[int, Any]:
    """Return the transactions of `address` that wait to be mined, by nonce."""
    pending = ask(w3, "txpool_content")["pending"]
    waiting = {each.lower(): found for each, found in pending.items()}.get(address.lower(), {})
    return {int(nonce): found for nonce, found in waiting.items()}


def start(work: Callable[[], Receipt]) -> "Future[Receipt]":
    threads = ThreadPoolExecutor(1)
    started = threads.submit(work)
    threads.shutdown(wait=False)
    return started


@needs_anvil
def test_stuck_transaction_is_bumped(idle: Sender, other: Address) -> None:
    w3, nonce = idle.w3, nonce_of(idle)
    sent = start(lambda: idle.send(other, b"", 7))
    wait_for(lambda: nonce in pool(w3, idle.address))
    first = pool(w3, idle.address)[nonce]
    wait_for(lambda: pool(w3, idle.address)[nonce]["hash"] != first["hash"])
    second = pool(w3, idle.address)[nonce]
    for fee in ("maxFeePerGas", "maxPriorityFeePerGas"):
        assert int(second[fee], 16) >= int(first[fee], 16) * 1.125
    assert second["value"] == first["value"]
    assert list(pool(w3, idle.address)) == [nonce]
    ask(w3, "evm_mine")
    receipt = sent.result(timeout=10)
    assert receipt.transaction_hash != bytes.fromhex(first["hash"][2:])
    assert balance(w3, other) == 7
    assert nonce_of(idle) == nonce + 1


@needs_anvil
def test_fee_is_not_bumped_past_the_limit(
    idle: Sender, wallets: tuple[Wallet, ...], other: Address
) -> None:
    w3, nonce = idle.w3, nonce_of(idle)
    base = w3.eth.get_block("latest")["baseFeePerGas"]
    limit = base + w3.eth.max_priority_fee + 1
    careful = Sender(w3, wallets[0], SendingLimits(20.0, 0.1, 0.2, max_fee_per_gas=limit))
    sent = start(lambda: careful.send(other, b"", 7))
    wait_for(lambda: nonce in pool(w3, idle.address))
    time.sleep(0.5)
    assert int(pool(w3, idle.address)[nonce]["maxFeePerGas"], 16) == limit
    ask(w3, "anvil_dropAllTransactions")
    wait_for(lambda: nonce in pool(w3, idle.address))  # offered again, as it was dropped
    ask(w3, "evm_mine")
    sent.result(timeout=10)
    assert balance(w3, other) == 7


@needs_anvil
def test_nonce_taken_from_elsewhere(
    idle: Sender, wallets: tuple[Wallet, ...], other: Address
) -> None:
    w3, nonce = idle.w3, nonce_of(idle)
    sent = start(lambda: idle.send(other, b"", 7))
    wait_for(lambda: nonce in pool(w3, idle.address))
    rival: dict[str, Any] = {"to": other, "value": 1, "nonce": nonce, "gas": 21_000}
    fees = {"maxFeePerGas": 10**12, "maxPriorityFeePerGas": 10**11, "chainId": w3.eth.chain_id}
    w3.eth.send_raw_transaction(wallets[0].sign({**rival, **fees}))  # type: ignore[typeddict-item]
    ask(w3, "evm_mine")
    wait_for(lambda: nonce + 1 in pool(w3, idle.address))
    ask(w3, "evm_mine")
    sent.result(timeout=10)
    assert balance(w3, other) == 8


@needs_anvil
@pytest.mark.parametrize("counts_pool", [True, False])
def test_threads_share_a_pool_without_a_gap(
    idle: Sender,
    wallets: tuple[Wallet, ...],
    other: Address,
    monkeypatch: pytest.MonkeyPatch,
    counts_pool: bool,
) -> None:
    w3, nonce = idle.w3, nonce_of(idle)
    if not counts_pool:  # as nodes do that lag behind, or forget other nodes' transactions
        count = w3.eth.get_transaction_count
        monkeypatch.setattr(w3.eth, "get_transaction_count", lambda who, _="": count(who, "latest"))
    sent = [start(lambda: Sender(w3, wallets[0]).send(other, b"", 1)) for _ in range(4)]
    wait_for(lambda: sorted(pool(w3, idle.address)) == list(range(nonce, nonce + 4)))
    ask(w3, "evm_mine")
    assert {each.result(timeout=10).block_number for each in sent} == {w3.eth.block_number}
    assert balance(w3, other) == 4


@needs_anvil
def test_not_mined_in_time(idle: Sender, wallets: tuple[Wallet, ...], other: Address) -> None:
    nonce = nonce_of(idle)
    hasty = Sender(idle.w3, wallets[0], SendingLimits(receipt_seconds=0.2))
    with pytest.raises(NotMined, match=r"nonce \d+\) was not mined within 0.2 s: look") as caught:
        hasty.send(other, b"", 1)
    assert caught.value.nonce == nonce
    waiting = pool(idle.w3, idle.address)[nonce]
    assert bytes.fromhex(waiting["hash"][2:]) == caught.value.transaction_hash


@needs_anvil
def test_what_waits_from_before_a_restart_is_overtaken(
    idle_chain: str, idle: Sender, wallets: tuple[Wallet, ...], other: Address, tmp_path: Path
) -> None:
    journal, nonce = tmp_path / "state" / "transactions.json", nonce_of(idle)
    hasty = SendingLimits(receipt_seconds=0.2)
    far = connect(idle_chain.replace("127.0.0.1", "localhost"))  # shares only the journal
    killed = Sender(far, wallets[0], hasty, journal)
    with pytest.raises(NotMined):
        killed.send(other, b"", 1)
    first = pool(idle.w3, idle.address)[nonce]
    assert list(json.loads(journal.read_text())) == [str(nonce)]

    restarted = Sender(connect(idle_chain), wallets[0], HURRIED, journal)
    sent = start(lambda: restarted.send(other, b"", 7))
    wait_for(lambda: pool(idle.w3, idle.address)[nonce]["hash"] != first["hash"])
    waiting = pool(idle.w3, idle.address)
    assert list(waiting) == [nonce]
    assert int(waiting[nonce]["maxFeePerGas"], 16) >= int(first["maxFeePerGas"], 16) * 1.125
    ask(idle.w3, "evm_mine")
    sent.result(timeout=10)
    assert balance(idle.w3, other) == 7
    assert json.loads(journal.read_text()) == {}


@needs_anvil
def test_after_a_restart_what_was_mined_meanwhile_is_let_be(
    idle_chain: str, idle: Sender, wallets: tuple[Wallet, ...], other: Address, tmp_path: Path
) -> None:
    journal, nonce = tmp_path / "transactions.json", nonce_of(idle)
    far = connect(idle_chain.replace("127.0.0.1", "localhost"))  # shares only the journal
    killed = Sender(far, wallets[0], SendingLimits(receipt_seconds=0.2), journal)
    with pytest.raises(NotMined):
        killed.send(other, b"", 1)
    ask(idle.w3, "evm_mine")
    restarted = Sender(connect(idle_chain), wallets[0], HURRIED, journal)
    sent = start(lambda: restarted.send(other, b"", 7))
    wait_for(lambda: nonce + 1 in pool(idle.w3, idle.address))
    ask(idle.w3, "evm_mine")
    sent.result(timeout=10)
    assert balance(idle.w3, other) == 8


def test_a_damaged_journal_costs_nothing(
    rpc_url: str, wallets: tuple[Wallet, ...], other: Address, tmp_path: Path
) -> None:
    journal = tmp_path / "transactions.json"
    journal.write_text('{"3": ["x"')
    sender = Sender(connect(rpc_url), wallets[7], journal=journal)
    sender.send(other, b"", 1)
    assert balance(sender.w3, other) == 1
    assert json.loads(journal.read_text()) == {}


@pytest.mark.parametrize(("full_at", "sent"), [(1, 2), (2, 3)])
def test_a_full_disk_neither_blocks_nonces_nor_hides_what_was_mined(
    rpc_url: str,
    wallets: tuple[Wallet, ...],
    other: Address,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_at: int,
    sent: int,
) -> None:
    """The journal is written before a transaction is sent, and once it is mined."""
    replace, calls = os.replace, itertools.count(1)

    def replace_unless_full(source: Path, target: Path) -> None:
        if next(calls) == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_unless_full)
    sender = Sender(connect(rpc_url), wallets[7], HURRIED, tmp_path / "transactions.json")
    receipts = []
    for _ in range(3):
        with suppress(Unavailable):
            receipts.append(sender.send(other, b"", 1))
    assert len(receipts) == sent
    assert balance(sender.w3, other) == sent
