"""The methods that read blocks, transactions, logs and state."""

from typing import Any

from eth_utils.crypto import keccak

from chain.devchain.execution import estimate_gas, read_call, run_call
from chain.devchain.filters import Filter, block_filter, log_filter, transaction_filter
from chain.devchain.formats import (
    block_json,
    hex_bytes,
    pending_json,
    receipt_json,
    transaction_json,
)
from chain.devchain.ledger import Block
from chain.devchain.logs import read_log_query, select_logs
from chain.devchain.node import Node
from chain.devchain.params import (
    BlockReference,
    read_address,
    read_block,
    read_bytes,
    read_flag,
    read_quantity,
)
from chain.devchain.rpc_error import invalid_params, refused
from chain.devchain.table import rpc

CLIENT_VERSION = "Commonweight-devchain/1 (eth-tester, py-evm)"


@rpc("web3_clientVersion")
def client_version(node: Node) -> str:
    """Return the name of this program."""
    return CLIENT_VERSION


@rpc("web3_sha3")
def sha3(node: Node, data: Any) -> str:
    """Return keccak256 of data."""
    return hex_bytes(keccak(read_bytes(data, "data")))


@rpc("eth_chainId")
def chain_id(node: Node) -> str:
    """Return the chain id of EIP-155."""
    return hex(node.ledger.chain_id)


@rpc("net_version")
def net_version(node: Node) -> str:
    """Return the chain id as a decimal string."""
    return str(node.ledger.chain_id)


@rpc("net_listening")
def net_listening(node: Node) -> bool:
    """Return true: requests are answered."""
    return True


@rpc("eth_syncing")
def syncing(node: Node) -> bool:
    """Return false: there is nobody to catch up with."""
    return False


@rpc("eth_blockNumber")
def block_number(node: Node) -> str:
    """Return the number of the newest block."""
    return hex(node.ledger.head.number)


@rpc("eth_getBlockByNumber")
def block_by_number(node: Node, block: Any, full: Any = False) -> dict[str, Any] | None:
    """Return a block, or null."""
    reference = read_block(block)
    is_full = read_flag(full, "full transactions")
    if reference.tag == "pending":
        return pending_json(node.next_header())
    found = node.find_block_or_none(reference)
    return None if found is None else block_json(found, is_full)


@rpc("eth_getBlockByHash")
def block_by_hash(node: Node, block_hash: Any, full: Any = False) -> dict[str, Any] | None:
    """Return a block, or null."""
    found = node.ledger.block_by_hash(read_bytes(block_hash, "block hash", 32))
    is_full = read_flag(full, "full transactions")
    return None if found is None else block_json(found, is_full)


@rpc("eth_getBlockTransactionCountByNumber")
def transaction_count_by_number(node: Node, block: Any) -> str | None:
    """Return how many transactions a block has, or null."""
    found = node.find_block_or_none(read_block(block))
    return None if found is None else hex(len(found.transactions))


@rpc("eth_getBlockTransactionCountByHash")
def transaction_count_by_hash(node: Node, block_hash: Any) -> str | None:
    """Return how many transactions a block has, or null."""
    found = node.ledger.block_by_hash(read_bytes(block_hash, "block hash", 32))
    return None if found is None else hex(len(found.transactions))


@rpc("eth_getBlockReceipts")
def block_receipts(node: Node, block: Any) -> list[dict[str, Any]] | None:
    """Return the receipts of a block, or null."""
    found = node.find_block_or_none(read_block(block))
    return None if found is None else [receipt_json(item, found) for item in found.transactions]


@rpc("eth_getTransactionByHash")
def transaction_by_hash(node: Node, transaction_hash: Any) -> dict[str, Any] | None:
    """Return a transaction, or null."""
    item = node.ledger.transaction(read_bytes(transaction_hash, "transaction hash", 32))
    return None if item is None else transaction_json(item, node.ledger.blocks[item.block_number])


@rpc("eth_getTransactionByBlockNumberAndIndex")
def transaction_by_place(node: Node, block: Any, index: Any) -> dict[str, Any] | None:
    """Return a transaction, or null."""
    return _transaction_at(node.find_block_or_none(read_block(block)), index)


@rpc("eth_getTransactionByBlockHashAndIndex")
def transaction_by_hash_place(node: Node, block_hash: Any, index: Any) -> dict[str, Any] | None:
    """Return a transaction, or null."""
    found = node.ledger.block_by_hash(read_bytes(block_hash, "block hash", 32))
    return _transaction_at(found, index)


@rpc("eth_getTransactionReceipt")
def transaction_receipt(node: Node, transaction_hash: Any) -> dict[str, Any] | None:
    """Return a receipt, or null."""
    item = node.ledger.transaction(read_bytes(transaction_hash, "transaction hash", 32))
    return None if item is None else receipt_json(item, node.ledger.blocks[item.block_number])


@rpc("eth_getBalance")
def balance(node: Node, address: Any, block: Any = None) -> str:
    """Return an account's balance in wei."""
    return hex(_state(node, block).get_balance(read_address(address, "address")))


