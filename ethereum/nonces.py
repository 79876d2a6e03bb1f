"""Which nonce a wallet's next transaction takes, across threads and across restarts.

Decided from what is mined and what is known here; what the node says of its pool is only a hint.
1. The lowest nonce that is not mined and that no call waits for here is next.
2. Nonces that the node counts as pending, though nobody here knows them, are passed over.
3. What an earlier call left behind unmined is overtaken: the next transaction takes its nonce with
   higher fees, so that nothing is stuck behind it. That is safe since every caller looks at the
   chain before it sends: either the old one is mined, or what is still due. A journal on disk holds
   what was on its way, so that this is so after a restart as well.
4. What was mined lately is kept: a reorganisation may drop it, and it then leaves a hole.
"""

import json
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ethereum.fees import Fees
from protocol.errors import Unavailable
from protocol.types import Address, Digest

LANDED_KEPT: Final = 16
MOST_PENDING: Final = 256
"""What a node may count as pending past what is mined; more is taken as a false answer."""


@dataclass(frozen=True)
class Call:
    """What a transaction does. `to` is None for a deployment; `value` is in wei."""

    to: Address | None
    data: bytes
    value: int


@dataclass
class Flight:
    """A call under one nonce, and every transaction that was sent for it.

    `ceiling` is the most the node lets it offer, in wei a unit of gas.
    """

    call: Call | None
    """None where only the fees are known, from a journal."""
    gas: int
    nonce: int
    fees: Fees
    ceiling: int
    hashes: list[Digest] = field(default_factory=list)


class Nonces:
    """The nonces of one wallet on one chain, for every thread of this process.

    `lock` is held from choosing a nonce until its transaction is sent. Threads may use any method.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._journal: Path | None = None
        self._awaited: dict[int, Flight] = {}
        self._left_behind: dict[int, Flight] = {}
        self._landed: dict[int, Flight] = {}

    def keep_in(self, journal: Path) -> None:
        """Write what is in flight to `journal`, and take over what it has from before."""
        with self.lock:
            if self._journal != journal:
                self._journal = journal
                self._left_behind = _read(journal) | self._left_behind

    def choose(
        self, mined: int, pending: int, occupied: Collection[int] = ()
    ) -> tuple[int, Flight | None]:
        """Return the next nonce, and what it overtakes where it does.

        `mined` and `pending` count the wallet's transactions without and with those that wait;
        `occupied` are nonces that proved to be taken.
        """
        with self.lock:
            for nonce in [each for each in self._left_behind if each < mined]:
                del self._left_behind[nonce]
            if pending - mined > MOST_PENDING:
                pending = mined
            nonce = mined
            while nonce in self._awaited or nonce in occupied or self._is_unknown(nonce, pending):
                nonce += 1
            return nonce, self._left_behind.get(nonce)

    def _is_unknown(self, nonce: int, pending: int) -> bool:
        """Whether the node counts a transaction under the nonce that nobody here left behind."""
        return nonce < pending and nonce not in self._left_behind

    def claim(self, flight: Flight) -> None:
        """Take a flight's nonce, before its transaction is sent: afterwards might be too late.

        Unavailable when the journal cannot be written; the nonce is not taken then.
        """
        with self.lock:
            self._awaited[flight.nonce] = flight
            try:
                self.write()
            except Unavailable:
                del self._awaited[flight.nonce]
                raise

    def release(self, nonce: int) -> None:
        """Give back a nonce whose transaction nobody took."""
        with self.lock:
            self._awaited.pop(nonce, None)
            self._write_if_possible()

    def is_awaited(self, nonce: int) -> bool:
        """Whether a call of this process waits for the nonce's transaction.

        It takes no lock: whoever asks may hold the one of another connection's nonces.
        """
        return nonce in self._awaited

    def recall(self, nonce: int) -> Flight | None:
        """Return what was sent under a nonce that nobody waits for, if it is known here."""
        with self.lock:
            return self._left_behind.get(nonce) or self._landed.get(nonce)

    def has_left_behind(self, mined: int) -> bool:
        """Whether an earlier call left something unmined, the first `mined` nonces being used."""
        with self.lock:
            return any(nonce >= mined for nonce in self._left_behind)

    def keep(self, flight: Flight) -> None:
        """Take note of what was sent, or sent again, though nobody waits for it.

        Unavailable when the journal cannot be written.
        """
        with self.lock:
            if self._landed.get(flight.nonce) is not flight:  # those must not be overtaken
                self._left_behind[flight.nonce] = flight
            self.write()

    @contextmanager
    def awaited(self, flight: Flight) -> Iterator[None]:
        """Keep a flight's nonce for the block; what fails is left behind, to be overtaken."""
        try:
            yield
        except Exception:
            with self.lock:
                del self._awaited[flight.nonce]
                self._left_behind[flight.nonce] = flight
            raise
        with self.lock:
            self._left_behind.pop(flight.nonce, None)
            self.release(flight.nonce)

    def land(self, flight: Flight) -> None:
        """Keep what was mined, for the case that a reorganisation drops it."""
        with self.lock:
            self._landed.pop(flight.nonce, None)
            self._landed[flight.nonce] = flight
            for nonce in list(self._landed)[:-LANDED_KEPT]:
                del self._landed[nonce]

    def write(self) -> None:
        """Write the journal anew, as fees have changed. Unavailable when it cannot be written."""
        with self.lock:
            if self._journal is not None:
                waiting = {**self._left_behind, **self._awaited}
                _write(self._journal, {nonce: waiting[nonce].fees for nonce in sorted(waiting)})

    def _write_if_possible(self) -> None:
        with suppress(Unavailable):  # `choose` forgets what the chain has passed
            self.write()


def _write(journal: Path, fees: dict[int, Fees]) -> None:
    lines = {str(nonce): [each.tip, each.most] for nonce, each in fees.items()}
    part = journal.with_name(f".{journal.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(lines) + "\n")
        os.replace(part, journal)
    except OSError as error:
        raise Unavailable(
            f"the journal of transactions {journal} cannot be written: {error.strerror}"
        ) from error


def _read(journal: Path) -> dict[int, Flight]:
    """Return what a journal says; nothing when it is damaged, as it only spares a wait."""
    try:
        lines = json.loads(journal.read_bytes())
        return {
            int(nonce): Flight(None, 0, int(nonce), Fees(int(tip), int(most)), int(most))
            for nonce, (tip, most) in lines.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
