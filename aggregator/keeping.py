"""What the aggregator's store shows of a round, and for how long.

All that was revealed until the round is settled, since auditors judge the verdicts by it; then what
was accepted, and every model. Nothing that is kept loses a block to what goes: a manifest may list
anybody's blocks.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from chain.history import RoundHistory
from protocol.checks import Check
from protocol.errors import Rejected, Unavailable
from protocol.manifest import Manifest
from protocol.reveal import Reveal
from protocol.types import Address, Digest, RoundId
from protocol.verdict import Verdict
from rounds.context import RoundContext
from rounds.prune import ROUNDS_COMPARED
from rounds.screen import Screened
from runtime import events
from runtime.events import Report
from storage.blocks import Store
from storage.layers import build_manifest, pin, remove_unused
from storage.sources import reading_from

_SHOW_SECONDS: Final = 10.0  # to read manifests of broken updates again: their authors may stall
_SERVE_AGAIN_SECONDS: Final = 30.0  # between two tries to put into the store what it lacks


class Keeper:
    """Puts into a store what the proposals of `address` are about, and removes it later."""

    def __init__(self, address: Address, report: Report) -> None:
        self._address, self._report = address, report
        self._serve_at = -math.inf  # when to look at the store again
        self._rejected: set[Digest] = set()  # manifests of what is still to be removed
        self._old: set[Digest] = set()

    def is_due(self) -> bool:
        """Whether the store may lack something again since it was looked at."""
        return time.monotonic() >= self._serve_at

    def keep_revealed(self, context: RoundContext, screened: list[Screened]) -> None:
        """Show what the verdicts are about, and pin what the model and the losses follow from.

        Auditors read that long after its authors have gone; the rest until the round is settled.
        """
        deadline = time.monotonic() + _SHOW_SECONDS
        try:
            for each in sorted(screened, key=lambda one: not one.verdict.is_averaged):
                if each.has_root:
                    about, root = context.subject(context.spec.update_kind), each.reveal.root
                    # The one that was revealed: canonical JSON of the same files.
                    manifest = build_manifest(each.folder, context.spec, about, root)
                    pin(context.store, each.folder, manifest, pinned=_counts(each.verdict))
                elif each.verdict.reason != Check.REACHABLE:
                    _show_broken(context, each, deadline)
        except Unavailable as error:
            self._report(events.NotKept(round=context.round_id, reason=str(error)))

    def serve_late(self, context: RoundContext) -> None:
        """Put what we proposed, and why, into the store if it lacks any of that.

        It may have been down when we did, or have lost it since.
        """
        self._serve_at = time.monotonic() + _SERVE_AGAIN_SECONDS
        proposed = context.told.proposed
        if proposed is None or proposed.aggregator != self._address:
            return
        spec, about = context.spec, context.subject(context.spec.update_kind)
        try:
            for each in _counted(context):
                if not context.store.has(each.manifest):
                    folder = context.update_folder(each.participant)
                    pin(context.store, folder, build_manifest(folder, spec, about, each.root))
            # Where nothing was accepted the model is the one of before.
            if context.averaged and not context.store.has(proposed.manifest):
                manifest = Manifest.parse(context.proposed_manifest.read_bytes())
                if manifest.digest() == proposed.manifest:
                    pin(context.store, context.new_model, manifest)
        except (Unavailable, Rejected, OSError) as error:
            self._report(events.NotKept(round=context.round_id, reason=str(error)))

    def remove_unused(self, context: RoundContext, *, keeps_all: bool, owns: bool) -> None:
        """Remove a settled round's rejected updates from the store, which the round had to show.

        Where not all is kept, also those of the round whose updates are compared no more. A
        manifest may list anybody's blocks: those of other accepted updates and of models stay.
        """
        counted = {each.manifest for each in _counted(context)}
        self._rejected |= {each.manifest for each in context.reveals} - counted
        following = replace(context, told=RoundHistory(RoundId(context.round_id + 1)))
        used = {context.model.manifest, context.terms.identity.initial_model_manifest}
        for place, finalized in enumerate(following.finalized_before()):
            manifests = {each.manifest for each in _counted(finalized)}
            used |= {finalized.model.manifest}
            if finalized.told.finalized is not None:
                used.add(finalized.told.finalized.manifest)
            # Those of earlier rounds went when these were compared last.
            if keeps_all or place < ROUNDS_COMPARED:
                used |= manifests
            elif place == ROUNDS_COMPARED:
                self._old |= manifests
        # What is pinned is not ours to remove unless the store is: it may be an author's as well.
        # Rejected updates were never pinned here; what they list may be, for something else.
        for gone, also_pinned in ((self._rejected, False), (self._old, owns)):
            if unused := list(_stored_manifests(context.store, gone - used)):
                kept = _stored_manifests(context.store, used)
                remove_unused(context.store, unused, kept, context.spec, also_pinned=also_pinned)
            gone.clear()  # or else, after a failure, they are tried again with the next round's


def _counted(context: RoundContext) -> list[Reveal]:
    """Return the reveals that a proposal's model, or the losses behind its scores, follow from."""
    return [reveal for verdict, reveal in context.judged if _counts(verdict)]


def _counts(verdict: Verdict) -> bool:
    # What did harm is not in the average, but in every loss that says so.
    return verdict.is_averaged or verdict.reason == Check.HARM


def _show_broken(context: RoundContext, each: Screened, deadline: float) -> None:
    """Store the manifest of an update that does not have its root, if it comes once more.

    What is wrong with the update is in it, or in the files that it lists.
    """
    author = reading_from(context.store, each.reveal.participant)
    try:
        raw = author.get_block(each.reveal.manifest, deadline=deadline)
    except (Unavailable, Rejected):
        return
    context.store.put_blocks([raw], pinned=False)
    if each.verdict.reason == Check.ROOT:
        pin(context.store, each.folder, Manifest.parse(raw), pinned=False)


def _stored_manifests(store: Store, digests: Iterable[Digest]) -> Iterator[Manifest]:
    """Yield those of these manifests that the own store has."""
    for digest in digests:
        with suppress(Rejected):  # not a manifest: it lists nothing
            if store.has(digest):
                yield Manifest.parse(store.get_block(digest))
