"""Announces what a role's settings name."""

from chain.announcements import announce_if_due
from chain.federation import Federation
from runtime import events
from runtime.events import Report
from runtime.settings import RoleSettings


def announce_places(federation: Federation, settings: RoleSettings, report: Report) -> None:
    """Say on chain where this role's blocks are, if the settings name a place and it is due."""
    text = settings.store.whereabouts
    receipt = announce_if_due(federation, text)
    if receipt is not None:
        places = ", ".join(text.splitlines())
        report(events.PlacesAnnounced(places=places, gas=receipt.gas_used))