@rpc("eth_getTransactionCount")
def transaction_count(node: Node, address: Any, block: Any = None) -> str:
    """Return an account's next nonce; nothing waits here, so "pending" is the same as "latest"."""
    return hex(_state(node, block).get_nonce(read_address(address, "address")))


@rpc("eth_getCode")
def code(node: Node, address: Any, block: Any = None) -> str:
    """Return a contract's code."""
    return hex_bytes(_state(node, block).get_code(read_address(address, "address")))


@rpc("eth_getStorageAt")
def storage_at(node: Node, address: Any, slot: Any, block: Any = None) -> str:
    """Return a storage slot as 32 bytes."""
    position = read_quantity(slot, "slot")
    if position >= 2**256:
        raise invalid_params("slot: expected at most 32 bytes")
    value: int = _state(node, block).get_storage(read_address(address, "address"), position)
    return hex_bytes(value.to_bytes(32, "big"))


@rpc("eth_call")
def call(node: Node, transaction: Any, block: Any = None, overrides: Any = None) -> str:
    """Return what a call returns, without mining it."""
    if overrides:
        raise invalid_params("eth_call: state overrides are not supported")
    outcome = run_call(node.ledger, read_call(transaction), node.call_header(read_block(block)))
    outcome.raise_error()
    return hex_bytes(outcome.output)


@rpc("eth_estimateGas")
def estimate(node: Node, transaction: Any, block: Any = None, overrides: Any = None) -> str:
    """Return the gas that a transaction needs."""
    if overrides:
        raise invalid_params("eth_estimateGas: state overrides are not supported")
    header = node.call_header(read_block(block))
    return hex(estimate_gas(node.ledger, read_call(transaction), header))


@rpc("eth_getLogs")
def get_logs(node: Node, criteria: Any) -> list[dict[str, Any]]:
    """Return the logs of a block or a range of blocks."""
    query = read_log_query(criteria)
    if criteria.get("blockHash") is not None:
        if criteria.get("fromBlock") is not None or criteria.get("toBlock") is not None:
            raise invalid_params("filter: blockHash goes without fromBlock and toBlock")
        blocks = [node.find_block(read_block(criteria["blockHash"]))]
    else:
        # From the block after the newest to "latest" is how clients poll: that is empty, no error.
        first = block_height(node, criteria.get("fromBlock"))
        last = block_height(node, criteria.get("toBlock"))
        blocks = node.ledger.blocks[first : last + 1]
    return list(select_logs(blocks, query))


@rpc("eth_newFilter")
def new_filter(node: Node, criteria: Any) -> str:
    """Install a filter for logs of blocks mined from now on; return its id."""
    if not isinstance(criteria, dict):
        raise invalid_params("filter: expected an object")
    end = read_block(criteria.get("toBlock")).number
    return _install(node, log_filter(criteria, block_height(node, criteria.get("fromBlock")), end))


@rpc("eth_newBlockFilter")
def new_block_filter(node: Node) -> str:
    """Install a filter for new blocks; return its id."""
    return _install(node, block_filter())


@rpc("eth_newPendingTransactionFilter")
def new_transaction_filter(node: Node) -> str:
    """Install a filter for new transactions; return its id."""
    return _install(node, transaction_filter())


@rpc("eth_getFilterChanges")
def filter_changes(node: Node, filter_id: Any) -> list[Any]:
    """Return what a filter found since it was last asked. Rewound blocks are not taken back."""
    found = node.filters.find(filter_id)
    blocks = node.ledger.blocks[found.next_block :]
    found.next_block = len(node.ledger.blocks)
    return found.report(blocks)


@rpc("eth_getFilterLogs")
def filter_logs(node: Node, filter_id: Any) -> list[dict[str, Any]]:
    """Return all logs that a log filter's criteria select, new or old."""
    criteria = node.filters.find(filter_id).criteria
    if criteria is None:
        raise refused("filter not found")
    return get_logs(node, criteria)


@rpc("eth_uninstallFilter")
def uninstall_filter(node: Node, filter_id: Any) -> bool:
    """Remove a filter; return whether there was one."""
    return node.filters.remove(filter_id)


def block_height(node: Node, block: Any) -> int:
    """Return the number that a tag or quantity of a range means; it may lie beyond the head."""
    reference = read_block(block)
    if reference.number is not None:
        return reference.number
    return node.find_block(reference).number


def _install(node: Node, new: Filter) -> str:
    new.next_block = len(node.ledger.blocks)
    return node.filters.install(new)


def _state(node: Node, block: Any) -> Any:
    reference: BlockReference = read_block(block)
    return node.ledger.state_after(node.find_block(reference))


def _transaction_at(block: Block | None, index: Any) -> dict[str, Any] | None:
    position = read_quantity(index, "index")
    if block is None or position >= len(block.transactions):
        return None
    return transaction_json(block.transactions[position], block)
