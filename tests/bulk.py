"""Transactions that tests need done and do not test: signed and sent without asking the node first.

    send_all(w3, [(sponsor, token, transfer_of(ann, 100)), (sponsor, token, transfer_of(bob, 100))])

For each transaction a `Sender` asks for gas, fees, nonces and a receipt, some nine requests. A
world's founding has a dozen whose outcome is known, and nobody else sends for their wallets.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from web3 import Web3

from contracts.compiler import load_artifact
from ethereum.wallet import Wallet
from protocol.types import Address, TokenUnits

Call = tuple[Wallet, Address, str]
"""Who sends, to which contract, and the encoded call as hex digits."""

_GAS: Final = 1_000_000  # a join takes 150,000
_FEES: Final = {"maxFeePerGas": 1_000 * 10**9, "maxPriorityFeePerGas": 10**9}  # wei
_TIMEOUT_S: Final = 60.0


def send_all(w3: Web3, calls: Sequence[Call]) -> None:
    """Send calls in their order, and return when all are mined.

    The last one of each wallet must succeed.
    """
    chain_id = w3.eth.chain_id
    nonces: dict[Wallet, int] = {}
    last: dict[Wallet, Any] = {}
    for wallet, to, data in calls:
        if wallet not in nonces:
            sender = w3.to_checksum_address(wallet.address)
            nonces[wallet] = w3.eth.get_transaction_count(sender, "pending")
        fields: Any = {
            "chainId": chain_id,
            "to": to,
            "data": data,
            "value": 0,
            "gas": _GAS,
            "nonce": nonces[wallet],
            **_FEES,
        }
        last[wallet] = w3.eth.send_raw_transaction(wallet.sign(fields))
        nonces[wallet] += 1
    for wallet, sent in last.items():
        receipt = w3.eth.wait_for_transaction_receipt(sent, _TIMEOUT_S, poll_latency=0.02)
        assert receipt["status"] == 1, f"a transaction of {wallet.address} failed: {receipt}"


def transfer_of(to: Address, amount: TokenUnits) -> str:
    """Return a transfer of tokens, encoded."""
    return _encode("DevToken", "transfer", to, amount)


def approval_of(spender: Address, amount: TokenUnits) -> str:
    """Return an approval of tokens, encoded."""
    return _encode("DevToken", "approve", spender, amount)


def funding_of(amount: TokenUnits) -> str:
    """Return a payment into a federation's escrow, encoded."""
    return _encode("Federation", "fund", amount)


def joining() -> str:
    """Return what joins a federation that asks for no invitation, encoded."""
    return _encode("Federation", "join", 0, b"")


# A world's terms and addresses come back in many tests; web3 takes milliseconds to encode a call.
@cache
def _encode(artifact: str, name: str, *values: object) -> str:
    abi = [entry for entry in load_artifact(artifact)["abi"] if entry.get("name") == name]
    return str(Web3().eth.contract(abi=abi).encode_abi(name, args=values))
