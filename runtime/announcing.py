"""Announces what a role's settings name."""

from chain.announcements import next_announcement
from chain.federation import Federation
from ethereum.transactions import Receipt
from protocol.errors import Misconfigured
from runtime import events
from runtime.events import Report
from runtime.stores import StoreSettings


class Announcing:
    """Says on chain where a role's blocks are, as its settings name the place."""

    def __init__(self, federation: Federation, store: StoreSettings, report: Report) -> None:
        self._federation, self._report = federation, report
        self._text = store.whereabouts
        self._has_warned = False

    def look(self) -> None:
        """Announce if the settings name a place and it is due; warn once while it must wait."""
        due = next_announcement(self._federation, self._text)
        if due is None:
            return
        places = ", ".join(self._text.splitlines())
        if due.at <= self._federation.next_time():
            receipt = self._federation.announce(self._text)
            self._report(events.PlacesAnnounced(places=places, gas=receipt.gas_used))
        elif not self._has_warned and due.stands != self._text:
            self._has_warned = True
            stands = ", ".join(due.stands.splitlines()) or "nothing"
            advice = "`commonweight store announce` says so now, for about 30,000 gas"
            self._report(
                events.PlacesWait(places=places, stands=stands, until=due.at, advice=advice)
            )


def announce_now(federation: Federation, store: StoreSettings) -> Receipt | None:
    """Announce what the settings name, however recent the last announcement is; None if it stands.

    Raises Misconfigured when they name nothing.
    """
    text = store.whereabouts
    if not text:
        raise Misconfigured(
            "there is nothing to announce: set `public` or `announce` in [store] (docs/stores.md)"
        )
    made = federation.history().announced.get(federation.sender.address)
    if made is not None and made.whereabouts == text:
        return None
    return federation.announce(text)
