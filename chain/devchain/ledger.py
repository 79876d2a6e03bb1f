"""The chain itself: eth-tester's py-evm chain, mined one block at a time and indexed for reading.

eth-tester's own `send_raw_transaction` and `mine_blocks` are not used: they fix the block's time
before it is known, draw a random mix hash after the transactions ran (so that `block.prevrandao`
is zero while they run), and keep nothing that can be replayed. The py-evm chain inside the backend
is driven directly instead; every block it makes passes py-evm's own import.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_utils.crypto import keccak

from chain.dev_accounts import DEV_ACCOUNTS, DEV_BALANCE_WEI, DEV_MNEMONIC, dev_account

BLOCK_GAS_LIMIT = 30_000_000
GENESIS_PARENT_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Log:
    """An event log; `index` counts within its block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    index: int


@dataclass(frozen=True, slots=True)
class MinedTransaction:
    """A transaction with its receipt. `transaction` is py-evm's, decoded from `raw`."""

    transaction: Any
    raw: bytes
    hash: bytes
    sender: bytes
    index: int
    block_number: int
    succeeded: bool
    gas_used: int
    cumulative_gas_used: int
    gas_price: int  # wei actually paid for each unit of gas
    bloom: int
    logs: tuple[Log, ...]

    @property
    def created(self) -> bytes | None:
        """The address of the contract that this transaction creates, or None."""
        if self.transaction.to:
            return None
        address: bytes = keccak(rlp.encode([self.sender, self.transaction.nonce]))[12:]
        return address


@dataclass(frozen=True, slots=True)
class Block:
    """A mined block: py-evm's header, and its transactions with their receipts."""

    header: Any
    size: int  # bytes of its RLP
    transactions: tuple[MinedTransaction, ...]

    @property
    def number(self) -> int:
        """The height of the block; the genesis is 0."""
        return int(self.header.block_number)

    @property
    def hash(self) -> bytes:
        """The 32-byte block hash."""
        return bytes(self.header.hash)

    @property
    def timestamp(self) -> int:
        """Seconds since 1970."""
        return int(self.header.timestamp)


class Ledger:
    """The blocks of one chain, kept in memory, and the state after each of them."""

    def __init__(self, chain_id: int, genesis_timestamp: int) -> None:
        self.chain_id = chain_id
        self._backend = _new_backend(genesis_timestamp)
        self.chain = self._backend.chain
        self.chain.chain_id = chain_id
        genesis = self.chain.get_canonical_block_by_number(0)
        self.blocks = [Block(genesis.header, len(rlp.encode(genesis)), ())]
        self._by_hash = {self.head.hash: 0}
        self._transactions: dict[bytes, MinedTransaction] = {}

    @property
    def head(self) -> Block:
        """The newest block."""
        return self.blocks[-1]

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Return the block with that hash, or None."""
        number = self._by_hash.get(block_hash)
        return None if number is None else self.blocks[number]

    def transaction(self, transaction_hash: bytes) -> MinedTransaction | None:
        """Return the mined transaction with that hash, or None."""
        return self._transactions.get(transaction_hash)

    def state_after(self, block: Block) -> Any:
        """Return py-evm's state after `block`, in that block's context; changes to it are lost."""
        return self.chain.get_vm(block.header).state

    def next_header(self, timestamp: int) -> Any:
        """Return the header of an empty block mined on the head at `timestamp`.

        Its mix hash, which contracts read as `block.prevrandao`, is keccak256(parent hash): new in
        each block and the same in a replay. Anybody can foresee it, which a real chain's is not.
        """
        return self.chain.create_header_from_parent(
            self.head.header, timestamp=timestamp, mix_hash=keccak(self.head.hash)
        )

    def decode(self, raw: bytes, sender: bytes | None = None) -> Any:
        """Return py-evm's transaction for signed bytes; its errors for bad bytes pass through.

        A `sender` known from the journal saves recovering it, the slowest step of a replay; a
        wrong one would change the state root, and so the block hash that the replay compares.
        """
        transaction = self.chain.get_transaction_builder().decode(raw)
        if sender is not None:
            vars(transaction)["sender"] = sender  # fills py-evm's cached_property
        return transaction

    def mine(self, transactions: Sequence[Any], timestamp: int) -> Block:
        """Mine `transactions`, checked before (see admission.py), into one block and return it.

        One that reverts is mined with status 0, as on a real chain.
        """
        self.chain.header = self.next_header(timestamp)
        result, receipts, _ = self.chain.mine_all(transactions)
        mined = result.imported_block
        block = Block(mined.header, len(rlp.encode(mined)), _index_receipts(mined, receipts))
        self.blocks.append(block)
        self._by_hash[block.hash] = block.number
        self._transactions.update((item.hash, item) for item in block.transactions)
        return block

    def rewind(self, number: int) -> None:
        """Make block `number` the head again; later blocks are forgotten."""
        for block in self.blocks[number + 1 :]:
            del self._by_hash[block.hash]
            for item in block.transactions:
                self._transactions.pop(item.hash, None)
        del self.blocks[number + 1 :]
        database = self.chain.chaindb
        database._set_as_canonical_chain_head(database.db, self.head.header, GENESIS_PARENT_HASH)
        self.chain.header = self.chain.create_header_from_parent(self.head.header)


def genesis_record(chain_id: int, timestamp: int) -> dict[str, Any]:
    """Return all that the genesis block follows from, for the journal."""
    return {
        "chain_id": chain_id,
        "timestamp": timestamp,
        "gas_limit": BLOCK_GAS_LIMIT,
        "mnemonic": DEV_MNEMONIC,
        "accounts": DEV_ACCOUNTS,
        "balance": DEV_BALANCE_WEI,
    }


def _new_backend(genesis_timestamp: int) -> Any:
    accounts = [dev_account(index) for index in range(DEV_ACCOUNTS)]
    parameters = PyEVMBackend.generate_genesis_params(
        {"gas_limit": BLOCK_GAS_LIMIT, "timestamp": genesis_timestamp}
    )
    empty = {"balance": DEV_BALANCE_WEI, "nonce": 0, "code": b"", "storage": {}}
    state = {bytes.fromhex(account.address[2:]): empty for account in accounts}
    return PyEVMBackend(genesis_parameters=parameters, genesis_state=state)


def _index_receipts(mined: Any, receipts: Sequence[Any]) -> tuple[MinedTransaction, ...]:
    items: list[MinedTransaction] = []
    gas_before = log_count = 0
    base_fee = mined.header.base_fee_per_gas
    for index, (transaction, receipt) in enumerate(zip(mined.transactions, receipts, strict=True)):
        logs = _index_logs(receipt, log_count)
        raw = transaction.encode()
        tip = min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base_fee)
        items.append(
            MinedTransaction(
                transaction=transaction,
                raw=raw,
                hash=keccak(raw),
                sender=bytes(transaction.sender),
                index=index,
                block_number=mined.number,
                succeeded=receipt.state_root == b"\x01",
                gas_used=receipt.gas_used - gas_before,
                cumulative_gas_used=receipt.gas_used,
                gas_price=base_fee + tip,
                bloom=receipt.bloom,
                logs=logs,
            )
        )
        gas_before = receipt.gas_used
        log_count += len(logs)
    return tuple(items)


def _index_logs(receipt: Any, first: int) -> tuple[Log, ...]:
    return tuple(
        Log(
            address=bytes(log.address),
            topics=tuple(topic.to_bytes(32, "big") for topic in log.topics),
            data=bytes(log.data),
            index=first + offset,
        )
        for offset, log in enumerate(receipt.logs)
    )
