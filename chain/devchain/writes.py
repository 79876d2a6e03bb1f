"""The methods that change the chain: sending transactions, and control of time and blocks."""

from typing import Any

from eth_account.signers.local import LocalAccount

from chain.dev_accounts import DEV_ACCOUNTS, dev_account
from chain.devchain.execution import estimate_gas, read_call
from chain.devchain.fees import SUGGESTED_TIP_WEI
from chain.devchain.formats import hex_bytes
from chain.devchain.node import Node
from chain.devchain.params import read_address, read_bytes, read_quantity
from chain.devchain.rpc_error import invalid_params, refused
from chain.devchain.table import rpc


@rpc("eth_accounts")
def accounts(node: Node) -> list[str]:
    """Return the dev accounts, for which eth_sendTransaction signs."""
    return [dev_account(index).address for index in range(DEV_ACCOUNTS)]


@rpc("eth_sendRawTransaction")
def send_raw_transaction(node: Node, raw: Any) -> str:
    """Mine a signed transaction and return its hash."""
    return hex_bytes(node.submit(read_bytes(raw, "transaction")))


@rpc("eth_sendTransaction")
def send_transaction(node: Node, transaction: Any) -> str:
    """Sign for a dev account, mine, and return the hash; what is left out is filled in."""
    call = read_call(transaction)
    account = _unlocked(call.sender)
    state = node.ledger.state_after(node.ledger.head)
    nonce = transaction.get("nonce")
    if "chainId" in transaction:
        chain_id = read_quantity(transaction["chainId"], "chainId")
        if chain_id != node.ledger.chain_id:
            raise refused(f"invalid chain id: have {chain_id} want {node.ledger.chain_id}")
    gas = call.gas
    if gas is None:
        gas = estimate_gas(node.ledger, call, node.next_header())
    unsigned: dict[str, Any] = {
        "chainId": node.ledger.chain_id,
        "nonce": state.get_nonce(call.sender) if nonce is None else read_quantity(nonce, "nonce"),
        "gas": gas,
        "to": call.to,
        "value": call.value,
        "data": call.data,
        **_fees(node, transaction),
    }
    if call.access_list:
        unsigned["accessList"] = transaction["accessList"]
    return hex_bytes(node.submit(bytes(account.sign_transaction(unsigned).raw_transaction)))


@rpc("evm_mine")
def mine(node: Node, timestamp: Any = None) -> str:
    """Mine an empty block, at the given time if there is one."""
    if isinstance(timestamp, dict):
        timestamp = timestamp.get("timestamp")
    if timestamp is not None:
        node.set_next_timestamp(_read_seconds(timestamp))
    node.mine()
    return "0x0"


@rpc("evm_increaseTime")
def increase_time(node: Node, seconds: Any) -> int:
    """Move the clock forward; return how far it is from the wall clock, in seconds."""
    return node.increase_time(_read_seconds(seconds))


@rpc("evm_setNextBlockTimestamp")
def set_next_block_timestamp(node: Node, timestamp: Any) -> None:
    """Fix the time of the next block; the clock goes on from it. Forgotten at a restart."""
    node.set_next_timestamp(_read_seconds(timestamp))


@rpc("evm_snapshot")
def snapshot(node: Node) -> str:
    """Return an id for evm_revert. Snapshots do not outlive the process."""
    return hex(node.take_snapshot())


@rpc("evm_revert")
def revert(node: Node, snapshot_id: Any) -> bool:
    """Drop the blocks mined since a snapshot, as in a reorganisation; false if it is unknown."""
    return node.revert(read_quantity(snapshot_id, "snapshot"))


def _unlocked(sender: bytes) -> LocalAccount:
    for index in range(DEV_ACCOUNTS):
        if read_address(dev_account(index).address, "from") == sender:
            return dev_account(index)
    raise refused(f"unknown account {hex_bytes(sender)}: only dev accounts are unlocked here")


def _fees(node: Node, transaction: dict[str, Any]) -> dict[str, int]:
    if transaction.get("gasPrice") is not None:
        return {"gasPrice": read_quantity(transaction["gasPrice"], "gasPrice")}
    tip, fee = transaction.get("maxPriorityFeePerGas"), transaction.get("maxFeePerGas")
    most = None if fee is None else read_quantity(fee, "maxFeePerGas")
    if tip is not None:
        tip = read_quantity(tip, "maxPriorityFeePerGas")
    else:
        tip = SUGGESTED_TIP_WEI if most is None else min(SUGGESTED_TIP_WEI, most)
    if most is None:
        # Twice the base fee: enough for six full blocks in a row.
        most = 2 * node.next_header().base_fee_per_gas + tip
    return {"maxFeePerGas": most, "maxPriorityFeePerGas": tip}


def _read_seconds(value: Any) -> int:
    """Return seconds given as a quantity or, as some tools send them, a decimal string."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    seconds = read_quantity(value, "seconds")
    if seconds >= 2**63:
        raise invalid_params("seconds: expected less than 2^63")
    return seconds
