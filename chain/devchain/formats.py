"""The JSON of blocks, transactions, receipts and logs, as the execution API specification has it.

https://ethereum.github.io/execution-apis/
"""

from typing import Any

from eth_utils.address import to_checksum_address

from chain.devchain.ledger import Block, Log, MinedTransaction


def hex_bytes(value: bytes) -> str:
    """Return bytes as 0x and two digits each."""
    return "0x" + value.hex()


def hex_address(value: bytes) -> str | None:
    """Return an address in EIP-55 letters, or None for no address (contract creation)."""
    return to_checksum_address(value) if value else None


def block_json(block: Block, is_full: bool) -> dict[str, Any]:
    """Return a block with its transactions in full, or only their hashes."""
    body = header_json(block.header)
    body["size"] = hex(block.size)
    body["transactions"] = [
        transaction_json(item, block) if is_full else hex_bytes(item.hash)
        for item in block.transactions
    ]
    return body


def pending_json(header: Any) -> dict[str, Any]:
    """Return the block that would be mined now: empty, and without hash, nonce and miner."""
    body = header_json(header)
    body.update(hash=None, nonce=None, miner=None, logsBloom=None, transactions=[], size="0x0")
    return body


def header_json(header: Any) -> dict[str, Any]:
    """Return the fields of a block that its header holds."""
    return {
        "number": hex(header.block_number),
        "hash": hex_bytes(header.hash),
        "parentHash": hex_bytes(header.parent_hash),
        "nonce": hex_bytes(header.nonce),
        "mixHash": hex_bytes(header.mix_hash),
        "sha3Uncles": hex_bytes(header.uncles_hash),
        "logsBloom": _bloom(header.bloom),
        "transactionsRoot": hex_bytes(header.transaction_root),
        "stateRoot": hex_bytes(header.state_root),
        "receiptsRoot": hex_bytes(header.receipt_root),
        "miner": hex_address(header.coinbase),
        "difficulty": hex(header.difficulty),
        "totalDifficulty": "0x0",
        "extraData": hex_bytes(header.extra_data),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "withdrawalsRoot": hex_bytes(header.withdrawals_root),
        "withdrawals": [],
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": hex_bytes(header.parent_beacon_block_root),
        "requestsHash": hex_bytes(header.requests_hash),
        "uncles": [],
    }


def transaction_json(item: MinedTransaction, block: Block) -> dict[str, Any]:
    """Return a mined transaction of any supported type."""
    transaction = item.transaction
    body: dict[str, Any] = {
        "blockHash": hex_bytes(block.hash),
        "blockNumber": hex(block.number),
        "transactionIndex": hex(item.index),
        "hash": hex_bytes(item.hash),
        "type": hex(transaction_type(item)),
        "from": hex_address(item.sender),
        "to": hex_address(transaction.to),
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas),
        "gasPrice": hex(item.gas_price),
        "value": hex(transaction.value),
        "input": hex_bytes(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if transaction_type(item) == 0:
        body["v"] = hex(transaction.v)
        if transaction.chain_id is not None:
            body["chainId"] = hex(transaction.chain_id)
        return body
    body["chainId"] = hex(transaction.chain_id)
    body["v"] = body["yParity"] = hex(transaction.y_parity)
    body["accessList"] = _access_list(transaction.access_list)
    if transaction_type(item) == 2:
        body["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        body["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    return body


def receipt_json(item: MinedTransaction, block: Block) -> dict[str, Any]:
    """Return the receipt of a mined transaction; status 0x0 when it reverted."""
    return {
        "transactionHash": hex_bytes(item.hash),
        "transactionIndex": hex(item.index),
        "blockHash": hex_bytes(block.hash),
        "blockNumber": hex(block.number),
        "type": hex(transaction_type(item)),
        "from": hex_address(item.sender),
        "to": hex_address(item.transaction.to),
        "contractAddress": hex_address(item.created or b""),
        "status": "0x1" if item.succeeded else "0x0",
        "gasUsed": hex(item.gas_used),
        "cumulativeGasUsed": hex(item.cumulative_gas_used),
        "effectiveGasPrice": hex(item.gas_price),
        "logs": [log_json(log, item, block) for log in item.logs],
        "logsBloom": _bloom(item.bloom),
    }


def log_json(log: Log, item: MinedTransaction, block: Block) -> dict[str, Any]:
    """Return an event log with the place it was mined at."""
    return {
        "address": hex_address(log.address),
        "topics": [hex_bytes(topic) for topic in log.topics],
        "data": hex_bytes(log.data),
        "blockNumber": hex(block.number),
        "blockHash": hex_bytes(block.hash),
        "blockTimestamp": hex(block.timestamp),
        "transactionHash": hex_bytes(item.hash),
        "transactionIndex": hex(item.index),
        "logIndex": hex(log.index),
        "removed": False,
    }


def transaction_type(item: MinedTransaction) -> int:
    """Return 0 (legacy), 1 (EIP-2930) or 2 (EIP-1559): a typed transaction opens with its type."""
    return item.raw[0] if item.raw[0] < 0x80 else 0


def _access_list(entries: Any) -> list[dict[str, Any]]:
    return [
        {
            "address": hex_address(address),
            "storageKeys": [hex_bytes(slot.to_bytes(32, "big")) for slot in slots],
        }
        for address, slots in entries
    ]


def _bloom(bloom: int) -> str:
    return hex_bytes(bloom.to_bytes(256, "big"))
