"""Tells a role's sources, and its own store, what members announced on the chain."""

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


def meet_peers(store: ReadableStore) -> None:
    """Connect a role's own store to the announced peers, since others look into it soon.

    A daemon that was restarted, or took the place of another, knows nobody. It may have another ID
    than was announced too, so that nobody finds it who is not connected already.
    """
    if isinstance(store, Sources):
        store.keep_peers(at_once=True)
