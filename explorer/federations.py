"""The federations that the explorer shows: those of a factory, and whichever is asked for.

federations = Federations(connect(rpc_url), open_store, factory=…)
federations.open(address)       # followed from now on
federations.listed()              # rows of the factory's
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from web3 import Web3

from chain.factory import Factory, FactoryLocation
from chain.federation import Federation
from explorer.audits import Audits
from explorer.documents import Documents
from explorer.following import Following, LocalNotes
from protocol.cid import digest_of_raw_cid
from protocol.errors import Misconfigured, Unavailable
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
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="federations")
        self._listing: Future[list[dict[str, Any]]] | None = None
        self._list_again_at = 0.0
        self._rows: list[dict[str, Any]] | None = None

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

    def listed(self) -> list[dict[str, Any]]:
        """Return a row for each federation of the factory, oldest first; none without a factory.

        As they were some seconds ago: only the first call waits for the node, and raises for it.
        """
        if self.factory is None:
            return []
        with self._lock:
            # What has come is taken first, or looks that are far apart would never see it.
            if self._listing is not None and self._listing.done():
                if self._listing.exception() is None:
                    self._rows = self._listing.result()
                self._listing = None
            if self._listing is None and time.monotonic() >= self._list_again_at:
                self._listing = self._pool.submit(self._read_list, self.factory)
                self._list_again_at = time.monotonic() + _LIST_AGAIN_S
            rows, listing = self._rows, self._listing
        if rows is None:
            if listing is None:
                raise Unavailable("the federations of the factory are not known: the node failed")
            rows = listing.result()
        specs: list[Spec | None] = [
            self._documents.get(digest_of_raw_cid(row["spec_cid"]), Spec.parse) for row in rows
        ]
        return [
            {**row, "base_model": None if spec is None else spec.base_model.name}
            for row, spec in zip(rows, specs, strict=True)
        ]

    def _read_list(self, factory: FactoryLocation) -> list[dict[str, Any]]:
        return list_federations(Factory(self.w3, factory.address), factory.block)

    def stop(self) -> None:
        """Follow none any longer."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._documents.stop()
        for following in list(self._followed.values()):
            following.stop()
