"""Requests leaves of what a proposal withholds on the chain (docs/protocol.md §11).

Without the bytes of the model, or of an accepted update, there is nothing to challenge. But a leaf
of them can be requested: it is posted in time, or the aggregator loses its bond.

- Of a model whose updates are all there, the right tree is known. When its root is another than the
  proposed one, a few leaves lead to a wrong one (`auditor.search`), which is then challenged.
- When the root is the same, the average is right and only its bytes are withheld; when an update is
  withheld, the right tree cannot be known. Then one leaf, drawn by chance, is requested under each
  root whose bytes are missing: an aggregator that does not have them itself is caught.

How far this has come is read from the chain's events: a watcher that starts anew goes on with it.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditor.averaged import Averaged, Posted, WrongLeaf
from auditor.replay import Audit
from auditor.search import compute_digests_root, narrow
from chain.events import AvailabilityChallenged, Proposed
from chain.federation import Federation
from contracts.reverts import Reverted
from protocol.errors import Misconfigured
from protocol.reveal import Reveal
from protocol.types import Digest
from rounds.context import RoundContext


@dataclass(frozen=True)
class Withheld:
    """A proposal that accepts or proposes bytes which are unavailable."""

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
        return tuple(dict.fromkeys(roots))  # the mean of one update is that update


@dataclass(frozen=True)
class Wanted:
    """A leaf that the chain should have under each of `roots`, and what it is wanted for."""

    leaf: int
    roots: tuple[Digest, ...]
    reason: str


@dataclass(frozen=True)
class Answered:
    """The leaf that was requested was posted, and is not wrong."""

    leaf: int
    reason: str

    def __str__(self) -> str:
        return f"leaf {self.leaf} was posted and is right: {self.reason}"


def next_step(
    audit: Audit, context: RoundContext, withheld: Withheld
) -> WrongLeaf | Wanted | Answered:
    """Return what there is to do now about a proposal of which something is withheld."""
    # Of all rounds: a leaf stays posted for good, whatever it was posted for.
    posted = {
        (event.root, event.leaf): audit.federation.posted_leaf(event)
        for event in audit.history.posted_leaves
    }
    requested, averaged = context.told.requested, withheld.averaged
    if any(update.folder is None for update in averaged.updates):
        return _sample(withheld, posted, requested, "an accepted update is withheld")
    ours = averaged.mean_leaf_digests()
    if compute_digests_root(ours) != withheld.proposed.root:
        return _search(withheld, posted, requested, ours)
    reason = "the average is right, only its bytes are withheld"
    return _sample(withheld, posted, requested, reason)


def _search(
    withheld: Withheld,
    posted: Posted,
    requested: Sequence[AvailabilityChallenged],
    ours: Sequence[Digest],
) -> WrongLeaf | Wanted:
    """Return a wrong leaf of the model once one was posted, else the next one to see."""
    root = withheld.proposed.root
    theirs = {leaf: opened for (under, leaf), opened in posted.items() if under == root}
    suspects = narrow(ours, theirs)
    if suspects[0] in theirs:
        opened = withheld.averaged.open(suspects[0], posted)
        return WrongLeaf(withheld.proposed, suspects[0], *opened)
    waiting = [event.leaf for event in requested if event.root == root and event.leaf in suspects]
    # By chance, lest the aggregator puts its fault where the search would come last.
    leaf = waiting[0] if waiting else secrets.choice(suspects)
    reason = f"its root is not that of the average, one of {len(suspects)} leaves is wrong"
    return Wanted(leaf, (root,), reason)


def _sample(
    withheld: Withheld, posted: Posted, requested: Sequence[AvailabilityChallenged], reason: str
) -> WrongLeaf | Wanted | Answered:
    """Return one leaf to see under every withheld root, and whether it is right once it is seen."""
    drawn = [event.leaf for event in requested if event.root in withheld.roots]
    leaf = drawn[0] if drawn else secrets.randbelow(withheld.averaged.spec.leaf_count)
    missing = tuple(root for root in withheld.roots if (root, leaf) not in posted)
    if missing:
        return Wanted(leaf, missing, reason)
    updates, model = withheld.averaged.open(leaf, posted)
    if withheld.averaged.is_mean(updates, model):
        return Answered(leaf, reason)
    return WrongLeaf(withheld.proposed, leaf, updates, model)


def request(
    audit: Audit, context: RoundContext, withheld: Withheld, wanted: Wanted
) -> Iterator[str]:
    """Request what is wanted where that is not done yet; yield one line per leaf, or why not.

    The wallet pays a deposit for each.
    """
    proposed = withheld.proposed
    pending = {(event.root, event.leaf) for event in context.told.requested}
    for root in wanted.roots:
        if (root, wanted.leaf) in pending:
            continue
        whose = _name(withheld, root)
        try:
            _send_request(audit.federation, withheld, root, wanted.leaf)
        except (Reverted, Misconfigured) as error:
            yield f"round {proposed.round}: no leaf of {whose} can be requested: {error}"
            continue
        yield (
            f"round {proposed.round}: requested leaf {wanted.leaf} of {whose}, to be posted within"
            f" {audit.terms.response_seconds} s: {wanted.reason}"
        )


def _send_request(federation: Federation, withheld: Withheld, root: Digest, leaf: int) -> None:
    proposed = withheld.proposed
    if root == proposed.root:
        federation.challenge_model_availability(proposed.round, leaf)
        return
    reveal = _reveal(withheld, root)
    index = [verdict.participant for verdict in proposed.verdicts].index(reveal.participant)
    federation.challenge_update_availability(proposed.round, leaf, index, proposed.verdicts, reveal)


def _name(withheld: Withheld, root: Digest) -> str:
    if root == withheld.proposed.root:
        return "the model"
    return f"the update of {_reveal(withheld, root).participant}"


def _reveal(withheld: Withheld, root: Digest) -> Reveal:
    return next(u.reveal for u in withheld.averaged.updates if u.reveal.root == root)
