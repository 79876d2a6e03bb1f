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

from protocol.errors import Unavailable


@dataclass(frozen=True)
class Fees:
    """What a transaction offers, in wei a unit of gas: the tip, and the most in all."""

    tip: int
    most: int


class Nonces:
    """The nonces of one wallet on one chain, for every thread of this process.

    `choose`, `claim` and `release` are called with `lock` held, the others without.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._journal: Path | None = None
        self._in_flight: dict[int, Fees] = {}
        self._left_behind: dict[int, Fees] = {}

    def keep_in(self, journal: Path) -> None:
        """Write what is in flight to `journal`, and take over what it has from before."""
        with self.lock:
            if self._journal is None:
                self._journal = journal
                self._left_behind = _read(journal)

    def choose(self, mined: int, pending: int) -> tuple[int, Fees | None]:
        """Return the next nonce, and the fees of what it overtakes where it does.

        `mined` and `pending` count the wallet's transactions without and with those that wait.
        """
        self._left_behind = {n: fees for n, fees in self._left_behind.items() if n >= mined}
        for nonce, fees in sorted(self._left_behind.items()):
            if nonce < pending and nonce not in self._in_flight:
                return nonce, fees
        nonce = pending
        while nonce in self._in_flight:
            nonce += 1
        return nonce, None

    def claim(self, nonce: int, fees: Fees) -> None:
        """Take a nonce, before its transaction is sent: afterwards might be too late."""
        self._in_flight[nonce] = fees
        self._write()

    def release(self, nonce: int) -> None:
        """Give back a nonce whose transaction nobody took."""
        self._in_flight.pop(nonce, None)
        self._write()

    def raise_fees(self, nonce: int, fees: Fees) -> None:
        """Take note of what the nonce's transaction offers by now."""
        with self.lock:
            self._in_flight[nonce] = fees
            self._write()

    @contextmanager
    def flying(self, nonce: int) -> Iterator[None]:
        """Give the nonce back after the block; with a journal, what fails is to be overtaken."""
        try:
            yield
        except Exception:
            with self.lock:
                fees = self._in_flight.pop(nonce)
                if self._journal is not None:
                    self._left_behind[nonce] = fees
            raise
        with self.lock:
            self._left_behind.pop(nonce, None)
            self.release(nonce)

    def _write(self) -> None:
        if self._journal is None:
            return
        waiting = {**self._left_behind, **self._in_flight}
        lines = {str(nonce): [fees.tip, fees.most] for nonce, fees in sorted(waiting.items())}
        part = self._journal.with_name(f".{self._journal.name}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(lines) + "\n")
            os.replace(part, self._journal)
        except OSError as error:
            raise Unavailable(
                f"the journal of transactions {self._journal} cannot be written: {error.strerror}"
            ) from error


def _read(journal: Path) -> dict[int, Fees]:
    """Return what a journal says; nothing when it is damaged, as it only spares a wait."""
    try:
        lines = json.loads(journal.read_bytes())
        return {int(nonce): Fees(int(tip), int(most)) for nonce, (tip, most) in lines.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
