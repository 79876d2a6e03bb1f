"""Transactions that nothing would mine by itself: holes, foreign ones below, fees, forgetful nodes.

Time passes by blocks that the tests mine, each in a pool of anvil's. What only geth shows is in
tests/real/test_transactions.py.
"""

import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import Web3RPCError

from devnet.accounts import dev_account
from ethereum.fees import Fees
from ethereum.nonces import MOST_PENDING, Call, Flight, Nonces
from ethereum.pool import MOST_GAS
from ethereum.refusals import Refusal, read_refusal
from ethereum.rpc import connect
from ethereum.transactions import NotMined, Receipt, Sender, SendingLimits
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address
from tests.chain.anvil import needs_anvil, running_anvil
from tests.chain.relay import Request, relayed
from tests.chain.sending import GWEI, balance, count, send_from_elsewhere, start, wait_for
from tests.chain.stage import ask

# Nothing here happens because time has passed.
PATIENT = SendingLimits(receipt_seconds=60.0, bump_after_seconds=600.0, displaced_seconds=0.2)


@pytest.fixture
def url() -> Iterator[str]:
    with running_anvil("--no-mining") as url:
        yield url


@pytest.fixture
def w3(url: str) -> Web3:
    return connect(url)


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.from_key(bytes(dev_account(0).key))


@pytest.fixture
def other() -> Address:
    return Wallet.create().address


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def sender(w3: Web3, wallet: Wallet, told: list[str]) -> Sender:
    return Sender(w3, wallet, PATIENT, report=told.append)


def mine_until_sent(w3: Web3, sender: Sender, nonce: int, sent: "Future[Receipt]") -> Receipt:
    """Mine blocks, each once the call has offered again what was lost with the one before."""
    for _ in range(20):
        wait_for(lambda: sent.done() or nonce in pool(w3, sender.address))
        if sent.done():
            break
        ask(w3, "evm_mine")
    return sent.result(timeout=10)


def pool(w3: Web3, address: Address) -> dict[int, Any]:
    """Return the transactions of `address` that wait, in line or behind a hole, by nonce."""
    content = ask(w3, "txpool_content")
    found = {}
    for part in ("queued", "pending"):
        by_account = {each.lower(): waiting for each, waiting in content[part].items()}
        found.update(by_account.get(address.lower(), {}))
    return {int(nonce): each for nonce, each in found.items()}


def set_base_fee(w3: Web3, wei: int) -> None:
    """Mine a block with this base fee."""
    ask(w3, "anvil_setNextBlockBaseFeePerGas", hex(wei))
    ask(w3, "evm_mine")


# ----------------------------------------------------------------------- holes


@needs_anvil
def test_hole_that_a_reorganisation_left_is_filled_with_what_was_there(
    w3: Web3, sender: Sender, other: Address
) -> None:
    first = start(lambda: sender.send(other, b"", 1))
    wait_for(lambda: 0 in pool(w3, sender.address))
    ask(w3, "evm_mine")
    first_hash = first.result(timeout=10).transaction_hash
    second = start(lambda: sender.send(other, b"", 2))
    wait_for(lambda: 1 in pool(w3, sender.address))
    ask(w3, "anvil_rollback", 1)
    ask(w3, "evm_mine")
    assert count(w3, sender.address) == 0
    wait_for(lambda: sorted(pool(w3, sender.address)) == [0, 1])
    assert bytes.fromhex(pool(w3, sender.address)[0]["hash"][2:]) == first_hash
    ask(w3, "evm_mine")
    second.result(timeout=10)
    assert balance(w3, other) == 3


@needs_anvil
def test_hole_below_a_nonce_chosen_too_high_is_filled_with_a_transfer_of_nothing(
    w3: Web3, sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, too_high = w3.eth.get_transaction_count, iter([1])

    def count_once_too_high(who: Any, block: Any = "latest") -> int:
        return counted(who, block) + (next(too_high, 0) if block == "pending" else 0)

    monkeypatch.setattr(w3.eth, "get_transaction_count", count_once_too_high)
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: sorted(pool(w3, sender.address)) == [0, 1])
    filler = pool(w3, sender.address)[0]
    assert filler["to"].lower() == sender.address.lower()
    assert int(filler["value"], 16) == 0
    assert w3.eth.block_number == 0  # without waiting for a block
    ask(w3, "evm_mine")
    assert sent.result(timeout=10).block_number == 1
    assert balance(w3, other) == 7


