"""Tells a role's sources what members announced on the chain."""

from chain.announcements import read_announcements
from chain.federation import Federation
from storage.blocks import ReadableStore
from storage.sources import Sources


def learn_places(store: ReadableStore, federation: Federation) -> None:
    """Let a role's sources ask where members announced by now that their blocks are.

    A store that is no `Sources` knows no others. Raises as `Federation.history` does.
    """
    if not isinstance(store, Sources):
        return
    now = federation.pinned()
    store.learn(read_announcements(now), now.round_count())
