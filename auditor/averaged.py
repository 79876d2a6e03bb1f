"""The updates that a proposal averages and the model it proposes, as far as they are available."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from auditor.replay import Audit
from chain.events import Proposed
from chain.records import Leaf, Model, OpenedLeaf, Opening
from protocol.average import move_by_sum_into, move_model
from protocol.encoding import LEAF_VALUES, value_type
from protocol.errors import Rejected, Unavailable
from protocol.masking import MASKED_VALUE, add_masked, remove_masks, signed_sum
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Digest, RoundId
from rounds.average import MODEL_VALUE
from rounds.compare import (
    first_too_far,
    first_wrong_value,
    is_too_far,
    moved_leaf_digests,
)
from rounds.context import RoundContext
from rounds.masked_sum import masks_left
from rounds.rebuild import as_summed
from storage.layers import LayerFolder

Posted = Mapping[tuple[Digest, int], Leaf]
"""Leaves that were posted on the chain, by root and number."""

_NOTHING: Final[Posted] = {}


@dataclass(frozen=True)
class Part:
    """An accepted update. Without a folder its bytes are unavailable, for the `reason` given."""

    reveal: Reveal
    weight: int
    folder: LayerFolder | None
    reason: str = ""


@dataclass(frozen=True)
class Averaged:
    """A proposed model and what it should be made of: the model before, moved by the updates.

    They are in the order of the verdicts. `model` is None when the bytes under `root` are
    unavailable, for the `reason` given.
    """

    spec: Spec
    round_id: RoundId
    root: Digest
    before: LayerFolder
    updates: tuple[Part, ...]
    model: LayerFolder | None
    reason: str = ""
    masked: RoundContext | None = None
    """The round, where updates are masked and the model is made of their sum."""

    @property
    def missing(self) -> list[str]:
        """Why bytes are unavailable, one line per update or model; empty if none are missing."""
        lines = [f"update of {u.reveal.participant}: {u.reason}" for u in self.updates if u.reason]
        return [*lines, f"model: {self.reason}"] if self.model is None else lines

    @property
    def weights(self) -> list[int]:
        """The weights of the updates."""
        return [update.weight for update in self.updates]

    def first_leaf_too_far(self) -> int | None:
        """Return the first leaf of the model that moved further than any update could move it.

        It takes no update; None also when the model is unavailable.
        """
        if self.model is None:
            return None
        far = first_too_far(self.spec, self.before, self.model, self.round_id)
        return None if far is None else far.leaf

    def first_wrong_leaf(self) -> int | None:
        """Return the first leaf of the model that is not what the updates give, or None.

        Raises Unavailable when an update or the model is missing.
        """
        place = (self.before, *self._summed(), _there(self.model), self.round_id)
        wrong = first_wrong_value(self.spec, *place)
        return None if wrong is None else wrong.leaf

    def right_leaf_digests(self) -> list[Digest]:
        """Return the leaf digests of the right model; Unavailable when an update is missing."""
        place = (self.before, *self._summed(), self.round_id)
        return moved_leaf_digests(self.spec, *place)

    def open(
        self, leaf: int, posted: Posted = _NOTHING
    ) -> tuple[tuple[OpenedLeaf, ...], Leaf, Leaf]:
        """Return one leaf of every update, of the model before and of the model, with proofs.

        A missing leaf is taken from `posted`; raises Unavailable when it is not there either.
        """
        updates = [
            OpenedLeaf(
                Opening.of(update.reveal),
                self._open(update.reveal.root, update.folder, leaf, posted),
                update.reveal,
            )
            for update in self.updates
        ]
        return tuple(updates), *self.open_models(leaf, posted)

    def wrong_leaf(self, proposed: Proposed, leaf: int, posted: Posted = _NOTHING) -> "WrongLeaf":
        """Return the proof that a leaf of the model is wrong; raises as `open`."""
        is_masked = self.masked is not None
        return WrongLeaf(proposed, leaf, *self.open(leaf, posted), is_masked)

    def open_models(self, leaf: int, posted: Posted = _NOTHING) -> tuple[Leaf, Leaf]:
        """Return one leaf of the model before and of the model; as `open`, without updates."""
        before = Leaf(*self.before.prove(self.spec, leaf))
        return before, self._open(self.root, self.model, leaf, posted)

    def is_right(self, leaf: int, updates: Sequence[OpenedLeaf], before: Leaf, model: Leaf) -> bool:
        """Whether a leaf of the model is what the same leaf of every update makes of it."""
        if self.masked is not None:
            sums = np.zeros(LEAF_VALUES, np.uint32)
            for each in updates:
                add_masked(sums, np.frombuffer(each.leaf.values, MASKED_VALUE))
            remove_masks(sums, masks_left(self.masked.told), leaf)
            old = np.frombuffer(before.values, MODEL_VALUE).astype(np.int32)
            new = np.empty_like(old)
            move_by_sum_into(new, old, signed_sum(sums), sum(self.weights), self._grid())
            return new.astype(MODEL_VALUE).tobytes() == model.values
        steps = [np.frombuffer(each.leaf.values, value_type("update")) for each in updates]
        old = np.frombuffer(before.values, MODEL_VALUE)
        moved = move_model(old, steps, self.weights, self._grid())
        return moved.astype(MODEL_VALUE).tobytes() == model.values

    def is_too_far(self, before: Leaf, model: Leaf) -> bool:
        """Whether a leaf of the model moved further than any update could move it."""
        return is_too_far(before.values, model.values, self._grid())

    def _open(self, root: Digest, folder: LayerFolder | None, leaf: int, posted: Posted) -> Leaf:
        if folder is None and (root, leaf) in posted:
            return posted[root, leaf]
        return Leaf(*_there(folder).prove(self.spec, leaf))

    def _grid(self) -> int:
        return self.spec.encoding.grid_in(self.round_id)

    def _summed(self) -> tuple[Sequence[LayerFolder], Sequence[int]]:
        folders = [_there(update.folder) for update in self.updates]
        if self.masked is None:
            return folders, self.weights
        reveals = [update.reveal for update in self.updates]
        return as_summed(self.masked, reveals, folders, self.weights)


@dataclass(frozen=True)
class WrongLeaf:
    """A leaf of a proposed model that is not §7's, with all the contract needs to verify it."""

    proposed: Proposed
    leaf: int
    updates: tuple[OpenedLeaf, ...]
    before: Leaf
    model: Leaf
    is_masked: bool = False

    def __str__(self) -> str:
        return f"leaf {self.leaf} is not what {len(self.updates)} updates make of it"


