"""The updates that a proposal averages and the model it proposes, as far as they are available."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from auditor.replay import Audit
from chain.events import Proposed
from chain.records import Leaf, Model, OpenedUpdate
from protocol.average import weighted_mean
from protocol.checks import Check
from protocol.encoding import STORED
from protocol.errors import Rejected, Unavailable
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Digest
from rounds.compare import first_wrong_value, mean_leaf_digests
from rounds.context import RoundContext
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
    """A proposed model and the updates it should be the mean of, in the order of the verdicts.

    `model` is None when the bytes under `root` are unavailable, for the `reason` given.
    """

    spec: Spec
    root: Digest
    updates: tuple[Part, ...]
    model: LayerFolder | None
    reason: str = ""

    @property
    def missing(self) -> list[str]:
        """Why bytes are unavailable, one line per update or model; empty if none are missing."""
        lines = [f"update of {u.reveal.participant}: {u.reason}" for u in self.updates if u.reason]
        return [*lines, f"model: {self.reason}"] if self.model is None else lines

    def first_wrong_leaf(self) -> int | None:
        """Return the first leaf of the model that is not the mean, or None.

        Raises Unavailable when an update or the model is missing.
        """
        weights = [update.weight for update in self.updates]
        wrong = first_wrong_value(self.spec, self._folders(), weights, _there(self.model))
        return None if wrong is None else wrong.leaf

    def mean_leaf_digests(self) -> list[Digest]:
        """Return the leaf digests of the mean; raises Unavailable when an update is missing."""
        weights = [update.weight for update in self.updates]
        return mean_leaf_digests(self.spec, self._folders(), weights)

    def open(self, leaf: int, posted: Posted = _NOTHING) -> tuple[tuple[OpenedUpdate, ...], Leaf]:
        """Return one leaf of every update and of the model, with their proofs.

        A missing leaf is taken from `posted`; raises Unavailable when it is not there either.
        """

        def opened(root: Digest, folder: LayerFolder | None) -> Leaf:
            if folder is None and (root, leaf) in posted:
                return posted[root, leaf]
            return Leaf(*_there(folder).prove(self.spec, leaf))

        updates = [OpenedUpdate(u.reveal, opened(u.reveal.root, u.folder)) for u in self.updates]
        return tuple(updates), opened(self.root, self.model)

    def is_mean(self, updates: Sequence[OpenedUpdate], model: Leaf) -> bool:
        """Whether a leaf of the model is the mean of the same leaf of every update."""
        values = [np.frombuffer(update.leaf.values, STORED) for update in updates]
        mean = weighted_mean(values, [update.weight for update in self.updates])
        return mean.astype(STORED).tobytes() == model.values

    def _folders(self) -> list[LayerFolder]:
        return [_there(update.folder) for update in self.updates]


@dataclass(frozen=True)
class WrongLeaf:
    """A leaf of a proposed model that is not the mean, with all the contract needs to verify it."""

    proposed: Proposed
    leaf: int
    updates: tuple[OpenedUpdate, ...]
    model: Leaf

    def __str__(self) -> str:
        return f"leaf {self.leaf} is not the weighted mean of {len(self.updates)} updates"


def fetch_averaged(audit: Audit, context: RoundContext) -> Averaged | None:
    """Return what a round's standing proposal averages; None when it accepts nothing.

    Raises Unavailable or Rejected when the model that the round starts from is not available.
    """
    proposed = context.told.proposed
    accepted = [verdict for verdict in proposed.verdicts if verdict.is_accepted] if proposed else []
    if proposed is None or not accepted:
        return None
    screened = {s.verdict.participant: s for s in audit.screen(context)}
    updates = []
    for verdict in accepted:
        found = screened[verdict.participant]
        # An update that we would reject by a check after the root is still what the proposal
        # averages: its bytes hash to the root that was revealed, so they prove a wrong mean.
        is_there = found.verdict.is_accepted or found.verdict.reason > Check.ROOT
        folder = found.folder if is_there else None
        updates.append(Part(found.reveal, verdict.weight, folder, "" if is_there else found.reason))
    # A model with the root of the one before has its bytes, whatever the new manifest says.
    is_same = proposed.root == context.model.root
    model = context.model if is_same else Model(proposed.root, proposed.manifest)
    averaged = Averaged(context.spec, proposed.root, tuple(updates), None)
    try:
        return replace(averaged, model=audit.fetch_model(context, model))
    except (Unavailable, Rejected) as error:
        if is_same:
            raise
        return replace(averaged, reason=str(error))


def _there(folder: LayerFolder | None) -> LayerFolder:
    if folder is None:
        raise Unavailable("bytes that a proof needs are unavailable")
    return folder
