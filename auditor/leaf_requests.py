"""Requests leaves that a proposal withholds, on the chain (docs/protocol.md §11).

Without the bytes of the model or of an accepted update there is nothing to challenge. But anybody
can request a leaf of them, which must be posted in time, or the aggregator loses its bond.

- If all updates are available, the right tree of the model is known. If its root differs from the
  proposed one, a few leaves lead to a wrong one (`auditor.search`), which is then challenged.
- If the root is the same, the model is right and only its bytes are withheld. If an update is
  withheld, the right tree cannot be known. In both cases one leaf, drawn at random, is requested
  under each root whose bytes are missing: an aggregator that does not have them itself is caught.
- Each leaf of the model that is posted is also held against how far a value can move at most.

Progress is read from the chain's events, so a watcher that was restarted continues the search.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.averaged import Averaged, Posted, WrongLeaf, WrongMove
from auditor.replay import Audit
from auditor.search import compute_digests_root, narrow
from chain.events import LeafRequested, Proposed
from chain.records import Opening
from contracts.reverts import Reverted
from protocol.errors import Misconfigured
from protocol.types import Digest
from rounds.context import RoundContext


@dataclass(frozen=True)
class Withheld:
    """A proposal whose model, or an update it accepts, is unavailable."""

    proposed: Proposed
    averaged: Averaged

    def __str__(self) -> str:
        return "; ".join(self.averaged.missing)

    @property
    def roots(self) -> tuple[Digest, ...]:
        """The roots whose bytes are missing, the model's last."""
        roots = [u.reveal.root for u in self.averaged.updates if u.folder is None]
        if self.averaged.model is None:
            roots.append(self.proposed.root)
        return tuple(dict.fromkeys(roots))  # two updates may have one root


@dataclass(frozen=True)
class Wanted:
    """A leaf to request under each of `roots`, and the reason for the request."""

    leaf: int
    roots: tuple[Digest, ...]
    reason: str


@dataclass(frozen=True)
class Answered:
    """The requested leaf was posted and is right."""

    leaf: int
    reason: str

    def __str__(self) -> str:
        return f"leaf {self.leaf} was posted and is right: {self.reason}"


def next_step(
    audit: Audit, context: RoundContext, withheld: Withheld
) -> WrongLeaf | WrongMove | Wanted | Answered:
    """Return the next step against a proposal that withholds bytes."""
    # Of all rounds: a posted leaf stays public, whichever request it answered.
    posted = {
        (event.root, event.leaf): audit.federation.posted_leaf(event)
        for event in audit.history.posted_leaves
    }
    requested, averaged = context.told.requested, withheld.averaged
    moved = _find_wrong_move(withheld, posted)
    if moved is not None:
        return moved
    if any(update.folder is None for update in averaged.updates):
        return _sample(withheld, posted, requested, "an accepted update is withheld")
    ours = averaged.right_leaf_digests()
    if compute_digests_root(ours) != withheld.proposed.root:
        return _search(withheld, posted, requested, ours)
    reason = "the model is right, only its bytes are withheld"
    return _sample(withheld, posted, requested, reason)


def _find_wrong_move(withheld: Withheld, posted: Posted) -> WrongMove | None:
    """Return a posted leaf of the model that moved too far: it takes no update to prove."""
    averaged, root = withheld.averaged, withheld.proposed.root
    if averaged.model is not None:
        return None  # all of it was compared
    for under, leaf in posted:
        if under == root:
            before, model = averaged.open_models(leaf, posted)
            if averaged.is_too_far(before, model):
                return WrongMove(withheld.proposed, leaf, before, model)
    return None


def _search(
    withheld: Withheld,
    posted: Posted,
    requested: Sequence[LeafRequested],
    ours: Sequence[Digest],
) -> WrongLeaf | Wanted:
    """Return a wrong leaf of the model once one was posted, else the next leaf to request."""
    root = withheld.proposed.root
    theirs = {leaf: opened for (under, leaf), opened in posted.items() if under == root}
    suspects = narrow(ours, theirs)
    if suspects[0] in theirs:
        return withheld.averaged.wrong_leaf(withheld.proposed, suspects[0], posted)
    waiting = [event.leaf for event in requested if event.root == root and event.leaf in suspects]
    # Only one at a time, since each answer narrows the search and each request costs a deposit.
    # Drawn at random, or the aggregator could put its fault where the search comes last.
    leaf = waiting[0] if waiting else secrets.choice(suspects)
    reason = f"its root is not that of the right model, one of {len(suspects)} leaves is wrong"
    return Wanted(leaf, (root,), reason)


def _sample(
    withheld: Withheld, posted: Posted, requested: Sequence[LeafRequested], reason: str
) -> WrongLeaf | Wanted | Answered:
    """Return one leaf to request under every withheld root; once it was posted, judge it."""
    # The leaf of an earlier request stays the one: it is compared across all roots, and a watcher
    # that was restarted must not pay for a second one.
    drawn = [event.leaf for event in requested if event.root in withheld.roots]
    leaf = drawn[0] if drawn else secrets.randbelow(withheld.averaged.spec.leaf_count)
    missing = tuple(root for root in withheld.roots if (root, leaf) not in posted)
    if missing:
        return Wanted(leaf, missing, reason)
    opened = withheld.averaged.open(leaf, posted)
    if withheld.averaged.is_right(leaf, *opened):
        return Answered(leaf, reason)
    return withheld.averaged.wrong_leaf(withheld.proposed, leaf, posted)


def request(
    audit: Audit, context: RoundContext, withheld: Withheld, wanted: Wanted
) -> Iterator[str]:
    """Request the wanted leaf under each root where that was not done yet; yield one line each.

    The wallet pays a deposit per request.
    """
    federation, proposed = audit.federation, withheld.proposed
    reveals = {update.reveal.root: update.reveal for update in withheld.averaged.updates}
    pending = {(event.root, event.leaf) for event in context.told.requested}
    for root in wanted.roots:
        if (root, wanted.leaf) in pending:
            continue
        reveal = None if root == proposed.root else reveals[root]
        whose = "the model" if reveal is None else f"the update of {reveal.participant}"
        try:
            if reveal is None:
                federation.request_model_leaf(proposed.round, wanted.leaf)
            else:
                judged = [verdict.participant for verdict in proposed.verdicts]
                index = judged.index(reveal.participant)
                federation.request_update_leaf(
                    proposed.round, wanted.leaf, index, proposed.verdicts, Opening.of(reveal)
                )
        except (Reverted, Misconfigured) as error:
            # Too late, or no tokens for the deposit. The other roots may still be requested.
            yield f"round {proposed.round}: no leaf of {whose} can be requested: {error}"
            continue
        yield (
            f"round {proposed.round}: requested leaf {wanted.leaf} of {whose}, to be posted within"
            f" {audit.terms.windows.response_seconds} s: {wanted.reason}"
        )