@needs_anvil
def test_next_call_takes_the_place_of_a_transfer_that_fills_a_hole(
    w3: Web3, sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, too_high = w3.eth.get_transaction_count, iter([1])
    monkeypatch.setattr(
        w3.eth,
        "get_transaction_count",
        lambda who, block: counted(who, block) + (next(too_high, 0) if block == "pending" else 0),
    )
    first = start(lambda: sender.send(other, b"", 1))
    wait_for(lambda: sorted(pool(w3, sender.address)) == [0, 1])
    second = start(lambda: sender.send(other, b"", 2))
    wait_for(lambda: int(pool(w3, sender.address)[0]["value"], 16) == 2)
    assert sorted(pool(w3, sender.address)) == [0, 1]
    ask(w3, "evm_mine")
    assert first.result(timeout=10).block_number == second.result(timeout=10).block_number == 1


# ------------------------------------------------------------- a foreign one below


def hold_up(w3: Web3, wallet: Wallet, nonce: int) -> str:
    """Send from elsewhere what no block has room for, though the pool keeps it."""
    held = send_from_elsewhere(w3, wallet, nonce, gas=1_000_000)
    ask(w3, "evm_setBlockGasLimit", hex(100_000))
    return held


@needs_anvil
@pytest.mark.parametrize("counts_pool", [True, False])
def test_foreign_transaction_below_is_replaced_after_two_blocks_and_named(
    w3: Web3,
    sender: Sender,
    wallet: Wallet,
    other: Address,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    counts_pool: bool,
) -> None:
    if not counts_pool:
        counted = w3.eth.get_transaction_count
        monkeypatch.setattr(w3.eth, "get_transaction_count", lambda who, _: counted(who, "latest"))
    held = hold_up(w3, wallet, 0)
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: sorted(pool(w3, wallet.address)) == [0, 1])
    ask(w3, "evm_mine")
    wait_for(lambda: sorted(pool(w3, wallet.address)) == [0, 1])
    assert pool(w3, wallet.address)[0]["hash"] == held  # it may be somebody's duty
    assert mine_until_sent(w3, sender, 1, sent).block_number <= 6
    assert balance(w3, other) == 7
    [line] = told
    assert f"nonce 0 of {wallet.address} was held by transaction {held}" in line
    assert "replaced by a transfer of nothing" in line


@needs_anvil
def test_foreign_transaction_that_costs_too_much_to_replace_is_named_and_waited_for(
    w3: Web3, wallet: Wallet, other: Address, told: list[str]
) -> None:
    limits = replace(PATIENT, max_fee_per_gas=10 * GWEI)
    sender = Sender(w3, wallet, limits, report=told.append)
    held = hold_up(w3, wallet, 0)
    sent = start(lambda: sender.send(other, b"", 7))
    for _ in range(4):
        wait_for(lambda: sorted(pool(w3, wallet.address)) == [0, 1])  # ours is offered again
        ask(w3, "evm_mine")
    wait_for(lambda: bool(told))
    assert f"held by transaction {held}" in told[0]
    assert "cannot be replaced for 10,000,000,000 wei a unit of gas, the limit" in told[0]
    assert pool(w3, wallet.address)[0]["hash"] == held
    ask(w3, "evm_setBlockGasLimit", hex(30_000_000))
    mine_until_sent(w3, sender, 1, sent)
    assert balance(w3, other) == 7
    assert len(told) == 1


@needs_anvil
def test_what_holds_a_call_up_is_in_its_error(
    w3: Web3, wallet: Wallet, other: Address, told: list[str]
) -> None:
    limits = replace(PATIENT, max_fee_per_gas=10 * GWEI)
    sender = Sender(w3, wallet, limits, report=told.append)
    held = hold_up(w3, wallet, 0)
    sent = start(lambda: sender.send(other, b"", 7))
    while not told:
        wait_for(lambda: bool(told) or sorted(pool(w3, wallet.address)) == [0, 1])
        ask(w3, "evm_mine")
    sender.limits = replace(limits, receipt_seconds=0.0)
    with pytest.raises(NotMined, match=f"look whether .* Meanwhile: nonce 0 .* {held}"):
        sent.result(timeout=30)


