"""A federation's events on disk, so that a process begins where an earlier one ended.

    index = EventIndex(folder, w3, address, deployment_block)
    index.load()                             # events, and the block up to which they go; or None
    index.keep(events, block, block_hash)    # those of blocks that are deep enough

FOLDER/events-9f86d081884c7d65.jsonl belongs to one federation and one node: a block's hash does not
prove its logs to us, so events from one node are not taken for those of another. A line has the
events of some blocks, the hash of the last of these blocks, and the SHA-256 of itself:

    {"from_block": 7, "to_block": 19, "block_hash": "…", "events": […]} 9f86d0…

Lines are only added, each by one write, by any number of processes. What does not go on where the
lines before it end, or is torn or changed, is passed over: the events are read from the node again.
The disk is trusted: whoever can write to it can forge an index.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from web3 import Web3

from chain.events import EVENT_TYPES, FederationEvent
from ethereum.rpc import plain_errors
from protocol.errors import Unavailable
from protocol.types import Address

SETTLED_BLOCKS: Final = 12
"""Blocks on top of one that is not expected to be reorganised away; if it is, that is noticed."""

_QUIET_BLOCKS: Final = 1000  # after which a line is added even without events: these were read too
_TYPES: Final = {each.__name__: each for each in EVENT_TYPES}


@dataclass(frozen=True)
class ReadUpTo:
    """The first `count` events are those up to `block`."""

    block: int
    block_hash: bytes
    count: int


class _Line(BaseModel):
    """A line: the events of some blocks, and the hash of the last of these."""

    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    from_block: int
    to_block: int
    block_hash: bytes
    events: list[dict[str, Any]]


class EventIndex:
    """The events of one federation as one node reported them; see the module.

    `key` is what else a reader must agree on, such as the software that it belongs to.
    """

    def __init__(
        self,
        folder: Path,
        w3: Web3,
        address: Address,
        deployment_block: int,
        *,
        key: str = "",
        settled_blocks: int = SETTLED_BLOCKS,
    ) -> None:
        self._w3, self._first = w3, deployment_block
        self._settled_blocks = settled_blocks
        whose = f"{address} {deployment_block} {w3.provider} {key}"
        self._path = folder / f"events-{_digest(whose.encode())[:16]}.jsonl"
        self._kept: ReadUpTo | None = None  # by this process, or as it was loaded

    def load(self) -> tuple[list[FederationEvent], ReadUpTo] | None:
        """Return the events that were kept, and up to which block; None when there are none."""
        events: list[FederationEvent] = []
        self._kept = None
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return None
        for line in lines:
            record = _intact(line)
            if record is None:
                continue
            try:
                found = [*map(_event, record.events)]
            except (KeyError, TypeError, ValidationError):  # of another version
                continue
            if record.from_block == self._first:  # again, after a deep reorganisation
                events, self._kept = [], None
            elif self._kept is None or record.from_block != self._kept.block + 1:
                continue
            events += found
            self._kept = ReadUpTo(record.to_block, record.block_hash, len(events))
        return None if self._kept is None else (events, self._kept)

    def keep(self, events: Sequence[FederationEvent], block: int, found: bytes) -> None:
        """Add the events of blocks that are deep enough below `block`, whose hash was `found`.

        `events` are all up to that block, compared with the contract's counts. A disk that takes no
        more costs time only, and is no failure.
        """
        settled = block - self._settled_blocks
        kept = self._kept or ReadUpTo(self._first - 1, b"", 0)
        has_fresh = any(each.block_number <= settled for each in events[kept.count :])
        is_due = has_fresh or settled - kept.block >= _QUIET_BLOCKS or len(events) < kept.count
        if settled <= kept.block or not is_due:
            return
        # After a deep reorganisation all is added, from the deployment on.
        if self._kept is not None and block_hash(self._w3, kept.block) != kept.block_hash:
            kept = ReadUpTo(self._first - 1, b"", 0)
        fresh = [each for each in events[kept.count :] if each.block_number <= settled]
        settled_hash = block_hash(self._w3, settled)
        # Events of a block that is gone meanwhile may not belong to the block that is named here.
        if settled_hash is None or block_hash(self._w3, block) != found:
            return
        record = _Line(
            from_block=kept.block + 1,
            to_block=settled,
            block_hash=settled_hash,
            events=[
                {"event": type(each).__name__, **each.model_dump(mode="json")} for each in fresh
            ],
        )
        if self._append(record.model_dump_json().encode()):
            self._kept = ReadUpTo(settled, settled_hash, kept.count + len(fresh))

    def _append(self, body: bytes) -> bool:
        # One write under O_APPEND, after a line that another process may have left torn.
        line = b"\n%s %s\n" % (body, _digest(body).encode())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                return os.write(handle, line) == len(line)
            finally:
                os.close(handle)
        except OSError:
            return False


def block_hash(w3: Web3, block: int) -> bytes | None:
    """Return the hash of a block; None when the node does not have it."""
    try:
        with plain_errors():
            return bytes(w3.eth.get_block(block)["hash"])
    except Unavailable:
        return None


def _intact(line: bytes) -> _Line | None:
    body, _, digest = line.rpartition(b" ")
    if not body or _digest(body).encode() != digest:
        return None
    try:
        return _Line.model_validate_json(body, strict=True)
    except ValidationError:
        return None


def _event(fields: dict[str, Any]) -> FederationEvent:
    # Through JSON, where bytes are hex: Python values would be taken for raw bytes.
    return _TYPES[fields.pop("event")].model_validate_json(json.dumps(fields))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
