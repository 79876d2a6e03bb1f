"""Which nonce a wallet's next transaction takes, across threads and across restarts.

A journal on disk holds the transactions that were on their way. After a restart one that still
waits, because fees rose or nobody mined it, is overtaken: the next transaction takes its nonce with
higher fees, so that nothing is stuck behind it. That is safe since every caller looks at the chain
before it sends: either the old one is mined, or what is still due.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import Misconfigured


@dataclass(frozen=True)
class Fees:
    """What a transaction offers, in wei a unit of gas: the tip, and the most in all."""

    tip: int
    most: int


class Nonces:
    """The nonces of one wallet on one chain. Safe between threads under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._journal: Path | None = None
        self._in_flight: dict[int, Fees] = {}
        self._left_behind: dict[int, Fees] = {}

    def remember_in(self, journal: Path) -> None:
        """Keep what is in flight in the file `journal`, and take over what it has from before."""
        with self.lock:
            if self._journal is None:
                self._journal = journal
                self._left_behind = _read(journal)

    def choose(self, mined: int, pending: int) -> tuple[int, Fees | None]:
        """Return the next nonce and, where it overtakes one from before a restart, that one's fees.

        `mined` and `pending` are what the chain counts as used without and with waiting
        transactions. Call with `lock` held.
        """
        self._left_behind = {n: fees for n, fees in self._left_behind.items() if n >= mined}
        waiting = [n for n in sorted(self._left_behind) if n < pending]
        for nonce in waiting:
            if nonce not in self._in_flight:
                return nonce, self._left_behind[nonce]
        nonce = pending
        while nonce in self._in_flight:
            nonce += 1
        return nonce, None

    def claim(self, nonce: int, fees: Fees) -> None:
        """Take a nonce before its transaction is sent. Call with `lock` held."""
        self._in_flight[nonce] = fees
        self._write()

    def raise_fees(self, nonce: int, fees: Fees) -> None:
        """Take note that the nonce's transaction was sent again with other fees."""
        with self.lock:
            self._in_flight[nonce] = fees
            self._write()

    def release(self, nonce: int) -> None:
        """Give a nonce back whose transaction could not be sent. Call with `lock` held."""
        self._in_flight.pop(nonce, None)
        self._write()

    @contextmanager
    def flying(self, nonce: int) -> Iterator[None]:
        """Hold a claimed nonce for the block; what ends unseen stays in the journal."""
        try:
            yield
        except Exception:
            with self.lock:
                fees = self._in_flight.pop(nonce)
                # Sent and not seen mined: the next transaction overtakes it.
                self._left_behind[nonce] = fees
                self._write()
            raise
        with self.lock:
            self._in_flight.pop(nonce, None)
            self._left_behind.pop(nonce, None)
            self._write()

    def _write(self) -> None:
        if self._journal is None:
            return
        known = {**self._left_behind, **self._in_flight}
        lines = {str(nonce): [fees.tip, fees.most] for nonce, fees in sorted(known.items())}
        part = self._journal.with_name(f".{self._journal.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(lines) + "\n")
        os.replace(part, self._journal)


def _read(journal: Path) -> dict[int, Fees]:
    try:
        lines = json.loads(journal.read_text())
        return {int(nonce): Fees(*map(int, fees)) for nonce, fees in lines.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Misconfigured(f"the journal of transactions {journal} cannot be read: {error}") from (
            error
        )
