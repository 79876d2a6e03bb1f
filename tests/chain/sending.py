"""What tests of waiting transactions have in common, on anvil and on geth."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from web3 import Web3

from ethereum.transactions import Receipt
from ethereum.wallet import Wallet
from protocol.types import Address

GWEI = 10**9


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 60 s"
        time.sleep(0.02)


def start(work: Callable[[], Receipt]) -> "Future[Receipt]":
    threads = ThreadPoolExecutor(1)
    started = threads.submit(work)
    threads.shutdown(wait=False)
    return started


def count(w3: Web3, address: Address, block: Any = "latest") -> int:
    return w3.eth.get_transaction_count(Web3.to_checksum_address(address), block)


def balance(w3: Web3, address: Address) -> int:
    return w3.eth.get_balance(Web3.to_checksum_address(address))


def send_from_elsewhere(
    w3: Web3, wallet: Wallet, nonce: int, most: int = 10 * GWEI, tip: int = 1, gas: int = 21_000
) -> str:
    """Send what the Sender knows nothing of, and return its hash. Fees are in wei a unit of gas."""
    fields: dict[str, Any] = {
        "to": Web3.to_checksum_address(wallet.address),
        "data": b"",
        "value": 0,
        "nonce": nonce,
        "gas": gas,
        "maxFeePerGas": most,
        "maxPriorityFeePerGas": tip,
        "chainId": w3.eth.chain_id,
    }
    raw = wallet.sign(fields)  # type: ignore[arg-type]
    return w3.eth.send_raw_transaction(raw).to_0x_hex()
