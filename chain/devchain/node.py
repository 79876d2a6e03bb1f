"""A running chain: ledger, clock and journal moving together.

Everything here is called with the node's lock held, one request at a time.
"""

import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from eth_utils.exceptions import ValidationError

from chain.devchain.admission import check_transaction, read_transaction
from chain.devchain.clock import Clock
from chain.devchain.filters import FilterTable
from chain.devchain.journal import FORMAT, BlockRecord, History, Journal, block_record
from chain.devchain.ledger import Block, Ledger, genesis_record
from chain.devchain.params import BlockReference
from chain.devchain.rpc_error import INTERNAL_ERROR, RpcError, invalid_params, refused
from protocol.errors import Misconfigured

DEFAULT_CHAIN_ID = 31337


class Node:
    """The state behind the JSON-RPC methods."""

    def __init__(
        self,
        journal: Path | None,
        chain_id: int = DEFAULT_CHAIN_ID,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Start a chain, or rebuild the one in `journal`.

        Raises Misconfigured when the journal belongs to another chain or does not replay.
        """
        self.lock = threading.Lock()
        self.clock = Clock(wall)
        self.snapshots: dict[int, tuple[int, int]] = {}  # id -> (block number, clock offset)
        self.snapshot_count = 0
        self.filters = FilterTable()
        self._journal = None if journal is None else Journal(journal)
        try:
            history = History() if self._journal is None else self._journal.read()
            if history.genesis is None:
                self.ledger = self._begin(chain_id, int(wall()))
            else:
                self.ledger = self._replay(history, chain_id)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    # Blocks

    def find_block(self, reference: BlockReference) -> Block:
        """Return a mined block; "pending" gives the head. Raises RpcError when there is none."""
        block = self.find_block_or_none(reference)
        if block is None:
            raise refused(f"block {reference} not found")
        return block

    def find_block_or_none(self, reference: BlockReference) -> Block | None:
        """Return a mined block, or None. Nothing is undone here unasked: the head is final."""
        if reference.hash is not None:
            return self.ledger.block_by_hash(reference.hash)
        if reference.number is not None:
            blocks = self.ledger.blocks
            return blocks[reference.number] if reference.number < len(blocks) else None
        return self.ledger.blocks[0] if reference.tag == "earliest" else self.ledger.head

    def next_header(self) -> Any:
        """Return the header that a block mined now would start from."""
        return self.ledger.next_header(self.clock.next_timestamp(self.ledger.head.timestamp))

    def call_header(self, reference: BlockReference) -> Any:
        """Return the header in whose context a call at `reference` runs.

        "latest" and "pending" are the next block's, so that time passes for views though no block
        is mined; a block given by number or hash is that block itself.
        """
        if reference.tag in ("latest", "pending"):
            return self.next_header()
        return self.find_block(reference).header

    # Changes

    def submit(self, raw: bytes) -> bytes:
        """Mine a signed transaction and return its hash. Raises RpcError when it is refused."""
        transaction = read_transaction(self.ledger, raw)
        check_transaction(self.ledger, transaction)
        try:
            return self.mine([transaction]).transactions[0].hash
        except ValidationError as error:  # a rule of py-evm's that check_transaction leaves out
            raise refused(f"invalid transaction: {error}") from error

    def mine(self, transactions: Sequence[Any] = ()) -> Block:
        """Mine a block now and write it to the journal; a block that cannot be kept is undone."""
        parent, clock = self.ledger.head, copy(self.clock)
        block = self.ledger.mine(transactions, self.clock.next_timestamp(parent.timestamp))
        self.clock.settle()
        record = BlockRecord(
            number=block.number,
            timestamp=block.timestamp,
            hash="0x" + block.hash.hex(),
            transactions=tuple((item.raw, item.sender) for item in block.transactions),
        )
        try:
            self._write(block_record(record, self.clock.offset))
        except RpcError:
            self.ledger.rewind(parent.number)
            self.clock = clock
            raise
        return block

    def set_next_timestamp(self, timestamp: int) -> None:
        """Fix the next block's time. Raises RpcError when it is not after the head's."""
        head = self.ledger.head.timestamp
        if timestamp <= head:
            raise invalid_params(f"timestamp {timestamp} is not after the latest block's, {head}")
        self.clock.pin(timestamp)

    def increase_time(self, seconds: int) -> int:
        """Move the clock forward and return its whole offset from the wall clock."""
        offset = self.clock.advanced_offset(self.ledger.head.timestamp, seconds)
        self._write({"offset": offset})
        self.clock.offset = offset
        self.clock.unpin()
        return offset

    def take_snapshot(self) -> int:
        """Return an id with which `revert` comes back here. Lost when the chain stops."""
        self.snapshot_count += 1
        self.snapshots[self.snapshot_count] = (self.ledger.head.number, self.clock.offset)
        return self.snapshot_count

    def revert(self, snapshot: int) -> bool:
        """Drop the blocks mined after a snapshot, and this and later snapshots with them."""
        if snapshot not in self.snapshots:
            return False
        number, offset = self.snapshots[snapshot]
        self._write({"rewind": number, "offset": offset})
        self.ledger.rewind(number)
        self.filters.rewind(number)
        self.clock.offset = offset
        self.clock.unpin()
        for later in [known for known in self.snapshots if known >= snapshot]:
            del self.snapshots[later]
        return True

    def _write(self, record: dict[str, Any]) -> None:
        if self._journal is None:
            return
        try:
            self._journal.write(record)
        except OSError as error:
            raise RpcError(
                INTERNAL_ERROR,
                f"journal {self._journal.path} cannot be written: {error.strerror};"
                " nothing was changed",
            ) from error

    # Starting

    def _begin(self, chain_id: int, timestamp: int) -> Ledger:
        ledger = Ledger(chain_id, timestamp)
        genesis = genesis_record(chain_id, timestamp)
        self._write({"format": FORMAT, **genesis, "hash": "0x" + ledger.head.hash.hex()})
        return ledger

    def _replay(self, history: History, chain_id: int) -> Ledger:
        assert self._journal is not None
        assert history.genesis is not None
        where = f"journal {self._journal.path}"
        timestamp = int(history.genesis.get("timestamp", 0))
        for name, value in genesis_record(chain_id, timestamp).items():
            if history.genesis.get(name) != value:
                raise Misconfigured(
                    f"{where}: {name} is {history.genesis.get(name)}, this chain has {value}"
                )
        ledger = Ledger(chain_id, timestamp)
        _compare(where, 0, ledger, str(history.genesis.get("hash")))
        for record in history.blocks:
            try:
                transactions = [ledger.decode(raw, sender) for raw, sender in record.transactions]
                ledger.mine(transactions, record.timestamp)
            except Exception as error:  # py-evm, rlp and eth-keys each raise their own kinds
                raise Misconfigured(
                    f"{where}: block {record.number} does not replay: {error!s:.200}"
                ) from error
            _compare(where, record.number, ledger, record.hash)
        self.clock.offset = history.offset
        return ledger


def _compare(where: str, number: int, ledger: Ledger, recorded: str) -> None:
    found = "0x" + ledger.head.hash.hex()
    if found != recorded:
        raise Misconfigured(
            f"{where}: block {number} replays as {found}, recorded is {recorded};"
            " was it made by another version of py-evm?"
        )
