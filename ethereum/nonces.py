"""The choice of a wallet's next nonce, across threads and restarts.

It depends on what is mined and what is known here; the node's count of its pool is only a hint.
1. The lowest nonce that is not mined, and that no call here waits for, is next.
2. Nonces that the node counts as pending, though nobody here knows them, are skipped.
3. What an earlier call left unmined is overtaken: the next transaction takes its nonce with higher
   fees, so that nothing is stuck behind it. This is safe since every caller looks at the chain
   before it sends: either the old transaction is mined, or its call is still due. A journal on disk
   records what was under way, so that this holds after a restart as well.
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
from protocol.text import parse_json
from protocol.types import Address, Digest

LANDED_KEPT: Final = 16
MOST_PENDING: Final = 256
"""The most that a node may count as pending beyond what is mined; more is a false answer."""


@dataclass(frozen=True)
class Call:
    """The content of a transaction; `to` is None for a deployment, `value` is in wei."""

    to: Address | None
    data: bytes
    value: int


@dataclass
class Flight:
    """A call under one nonce, and every transaction that was sent for it.

    `ceiling` is the most that the node lets it offer, in wei per unit of gas.
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
        """Write what is in flight to `journal`, and take over what an earlier process left there.

        A damaged journal counts as empty, as it only saves a wait.
        """
        with self.lock:
            if self._journal == journal:
                return
            self._journal = journal
            with suppress(OSError, ValueError, TypeError, AttributeError, OverflowError):
                lines = parse_json(journal.read_bytes())
                self._left_behind = {
                    int(nonce): Flight(None, 0, int(nonce), Fees(int(tip), int(most)), int(most))
                    for nonce, (tip, most) in lines.items()
                } | self._left_behind  # what this process left behind is known better

    def choose(
        self, mined: int, pending: int, occupied: Collection[int] = ()
    ) -> tuple[int, Flight | None]:
        """Return the next nonce, and the flight that it overtakes, if any.

        `mined` and `pending` count the wallet's transactions without and with those that wait;
        `occupied` are nonces that proved to be taken.
        """
        with self.lock:
            for nonce in [each for each in self._left_behind if each < mined]:
                del self._left_behind[nonce]
            if pending - mined > MOST_PENDING:
                pending = mined
            # Below `pending` only what was left behind here is free: the rest is from elsewhere.
            nonce = mined
            while (
                nonce in self._awaited
                or nonce in occupied
                or (nonce < pending and nonce not in self._left_behind)
            ):
                nonce += 1
            return nonce, self._left_behind.get(nonce)

    def claim(self, flight: Flight) -> None:
        """Take a flight's nonce, before its transaction is sent: afterwards might be too late.

        Raises Unavailable when the journal cannot be written; the nonce is then not taken.
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
            with suppress(Unavailable):  # `choose` forgets what the chain has passed
                self.write()

    def is_awaited(self, nonce: int) -> bool:
        """Whether a call of this process waits for the nonce's transaction.

        Takes no lock: the caller may hold that of another connection's nonces, and two callers
        would wait for each other.
        """
        return nonce in self._awaited

    def recall(self, nonce: int) -> Flight | None:
        """Return what was sent under a nonce that no call waits for, if it is known here."""
        with self.lock:
            return self._left_behind.get(nonce) or self._landed.get(nonce)

    def has_left_behind(self, mined: int) -> bool:
        """Whether an earlier call left something unmined, given that `mined` nonces are used."""
        with self.lock:
            return any(nonce >= mined for nonce in self._left_behind)

    def keep(self, flight: Flight) -> None:
        """Record what was sent, or sent again, though no call waits for it.

        Raises Unavailable when the journal cannot be written.
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
        except Exception:  # not KeyboardInterrupt: the process ends, and the journal has it
            with self.lock:
                del self._awaited[flight.nonce]
                self._left_behind[flight.nonce] = flight
            raise
        with self.lock:
            self._left_behind.pop(flight.nonce, None)
            self.release(flight.nonce)

    def land(self, flight: Flight) -> None:
        """Keep what was mined, in case a reorganisation drops it."""
        with self.lock:
            # Out and in again: the oldest of a dict, which are dropped below, come first.
            self._landed.pop(flight.nonce, None)
            self._landed[flight.nonce] = flight
            for nonce in list(self._landed)[:-LANDED_KEPT]:
                del self._landed[nonce]

    def write(self) -> None:
        """Write the journal anew, as fees have changed; Unavailable when that fails."""
        with self.lock:
            if self._journal is None:
                return
            waiting = {**self._left_behind, **self._awaited}
            lines = {str(n): [waiting[n].fees.tip, waiting[n].fees.most] for n in sorted(waiting)}
            # Replaced as a whole: a journal cut short by a crash would count as empty.
            part = self._journal.with_name(f".{self._journal.name}.part")
            try:
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_text(json.dumps(lines) + "\n")
                os.replace(part, self._journal)
            except OSError as error:
                raise Unavailable(
                    f"the journal of transactions {self._journal} cannot be written:"
                    f" {error.strerror}"
                ) from error