@dataclass(frozen=True)
class WrongMove:
    """A leaf of a proposed model that moved further than any updates could move it."""

    proposed: Proposed
    leaf: int
    before: Leaf
    model: Leaf

    def __str__(self) -> str:
        return f"leaf {self.leaf} moved further than any update could move it"


def collect_averaged(audit: Audit, context: RoundContext) -> Averaged | None:
    """Return what a round's standing proposal averages; None when it accepts nothing.

    Raises Unavailable or Rejected when the model that the round starts from is not available.
    """
    proposed, accepted = context.told.proposed, context.averaged
    if proposed is None or not accepted:
        return None
    screened = {s.verdict.participant: s for s in audit.fetched(context)}
    updates = []
    for reveal, weight in accepted:
        found = screened[reveal.participant]
        # An update that we would reject by a check after the root is still what the proposal
        # averages: its bytes hash to the root that was revealed, so they prove a wrong average.
        folder = found.folder if found.has_root else None
        updates.append(Part(reveal, weight, folder, "" if folder else found.reason))
    before = audit.model_before(context)
    place = (context.spec, context.round_id, proposed.root, before, tuple(updates))
    masked = context if audit.terms.is_masked else None
    # A model with the root of the one before has its bytes, whatever the new manifest says.
    if proposed.root == context.model.root:
        return Averaged(*place, model=before, masked=masked)
    averaged = Averaged(*place, model=None, masked=masked)
    try:
        model = audit.fetch_proposed(context, Model(proposed.root, proposed.manifest))
    except (Unavailable, Rejected) as error:
        return replace(averaged, reason=str(error))
    return replace(averaged, model=model)


def _there(folder: LayerFolder | None) -> LayerFolder:
    if folder is None:
        raise Unavailable("bytes that a proof needs are unavailable")
    return folder
