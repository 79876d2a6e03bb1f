"""The journal: an append-only file of JSON lines from which a dev chain is rebuilt.

Line 1 holds the genesis. Every other line is one of

    {"block": 7, "timestamp": 1767225600, "offset": 0, "hash": "0x…",
     "transactions": [["0xraw", "0xsender"]]}    (on one line)
    {"offset": 3600}                             the clock was moved
    {"rewind": 5, "offset": 0}                   blocks after 5 were dropped

A line is on disk before the transaction in it is acknowledged, so a process killed at any moment
loses at most what nobody was told had happened. A last line cut short is dropped on opening.
"""

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.errors import Misconfigured

FORMAT = "dev-chain-journal/1"
_OPENING = b'{"format":"' + FORMAT.encode() + b'"'


@dataclass(frozen=True)
class BlockRecord:
    """What a block is rebuilt from; the hash proves that it came out the same."""

    number: int
    timestamp: int
    hash: str
    transactions: tuple[tuple[bytes, bytes], ...]  # (raw signed transaction, its sender)


@dataclass
class History:
    """The blocks that a journal tells of, rewound ones left out, and the clock's offset."""

    genesis: dict[str, Any] | None = None
    blocks: list[BlockRecord] = field(default_factory=list)
    offset: int = 0


class Journal:
    """One open journal file, locked against a second chain on the same file."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises Misconfigured when it cannot be used."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise Misconfigured(f"journal {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise Misconfigured(f"journal {path} is in use by another dev chain") from error

    def read(self) -> History:
        """Return what the file tells, after cutting off a torn last line.

        Raises Misconfigured, naming the line, when any other line cannot be read.
        """
        self._file.seek(0)
        content = self._file.read()
        if not _OPENING.startswith(content[: len(_OPENING)]):
            raise Misconfigured(f"{self.path} is not a {FORMAT} file; it was left as it is")
        lines = content.split(b"\n")
        whole = lines[:-1]  # what follows the last newline was never finished
        history = History()
        size = 0
        for index, line in enumerate(whole):
            record = _parse(line)
            if record is None and index == len(whole) - 1 and not lines[-1]:
                break
            try:
                _tell(history, record)
            except (KeyError, TypeError, ValueError) as error:
                raise Misconfigured(
                    f"journal {self.path} line {index + 1}: not a record of {FORMAT}"
                ) from error
            size += len(line) + 1
        self._file.truncate(size)
        return history

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and wait until it is on disk. Raises OSError, leaving no half line."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        size = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.close()


def block_record(block: BlockRecord, offset: int) -> dict[str, Any]:
    """Return the line that `block` is kept as."""
    return {
        "block": block.number,
        "timestamp": block.timestamp,
        "offset": offset,
        "hash": block.hash,
        "transactions": [["0x" + raw.hex(), "0x" + who.hex()] for raw, who in block.transactions],
    }


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _tell(history: History, record: dict[str, Any] | None) -> None:
    if record is None:
        raise ValueError("not a JSON object")
    if history.genesis is None:
        if record["format"] != FORMAT:
            raise ValueError("unknown format")
        history.genesis = record
        return
    if "block" in record:
        if record["block"] != len(history.blocks) + 1:
            raise ValueError("a block is missing")
        history.blocks.append(
            BlockRecord(
                number=record["block"],
                timestamp=record["timestamp"],
                hash=record["hash"],
                transactions=tuple(
                    (bytes.fromhex(raw[2:]), bytes.fromhex(sender[2:]))
                    for raw, sender in record["transactions"]
                ),
            )
        )
    elif "rewind" in record:
        del history.blocks[record["rewind"] :]
    history.offset = int(record["offset"])