@needs_anvil
@pytest.mark.parametrize("connection", ["shared", "another"])
def test_what_another_thread_waits_for_is_never_displaced(
    url: str, w3: Web3, wallet: Wallet, other: Address, connection: str
) -> None:
    far = connect(url.replace("127.0.0.1", "localhost"))
    lower = Sender(w3, wallet, PATIENT)
    upper = Sender(w3 if connection == "shared" else far, wallet, PATIENT)
    first = start(lambda: lower.send(other, b"\x01" * 5_000, 1))
    wait_for(lambda: 0 in pool(w3, wallet.address))
    lower_hash = pool(w3, wallet.address)[0]["hash"]
    ask(w3, "evm_setBlockGasLimit", hex(100_000))  # it has no room now
    second = start(lambda: upper.send(other, b"", 2))
    for _ in range(4):
        wait_for(lambda: sorted(pool(w3, wallet.address)) == [0, 1])
        ask(w3, "evm_mine")
    time.sleep(1.5)
    assert pool(w3, wallet.address)[0]["hash"] == lower_hash
    ask(w3, "evm_setBlockGasLimit", hex(30_000_000))
    mine_until_sent(w3, upper, 1, second)
    assert first.result(timeout=10).transaction_hash == bytes.fromhex(lower_hash[2:])
    assert balance(w3, other) == 3


@needs_anvil
def test_nonce_that_went_elsewhere_is_reported(
    w3: Web3, sender: Sender, wallet: Wallet, other: Address, told: list[str]
) -> None:
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: 0 in pool(w3, wallet.address))
    send_from_elsewhere(w3, wallet, 0, most=10**12, tip=10**11)
    ask(w3, "evm_mine")
    wait_for(lambda: 1 in pool(w3, wallet.address))
    ask(w3, "evm_mine")
    sent.result(timeout=10)
    [line] = told
    assert line.startswith(f"nonce 0 of {wallet.address} went to a transaction from elsewhere")


# ------------------------------------------------------------------------ forgotten


@needs_anvil
def test_forgotten_transaction_is_offered_again_before_the_next_block(
    w3: Web3, sender: Sender, other: Address
) -> None:
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: 0 in pool(w3, sender.address))
    first = pool(w3, sender.address)[0]["hash"]
    ask(w3, "anvil_dropTransaction", first)
    wait_for(lambda: 0 in pool(w3, sender.address))
    assert pool(w3, sender.address)[0]["hash"] == first
    assert w3.eth.block_number == 0
    ask(w3, "evm_mine")
    sent.result(timeout=10)


