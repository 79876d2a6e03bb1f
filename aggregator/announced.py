"""Announced places, as the aggregator sees them: its own before it bonds, then those of members.

Everybody reads what an aggregator made, and asks it first. So its bond waits for a gateway that
shows its store. What members announced is asked once, beside the work; nothing is decided from it.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aggregator.aggregator import Aggregator
from chain.announcements import Announcement, read_announcements
from chain.development import is_development_chain
from chain.federation import Federation
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import Address, Digest
from protocol.whereabouts import Peer, Place
from runtime import events
from runtime.preflight import founding_blocks
from runtime.store_check import ask_place, newest_manifest
from runtime.stores import StoreSettings
from storage.blocks import Store
from storage.proof import prove_gateway, prove_store
from storage.sources import PeeringStore, Sources

_AT_ONCE: Final = 4  # members; the places of one are asked one after the other
_MOST: Final = 64  # members asked at one look

Asked = tuple[Announcement, Digest | None]


def require_gateway(store: StoreSettings, chain_id: int, *, dev: bool) -> None:
    """Raise Misconfigured where the settings name no gateway and an aggregator must have one."""
    if store.public is None and not dev and not is_development_chain(chain_id):
        raise Misconfigured(
            "no gateway is named, and everybody reads what an aggregator has: set"
            ' public = "https://…" in [store] of aggregator.toml (docs/stores.md); --dev does'
            " without, to try things on"
        )


def prove_announced(aggregator: Aggregator, settings: StoreSettings) -> None:
    """Return when the gateway that is announced, if any, shows the own store and no more.

    Raises Unavailable or Misconfigured as `prove_gateway` does.
    """
    reader = settings.reader()
    if reader is None:
        return
    prove_store(aggregator.store, aggregator.spec.total_bytes("model"), reader)
    elsewhere = founding_blocks(aggregator.federation, aggregator.spec)
    prove_gateway(reader, aggregator.store, elsewhere)


class PlaceChecks:
    """Asks each place that members announced, once for each announcement, and reports the answers.

    Of four members at once and 64 at a look, a minute at most for each place, at the addresses that
    the store's rules let pass.
    """

    def __init__(self, aggregator: Aggregator, settings: StoreSettings) -> None:
        self._aggregator, self._settings = aggregator, settings
        store = aggregator.store
        self._own: Store | None = store.own if isinstance(store, Sources) else store
        self._asked: dict[Address, int] = {}  # in which block it had announced what was asked
        self._threads: list[threading.Thread] = []
        self._is_first = True

    def look(self, now: Federation) -> None:
        """Begin to ask what was announced since the last look, without waiting for any answer."""
        if any(thread.is_alive() for thread in self._threads):
            return  # the next look finds it as well
        self._threads = []
        if self._is_first:  # whoever was bonded before it was started did not have to show this
            self._is_first = False
            self._start(self._ask_own)
        waiting: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        for each in self._new(now):
            self._asked[each.who] = each.block
            waiting.put((each, newest_manifest(now, each.who)))
        for _ in range(min(_AT_ONCE, waiting.qsize())):
            self._start(lambda: self._ask_members(waiting))

    def _new(self, now: Federation) -> list[Announcement]:
        itself = self._aggregator.address
        # Whose announcements are read takes several requests: only if there is one to ask about.
        made = (each for each in now.history().announced.values() if each.who != itself)
        if all(self._asked.get(each.who) == each.block_number for each in made):
            return []
        new = (each for each in read_announcements(now) if each.who != itself)
        return [each for each in new if self._asked.get(each.who) != each.block][:_MOST]

    def _start(self, work: Callable[[], None]) -> None:
        # A daemon's thread: the role ends without it.
        thread = threading.Thread(target=work, daemon=True, name="announced places")
        self._threads.append(thread)
        thread.start()

    def _ask_own(self) -> None:
        try:
            prove_announced(self._aggregator, self._settings)
        except CommonweightError as error:
            self._tell(events.OwnGatewayFails(reason=str(error)))

    def _ask_members(self, waiting: "queue.SimpleQueue[Asked]") -> None:
        with suppress(queue.Empty):
            while True:
                announced, block = waiting.get_nowait()
                for place in announced.places:
                    self._ask(announced.who, place, block)

    def _ask(self, who: Address, place: Place, block: Digest | None) -> None:
        if isinstance(place, Peer) and not isinstance(self._own, PeeringStore):
            return  # there is no daemon to ask it through
        try:
            _, seconds = ask_place(place, self._settings.rules, self._own, block)
        except CommonweightError as error:
            self._tell(events.PlaceFails(member=who, place=place.line, reason=str(error)))
        else:
            self._tell(events.PlaceAnswers(member=who, place=place.line, seconds=round(seconds, 3)))

    def _tell(self, event: events.Event) -> None:
        with suppress(OSError):  # a full disk is the role's own work to report
            self._aggregator.report(event)
