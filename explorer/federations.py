"""The federations that the explorer shows: those of a factory, and whichever is asked for.

federations = Federations(connect(rpc_url), open_store, factory=…)
federations.open(address)       # followed from now on
federations.list()              # rows of the factory's
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from web3 import Web3

from chain.factory import Factory, FactoryLocation
from chain.federation import Federation
from explorer.audits import Audits
from explorer.documents import Documents
from explorer.following import Following, LocalNotes
from protocol.cid import digest_of_raw_cid
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Address
from sponsor.manage import list_federations
from storage.blocks import Store

_LIST_AGAIN_S: Final = 10.0
MOST_FOLLOWED: Final = 64
"""Federations followed at once: each has a thread, and its events in memory."""


class Federations:
    """Opens federations and follows them; thread-safe.

    `open_store` returns where a federation's content is read. `events_folder` keeps events on disk,
    so that the next start reads new blocks only.
    """

    def __init__(
        self,
        w3: Web3,
        open_store: Callable[[], Store],
        audits: Audits,
        *,
        factory: FactoryLocation | None = None,
        events_folder: Path | None = None,
    ) -> None:
        self.w3, self.factory, self.audits = w3, factory, audits
        self._open_store, self._events_folder = open_store, events_folder
        self._documents = Documents(open_store())
        self._lock = threading.Lock()
        self._followed: dict[Address, Following] = {}
        self._rows: list[dict[str, Any]] = []
        self._listed_at = -_LIST_AGAIN_S

    def follow(
        self, federation: Federation, store: Store | None = None, notes: LocalNotes | None = None
    ) -> Following:
        """Follow a federation whose code and founding were checked, and return its following."""
        with self._lock:
            known = self._followed.get(federation.address)
            if known is not None:
                return known
            if len(self._followed) >= MOST_FOLLOWED:
                raise Misconfigured(
                    f"{MOST_FOLLOWED} federations are followed already: start another explorer"
                )
            if self._events_folder is not None:
                federation.keep_events(self._events_folder)
            following = Following(federation, store or self._open_store(), notes)
            self._followed[federation.address] = following
        following.start()
        return following

    def open(self, address: Address) -> Following:
        """Return the following of a federation, which begins when it is first asked for.

        Raises Misconfigured when no factory of this version founded a federation there.
        """
        known = self._followed.get(address)
        if known is not None:
            return known
        federation = Federation(self.w3, address)
        federation.deployment_block = federation.founding().block
        return self.follow(federation)

    def list(self) -> list[dict[str, Any]]:
        """Return a row for each federation of the factory, oldest first; none without a factory."""
        with self._lock:
            if self.factory is None:
                return []
            if time.monotonic() - self._listed_at >= _LIST_AGAIN_S:
                factory = Factory(self.w3, self.factory.address)
                self._rows = list_federations(factory, self.factory.block)
                self._listed_at = time.monotonic()
            rows = self._rows
        specs: list[Spec | None] = [
            self._documents.get(digest_of_raw_cid(row["spec_cid"]), Spec.parse) for row in rows
        ]
        return [
            {**row, "base_model": None if spec is None else spec.base_model.name}
            for row, spec in zip(rows, specs, strict=True)
        ]

    def stop(self) -> None:
        """Follow none any longer."""
        self._documents.stop()
        for following in list(self._followed.values()):
            following.stop()
