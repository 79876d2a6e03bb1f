"""The dev chain's clock: blocks and views follow the wall clock, and the evm_ methods move it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3

from chain.devchain import DevChain, dev_account
from chain.devchain.clock import Clock
from tests.chain.probe import ABI, CODE

ALICE = dev_account(0).address


@pytest.fixture(scope="module")
def w3() -> Iterator[Web3]:
    with DevChain() as chain:
        yield Web3(Web3.HTTPProvider(chain.url))


@pytest.fixture(scope="module")
def probe(w3: Web3) -> Any:
    sent = w3.eth.contract(abi=ABI, bytecode=CODE).constructor().transact({"from": ALICE})
    return w3.eth.contract(address=w3.eth.get_transaction_receipt(sent)["contractAddress"], abi=ABI)


def ask(w3: Web3, method: str, *params: Any) -> Any:
    return w3.provider.make_request(method, list(params))  # type: ignore[arg-type]


class TestClock:
    @given(
        wall=st.integers(0, 2**40),
        offset=st.integers(-(2**20), 2**20),
        parent=st.integers(0, 2**40),
    )
    def test_never_before_the_parent_nor_behind_the_wall(
        self, wall: int, offset: int, parent: int
    ) -> None:
        clock = Clock(lambda: wall + 0.9)
        clock.offset = offset
        assert clock.next_timestamp(parent) == max(parent + 1, wall + offset)

    def test_a_pinned_time_is_used_once_and_then_runs_on(self) -> None:
        now = [1_000]
        clock = Clock(lambda: now[0])
        clock.pin(5_000)
        assert clock.next_timestamp(900) == clock.next_timestamp(900) == 5_000
        clock.settle()
        now[0] += 7
        assert clock.next_timestamp(5_000) == 5_007

    def test_an_increase_counts_from_the_next_block(self) -> None:
        """A burst of blocks runs ahead of the wall clock; moving the clock must still move time."""
        clock = Clock(lambda: 1_000)
        parent = 1_100
        clock.offset = clock.advanced_offset(parent, 60)
        assert clock.next_timestamp(parent) == 1_101 + 60


class TestChain:
    def test_blocks_carry_the_wall_clock(self, w3: Web3, probe: Any) -> None:
        time.sleep(1.1)  # longer than one second a block, which a chain without a clock would add
        before = int(time.time())
        probe.functions.store(1).transact({"from": ALICE})
        stamp = w3.eth.get_block("latest")["timestamp"]
        assert before <= stamp <= int(time.time()) + 1
        assert probe.functions.storedTime().call() == stamp

    def test_views_see_time_pass_without_a_block(self, w3: Web3, probe: Any) -> None:
        number = w3.eth.block_number
        first = probe.functions.nextBlock().call()
        time.sleep(max(first[0] + 1 - time.time(), 0))
        second = probe.functions.nextBlock().call()
        assert first[0] < second[0] <= int(time.time())
        assert (first[1], second[1], w3.eth.block_number) == (number + 1, number + 1, number)
        at_block = probe.functions.nextBlock().call(block_identifier=number)
        assert at_block[:2] == [w3.eth.get_block(number)["timestamp"], number]

    def test_increase_time(self, w3: Web3, probe: Any) -> None:
        start = probe.functions.nextBlock().call()[0]
        number = w3.eth.block_number
        offset = ask(w3, "evm_increaseTime", 3_600)["result"]
        assert offset + 60 <= ask(w3, "evm_increaseTime", hex(60))["result"] <= offset + 61
        seen = probe.functions.nextBlock().call()[0]
        assert start + 3_660 <= seen <= start + 3_690
        assert w3.eth.block_number == number
        probe.functions.store(2).transact({"from": ALICE})
        assert start + 3_660 <= w3.eth.get_block("latest")["timestamp"] <= start + 3_690

    def test_next_timestamp_is_what_the_call_saw(self, w3: Web3, probe: Any) -> None:
        stamp = w3.eth.get_block("latest")["timestamp"] + 10_000
        ask(w3, "evm_setNextBlockTimestamp", hex(stamp))
        assert probe.functions.nextBlock().call()[0] == stamp
        assert w3.eth.get_block("pending")["timestamp"] == stamp
        expected = probe.functions.nextBlock().call()
        probe.functions.store(3).transact({"from": ALICE})
        block = w3.eth.get_block("latest")
        randao = probe.functions.storedRandao().call()
        assert [block["timestamp"], block["number"], randao] == expected
        ask(w3, "evm_mine")
        assert stamp < w3.eth.get_block("latest")["timestamp"] <= stamp + 30
        late = ask(w3, "evm_setNextBlockTimestamp", hex(stamp))
        assert "is not after the latest block's" in late["error"]["message"]

    def test_mine_at_a_time(self, w3: Web3) -> None:
        stamp = w3.eth.get_block("latest")["timestamp"] + 500
        assert ask(w3, "evm_mine", stamp)["result"] == "0x0"
        assert ask(w3, "evm_mine", {"timestamp": hex(stamp + 9)})["result"] == "0x0"
        assert [w3.eth.get_block(n)["timestamp"] for n in (w3.eth.block_number - 1, "latest")] == [
            stamp,
            stamp + 9,
        ]

    def test_snapshot_and_revert(self, w3: Web3, probe: Any) -> None:
        probe.functions.store(50).transact({"from": ALICE})
        head = w3.eth.get_block("latest")
        nonce = w3.eth.get_transaction_count(ALICE)
        watch = w3.eth.filter("latest")
        snapshot = ask(w3, "evm_snapshot")["result"]
        later = ask(w3, "evm_snapshot")["result"]
        ask(w3, "evm_increaseTime", 10**6)
        sent = probe.functions.store(51).transact({"from": ALICE})
        probe.functions.store(52).transact({"from": ALICE})
        assert len(watch.get_new_entries()) == 2
        assert ask(w3, "evm_revert", snapshot)["result"] is True
        assert w3.eth.get_block("latest") == head
        assert probe.functions.value().call() == 50
        assert w3.eth.get_transaction_count(ALICE) == nonce
        assert probe.functions.nextBlock().call()[0] < head["timestamp"] + 1_000
        assert ask(w3, "eth_getTransactionReceipt", sent.to_0x_hex())["result"] is None
        assert ask(w3, "evm_revert", later)["result"] is False
        probe.functions.store(53).transact({"from": ALICE})
        assert probe.functions.value().call() == 53
        assert w3.eth.get_block(head["number"] + 1)["parentHash"] == head["hash"]
        assert len(w3.eth.get_logs({"fromBlock": head["number"] + 1})) == 1
        assert len(watch.get_new_entries()) == 1
