"""The bundles of a round's masked updates, as they were revealed (docs/protocol.md §13)."""

from collections.abc import Sequence

from protocol.bundle import Bundle
from protocol.checks import Check
from protocol.errors import Rejected
from protocol.manifest import Manifest
from protocol.reveal import Reveal
from protocol.types import Address, parse_digest
from rounds.context import RoundContext
from rounds.rebuild import FETCHER, Fetcher
from storage.layers import LayerFolder
from storage.sources import reading_from


def read_bundle(folder: LayerFolder, reveal: Reveal, committed: Sequence[Address]) -> Bundle:
    """Return a fetched update's bundle; Rejected(Check.BUNDLE) when it is none for this round."""
    return _checked(folder.bundle_path.read_bytes(), reveal, committed)


def fetch_bundle(context: RoundContext, reveal: Reveal, fetcher: Fetcher = FETCHER) -> Bundle:
    """Return a revealed update's bundle; raises Rejected or Unavailable.

    Of what is published beside it no byte is fetched: a silent member's update may be large.
    """
    store = reading_from(context.store, reveal.participant)
    deadline = fetcher.budget.update_deadline()
    manifest = Manifest.parse(store.get_block(reveal.manifest, deadline=deadline))
    if manifest.bundle is None:
        raise Rejected(Check.BUNDLE, f"the manifest of {reveal.participant} names no bundle")
    raw = store.get_block(parse_digest(manifest.bundle), deadline=deadline)
    return _checked(raw, reveal, context.told.committers)


def _checked(raw: bytes, reveal: Reveal, committed: Sequence[Address]) -> Bundle:
    bundle = Bundle.parse(raw)
    bundle.check_peers(reveal.participant, committed)
    if bundle.secrets_digest() != reveal.secrets:
        raise Rejected(Check.BUNDLE, "the bundle has other commitments than those revealed")
    return bundle