@needs_anvil
def test_transaction_that_is_taken_but_not_pooled_offers_more_each_block(
    w3: Web3, sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As geth does whose pool is full: it returns a hash and keeps nothing."""
    deliver, offered = w3.eth.send_raw_transaction, list[int]()

    def swallow(raw: bytes) -> None:
        has_room = w3.eth.block_number >= 3
        offered.append(len(offered))  # the next block may come from here on
        if has_room:
            deliver(raw)

    monkeypatch.setattr(w3.eth, "send_raw_transaction", swallow)
    sent = start(lambda: sender.send(other, b"", 7))
    for wanted in (2, 3, 4, 5):
        wait_for(lambda wanted=wanted: len(offered) >= wanted)  # type: ignore[misc]
        ask(w3, "evm_mine")
    receipt = mine_until_sent(w3, sender, 0, sent)
    assert receipt.effective_gas_price > 2 * GWEI  # the tip has risen from one gwei
    assert len(offered) <= 6


# ----------------------------------------------------------------------------- fees


@needs_anvil
def test_base_fee_that_overtakes_a_transaction_is_followed_within_two_blocks(
    w3: Web3, sender: Sender, other: Address
) -> None:
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: 0 in pool(w3, sender.address))
    set_base_fee(w3, 50 * GWEI)
    wait_for(lambda: int(pool(w3, sender.address).get(0, {}).get("maxFeePerGas", "0"), 16) > 0)
    assert int(pool(w3, sender.address)[0]["maxFeePerGas"], 16) > 50 * GWEI
    ask(w3, "evm_mine")
    assert sent.result(timeout=10).block_number == 2


@needs_anvil
def test_fee_stays_at_the_limit_while_gas_costs_more(
    w3: Web3, wallet: Wallet, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender(w3, wallet, replace(PATIENT, max_fee_per_gas=4 * GWEI))
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: 0 in pool(w3, wallet.address))
    set_base_fee(w3, 50 * GWEI)
    read, reads = w3.eth.get_block, list[Any]()

    def get_block(which: Any) -> Any:
        reads.append(which)
        return read(which)

    monkeypatch.setattr(w3.eth, "get_block", get_block)
    wait_for(lambda: len(reads) >= 3)  # one look reads the block twice at most
    sender.limits = replace(sender.limits, receipt_seconds=0.0)
    with pytest.raises(NotMined, match=r"Meanwhile: gas costs .* the limit is 4,000,000,000"):
        sent.result(timeout=30)


def refuse_below(w3: Web3, monkeypatch: pytest.MonkeyPatch, message: str, most: int) -> list[int]:
    """Let the node refuse what offers less than `most`; return a list of what it is offered."""
    deliver, offered = w3.eth.send_raw_transaction, list[int]()

    def send(raw: bytes) -> Any:
        sent = read_fees(raw)
        offered.append(sent.most)
        if sent.most < most:
            told: Any = {"error": {"code": -32000, "message": message}}
            raise Web3RPCError("", rpc_response=told)
        return deliver(raw)

    monkeypatch.setattr(w3.eth, "send_raw_transaction", send)
    return offered


def read_fees(raw: bytes) -> Fees:
    """Return what a signed transaction offers."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return Fees(int(fields["maxPriorityFeePerGas"]), int(fields["maxFeePerGas"]))


@needs_anvil
@pytest.mark.parametrize("message", ["transaction underpriced", "txpool is full"])
def test_pool_that_wants_more_gets_it(
    w3: Web3, sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    offered = refuse_below(w3, monkeypatch, message, 40 * GWEI)
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: 0 in pool(w3, sender.address))
    assert offered == sorted(set(offered))
    assert 40 * GWEI <= offered[-1] < 80 * GWEI
    ask(w3, "evm_mine")
    sent.result(timeout=10)


@needs_anvil
def test_pool_that_wants_more_than_the_limit_is_named(
    w3: Web3, wallet: Wallet, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_below(w3, monkeypatch, "txpool is full", 40 * GWEI)
    thrifty = Sender(w3, wallet, SendingLimits(max_fee_per_gas=20 * GWEI))
    with pytest.raises(Unavailable, match=r"the pool .* the limit is 20,000,000,000: txpool is f"):
        thrifty.send(other, b"", 7)
    monkeypatch.undo()
    sent = start(lambda: thrifty.send(other, b"", 7))
    wait_for(lambda: list(pool(w3, wallet.address)) == [0])  # the nonce was given back
    ask(w3, "evm_mine")
    sent.result(timeout=10)


@needs_anvil
@pytest.mark.parametrize("percent", [10, 25, 100])
def test_replacement_goes_up_until_it_is_taken(
    w3: Web3,
    wallet: Wallet,
    other: Address,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    percent: int,
) -> None:
    journal = tmp_path / "transactions.json"
    with pytest.raises(NotMined):
        Sender(w3, wallet, SendingLimits(receipt_seconds=0.2), journal).send(other, b"", 1)
    wanted = int(pool(w3, wallet.address)[0]["maxFeePerGas"], 16) * (100 + percent) // 100
    refuse_below(w3, monkeypatch, "replacement transaction underpriced", wanted)
    sent = start(lambda: Sender(w3, wallet, PATIENT, journal).send(other, b"", 7))
    wait_for(lambda: int(pool(w3, wallet.address)[0]["value"], 16) == 7)
    assert list(pool(w3, wallet.address)) == [0]
    ask(w3, "evm_mine")
    sent.result(timeout=10)


@needs_anvil
def test_what_cannot_be_overtaken_within_the_limit_is_waited_for(
    w3: Web3, wallet: Wallet, other: Address, tmp_path: Path
) -> None:
    journal, limit = tmp_path / "transactions.json", w3.eth.gas_price + 10
    hasty = SendingLimits(receipt_seconds=0.2, max_fee_per_gas=limit)
    with pytest.raises(NotMined):
        Sender(w3, wallet, hasty, journal).send(other, b"", 1)
    patient = replace(PATIENT, max_fee_per_gas=limit)
    sent = start(lambda: Sender(w3, wallet, patient, journal).send(other, b"", 2))
    wait_for(lambda: sorted(pool(w3, wallet.address)) == [0, 1])
    ask(w3, "evm_mine")
    sent.result(timeout=10)
    assert balance(w3, other) == 3


@needs_anvil
def test_cap_on_fees_is_met_by_offering_less(
    w3: Web3, sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_base_fee(w3, 100 * GWEI)
    base = w3.eth.get_block("pending")["baseFeePerGas"]
    cap = base * 3 // 2
    refuse_above(w3, monkeypatch, cap)
    sent = start(lambda: sender.send(other, b"", 7))
    wait_for(lambda: 0 in pool(w3, sender.address))
    assert base < int(pool(w3, sender.address)[0]["maxFeePerGas"], 16) <= cap
    ask(w3, "evm_mine")
    sent.result(timeout=10)


@needs_anvil
def test_cap_below_what_gas_costs_is_told(
    w3: Web3, sender: Sender, other: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_above(w3, monkeypatch, GWEI // 2)
    with pytest.raises(Unavailable, match=r"refuses 25,200 gas even at .* configured cap"):
        sender.send(other, b"", 7)


def refuse_above(w3: Web3, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    deliver = w3.eth.send_raw_transaction

    def send(raw: bytes) -> Any:
        if read_fees(raw).most > most:
            message = "tx fee (1.06 ether) exceeds the configured cap (1.00 ether)"
            told: Any = {"error": {"code": -32000, "message": message}}
            raise Web3RPCError("", rpc_response=told)
        return deliver(raw)

    monkeypatch.setattr(w3.eth, "send_raw_transaction", send)


# ------------------------------------------------------------------------------ gas


def burner(slots: int) -> bytes:
    """Return the code of a deployment that fills `slots` slots, at 22,100 gas each or more."""
    # PUSH2 slots; loop: JUMPDEST DUP1 DUP1 SSTORE PUSH1 1 SWAP1 SUB DUP1 PUSH1 loop JUMPI STOP
    return bytes.fromhex(f"61{slots:04x}5b8080556001900380600357") + b"\x00"


@needs_anvil
@pytest.mark.parametrize(("slots", "is_capped"), [(500, False), (700, True)])
def test_gas_is_a_fifth_more_than_the_estimate_and_never_too_much_for_a_transaction(
    w3: Web3, sender: Sender, slots: int, is_capped: bool
) -> None:
    request: Any = {"from": Web3.to_checksum_address(sender.address), "data": burner(slots)}
    estimate = w3.eth.estimate_gas(request)
    sent = start(lambda: sender.send(None, burner(slots)))
    wait_for(lambda: 0 in pool(w3, sender.address))
    gas = int(pool(w3, sender.address)[0]["gas"], 16)
    assert estimate < gas == min(estimate * 6 // 5, MOST_GAS)
    assert (gas == MOST_GAS) == is_capped
    ask(w3, "evm_mine")
    sent.result(timeout=10)


@needs_anvil
def test_call_that_no_transaction_has_gas_for(w3: Web3, sender: Sender) -> None:
    with pytest.raises(Misconfigured, match=r"more than 16,777,216 gas .*needs 1[78],\d{3},\d{3}"):
        sender.send(None, burner(770))
    assert pool(w3, sender.address) == {}


# ------------------------------------------------------------- nodes that serve less


@needs_anvil
@pytest.mark.parametrize(
    ("unserved", "tip"),
    [
        (["eth_maxPriorityFeePerGas"], "like the gas price"),
        (["eth_maxPriorityFeePerGas", "eth_feeHistory"], "like the gas price"),
        (["eth_maxPriorityFeePerGas", "eth_feeHistory", "eth_gasPrice"], "none"),
    ],
)
def test_node_without_fee_methods(
    url: str, w3: Web3, wallet: Wallet, other: Address, unserved: list[str], tip: str
) -> None:
    def refuse(request: Request) -> str | None:
        return "the method does not exist" if request["method"] in unserved else None

    base, price = w3.eth.get_block("latest")["baseFeePerGas"], w3.eth.gas_price
    with relayed(url, refuse) as less, warnings.catch_warnings():
        warnings.simplefilter("error")
        sender = Sender(connect(less), wallet, PATIENT)
        sent = start(lambda: sender.send(other, b"", 7))
        wait_for(lambda: 0 in pool(w3, wallet.address))
        offered = int(pool(w3, wallet.address)[0]["maxPriorityFeePerGas"], 16)
        assert offered == (price - base if tip == "like the gas price" else 0)
        ask(w3, "evm_mine")
        sent.result(timeout=10)


@needs_anvil
def test_node_without_the_pending_tag(
    url: str, w3: Web3, wallet: Wallet, other: Address, told: list[str]
) -> None:
    """Two calls in line, and then one that finds its nonce taken by what it cannot see."""

    def refuse(request: Request) -> str | None:
        return "pending is not supported" if "pending" in request["params"] else None

    with relayed(url, refuse) as less:
        sender = Sender(connect(less), wallet, PATIENT, report=told.append)
        sent = [start(lambda: sender.send(other, b"", 1)) for _ in range(2)]
        wait_for(lambda: sorted(pool(w3, wallet.address)) == [0, 1])
        ask(w3, "evm_mine")
        for each in sent:
            each.result(timeout=10)
        foreign = send_from_elsewhere(w3, wallet, 2)
        third = start(lambda: sender.send(other, b"", 2))
        wait_for(lambda: sorted(pool(w3, wallet.address)) == [2, 3])
        assert pool(w3, wallet.address)[2]["hash"] == foreign
        ask(w3, "evm_mine")
        third.result(timeout=10)
    assert balance(w3, other) == 4
    assert told == []


# --------------------------------------------------------------------- words and nonces


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ("already known", Refusal.KNOWN),  # geth, Erigon
        ("transaction already imported", Refusal.KNOWN),  # anvil
        ("AlreadyKnown", Refusal.KNOWN),  # Nethermind
        ("Known transaction", Refusal.KNOWN),  # Besu
        ("existing tx with same hash", Refusal.KNOWN),  # Erigon
        ("nonce too low: next nonce 12, tx nonce 11", Refusal.NONCE),
        ("OldNonce, Current nonce: 12, nonce of rejected tx: 11", Refusal.NONCE),
        ("Nonce too low", Refusal.NONCE),
        ("NonceGap, Future nonce. Expected nonce: 4", Refusal.NONCE),
        ("replacement transaction underpriced", Refusal.OCCUPIED),
        ("Replacement transaction underpriced", Refusal.OCCUPIED),
        ("could not replace existing tx", Refusal.OCCUPIED),
        ("ReplacementNotAllowed", Refusal.OCCUPIED),
        ("transaction underpriced", Refusal.PRICE),
        ("transaction gas price below minimum: gas tip cap 0, minimum needed 1", Refusal.PRICE),
        ("txpool is full", Refusal.PRICE),
        ("future transaction tries to replace pending", Refusal.PRICE),
        ("max fee per gas less than block base fee: address 0x1, maxFeePerGas: 1", Refusal.PRICE),
        ("underpriced", Refusal.PRICE),
        ("fee too low", Refusal.PRICE),
        ("pending sub-pool is full", Refusal.PRICE),
        ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", Refusal.PRICE),
        ("FeeTooLowToCompete", Refusal.PRICE),
        ("Gas price below configured minimum gas price", Refusal.PRICE),
        ("Gas price below current base fee", Refusal.PRICE),
        ("tx fee (1.06 ether) exceeds the configured cap (1.00 ether)", Refusal.FEE_CAP),
        ("Transaction fee cap exceeded", Refusal.FEE_CAP),
        ("insufficient funds for gas * price + value", Refusal.OTHER),
        ("transaction gas limit too high (cap: 16777216, tx: 17676434)", Refusal.OTHER),
        ("max priority fee per gas higher than max fee per gas", Refusal.OTHER),
        ("intrinsic gas too low: gas 21000, minimum needed 53000", Refusal.OTHER),
    ],
)
def test_words_of_a_refusal(message: str, refusal: Refusal) -> None:
    assert read_refusal(message) is refusal


def flight_of(nonce: int) -> Flight:
    return Flight(Call(None, b"", 0), 21_000, nonce, Fees(1, 10), 100)


def test_next_nonce_is_the_lowest_that_is_neither_mined_nor_awaited_nor_unknown() -> None:
    nonces = Nonces()
    assert nonces.choose(5, 5) == (5, None)
    assert nonces.choose(5, 7) == (7, None)  # two of unknown origin wait
    nonces.claim(flight_of(5))
    assert nonces.choose(5, 5) == (6, None)  # the node has forgotten ours
    assert nonces.choose(5, 6, {6}) == (7, None)
    nonces.claim(flight_of(7))
    assert nonces.choose(5, 8) == (8, None)
    assert nonces.choose(5, 6) == (6, None)  # a hole between ours
    assert nonces.choose(8, 7) == (8, None)  # its count of the pool lags behind


def test_false_count_of_the_pool_is_not_believed() -> None:
    assert Nonces().choose(5, 6 + MOST_PENDING) == (5, None)
