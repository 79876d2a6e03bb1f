"""What a proposal averages, and the model it proposes, as far as their bytes can be had."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from auditor.history import RoundHistory
from auditor.replay import Audit
from chain.events import Proposed
from chain.records import Leaf, Model, OpenedUpdate
from protocol.average import weighted_mean
from protocol.checks import Check
from protocol.encoding import STORED
from protocol.errors import Rejected, Unavailable
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Digest, RoundId
from rounds.compare import first_wrong_leaf
from storage.layers import LayerFolder

_BLOCK_BYTES: Final = 1 << 18


Posted = Mapping[tuple[Digest, int], Leaf]
"""Leaves that were posted on the chain, by root and number."""

_NOTHING: Final[Posted] = {}


@dataclass(frozen=True)
class Part:
    """An accepted update. Without a folder its bytes cannot be had, for the `reason` given."""

    reveal: Reveal
    weight: int
    folder: LayerFolder | None
    reason: str = ""


@dataclass(frozen=True)
class Averaged:
    """A proposed model and the updates it should be the mean of, in the order of the verdicts.

    `model` is None when the bytes under `root` cannot be had, for the `reason` given.
    """

    spec: Spec
    root: Digest
    updates: tuple[Part, ...]
    model: LayerFolder | None
    reason: str = ""

    @property
    def missing(self) -> list[str]:
        """Why bytes cannot be had, a line each; empty when all are there."""
        lines = [f"update of {u.reveal.participant}: {u.reason}" for u in self.updates if u.reason]
        return [*lines, f"model: {self.reason}"] if self.model is None else lines

    def first_wrong_leaf(self) -> int | None:
        """Return the first leaf of the model that is not the mean, None when all are.

        Unavailable when anything is missing.
        """
        weights = [update.weight for update in self.updates]
        return first_wrong_leaf(self.spec, self._folders(), weights, _there(self.model))

    def mean_blocks(self) -> Iterator[bytes]:
        """Yield the mean of the updates (docs/protocol.md §7) in blocks of whole leaves.

        Unavailable when an update is missing.
        """
        folders, weights = self._folders(), [update.weight for update in self.updates]
        leaf_bytes = self.spec.encoding.leaf_bytes
        length = max(_BLOCK_BYTES // leaf_bytes, 1) * leaf_bytes
        for layer in range(len(self.spec.layers)):
            for start in range(0, self.spec.layer_bytes(layer), length):
                count = min(length, self.spec.layer_bytes(layer) - start) // STORED.itemsize
                blocks = [
                    np.fromfile(folder.layer_path(layer), STORED, count=count, offset=start)
                    for folder in folders
                ]
                yield weighted_mean(blocks, weights).astype(STORED).tobytes()

    def open(self, leaf: int, posted: Posted = _NOTHING) -> tuple[tuple[OpenedUpdate, ...], Leaf]:
        """Return one leaf of every update and of the model, with their proofs.

        What is missing is taken from `posted`; Unavailable when it is not there either.
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
    """A leaf of a proposed model that is not the mean, with all that shows it to the contract."""

    proposed: Proposed
    leaf: int
    updates: tuple[OpenedUpdate, ...]
    model: Leaf

    def __str__(self) -> str:
        return f"leaf {self.leaf} is not the weighted mean of {len(self.updates)} updates"


def fetch_averaged(audit: Audit, history: RoundHistory, proposed: Proposed) -> Averaged | None:
    """Return what a proposal averages, None when it accepts nothing.

    Raises Unavailable or Rejected when not even the spec or the model of before can be had.
    """
    accepted = [verdict for verdict in proposed.verdicts if verdict.is_accepted]
    if not accepted:
        return None
    spec = audit.spec()
    before = audit.model_before(history.round_id)
    screened = {s.verdict.participant: s for s in audit.screen(spec, history, before)}
    updates = []
    for verdict in accepted:
        found = screened[verdict.participant]
        # A later check's failure leaves bytes whose root is the one revealed.
        is_there = found.verdict.is_accepted or found.verdict.reason > Check.ROOT
        folder = found.folder if is_there else None
        updates.append(Part(found.reveal, verdict.weight, folder, "" if is_there else found.reason))
    model, reason = _fetch_proposed(audit, spec, history, proposed, before)
    return Averaged(spec, proposed.root, tuple(updates), model, reason)


def _fetch_proposed(
    audit: Audit, spec: Spec, history: RoundHistory, proposed: Proposed, before: Model
) -> tuple[LayerFolder | None, str]:
    """Return the proposed model's layers; those of the model before when the root is its root.

    None, and why, when they cannot be had.
    """
    if proposed.root == before.root:
        return audit.fetch_model(spec, before, history.round_id), ""
    model = Model(proposed.root, proposed.manifest)
    try:
        return audit.fetch_model(spec, model, RoundId(history.round_id + 1)), ""
    except (Unavailable, Rejected) as error:
        return None, str(error)


def _there(folder: LayerFolder | None) -> LayerFolder:
    if folder is None:
        raise Unavailable("bytes that a proof needs cannot be had")
    return folder
