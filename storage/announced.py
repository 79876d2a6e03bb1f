"""Gateways as their announcers' own: what each may cost a reader in one round.

Three failures end a line, an announcer has two requests in flight at most, and no gateway is asked
for anything before it has answered a probe. All of it is counted for each announcer and line by
itself, so that nobody can spend what an honest author has left, not even by announcing that
author's gateway.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from protocol.errors import Unavailable
from protocol.types import Digest
from protocol.whereabouts import MAX_LINES, Place
from storage.gateway import GatewayStore, Missing

_FAILURES: Final = 3  # of one line, then it is left alone for the round
_PAUSES_S: Final = (0.1, 10.0)  # after the first and the second: an outage is not three failures
_MISSES: Final = 100  # blocks in a row that an announcer's gateways do not have, likewise
_IN_FLIGHT: Final = 2


class Announcer(Protocol):
    """What one account announced, as `chain.announcements.Announcement` has it."""

    @property
    def who(self) -> str:
        """The account."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it says that its blocks are."""

    @property
    def is_author(self) -> bool:
        """Whether it trains: it is asked for its own updates, and for models last of all."""


@dataclass
class Budget:
    """What one announcer has left in this round."""

    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_IN_FLIGHT))
    misses: int = 0
    failures: int = 0


class Line:
    """One announced gateway, as one announcer's: its failures count for nobody else."""

    def __init__(self, store: GatewayStore, budget: Budget, author: str | None) -> None:
        self.store, self.author = store, author
        self._budget = budget
        self._failures = 0
        self._failed_at = self._again_at = -math.inf
        self._is_proved = False
        self._probing = threading.Lock()

    @property
    def is_usable(self) -> bool:
        """Whether it may be asked now."""
        return (
            self._failures < _FAILURES
            and self._budget.failures < _FAILURES * MAX_LINES
            and self._budget.misses < _MISSES
            and time.monotonic() >= self._again_at
        )

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return a block, after a probe at the first time."""
        if not self._is_proved:
            with self._probing:  # one for all that wait
                self._prove(deadline)
        with self._slot(deadline), self._counting():
            data = self.store.get_block(digest, size, deadline)
        self._budget.misses = 0
        return data

    def _prove(self, deadline: float) -> None:
        if self._is_proved:
            return
        with self._slot(deadline), self._counting():
            self.store.probe(deadline)
        self._is_proved = True

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count a failure of what is asked, which must be the line's own."""
        if not self.is_usable:
            raise Unavailable(f"{self.store.gateway.line} is left alone", service="storage")
        began = time.monotonic()
        try:
            yield
        except Unavailable as error:
            if isinstance(error, Missing) and self._is_proved:
                self._budget.misses += 1
            elif began >= self._failed_at:  # what was under way together fails together: once
                self._fail()
            raise

    def _fail(self) -> None:
        self._failed_at = time.monotonic()
        self._failures += 1
        self._budget.failures += 1
        if self._failures < _FAILURES:
            self._again_at = self._failed_at + _PAUSES_S[self._failures - 1]

    @contextmanager
    def _slot(self, deadline: float) -> Iterator[None]:
        left_s = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
        if not self._budget.slots.acquire(timeout=max(left_s, 0)):
            raise Unavailable(f"{self.store.gateway.line} is busy", service="storage")
        try:
            yield
        finally:
            self._budget.slots.release()
