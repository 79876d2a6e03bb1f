"""Shows the contract what is wrong with a proposal (docs/protocol.md §11).

    fault = find_fault(Audit(federation, store, folder), round_id)
    if fault is not None:
        challenge(federation, fault)          # the aggregator's bond is gone

A fault is one verdict or one leaf. What the contract cannot settle (an update wrongly rejected,
bytes that nobody can be shown) is the audit's to report.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.history import RoundHistory
from auditor.mean import first_wrong_leaf
from auditor.replay import Audit
from chain.events import ProposalRefuted, Proposed
from chain.federation import Federation
from chain.records import Leaf, Model, OpenedUpdate, Status
from chain.reverts import Reverted
from chain.rounds import model_before, proposal
from chain.transactions import Receipt
from protocol.checks import Check
from protocol.errors import CommonweightError, Unavailable
from protocol.quantities import RoundId
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.tree import stream_proof
from protocol.verdict import FULL_SCORE, compute_weight
from storage.ipfs import ContentStore
from storage.layers import LayerFolder

_CHUNK_BYTES: Final = 1 << 20
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True)
class WrongVerdict:
    """An accepted update whose proposed weight or score is not what the rules give it."""

    proposed: Proposed
    index: int
    reveal: Reveal

    def __str__(self) -> str:
        verdict = self.proposed.verdicts[self.index]
        return f"{verdict.participant} has weight {verdict.weight} and score {verdict.score}"


@dataclass(frozen=True)
class Averaged:
    """A proposed model and the updates it should be the mean of; the bytes lie in folders."""

    spec: Spec
    updates: tuple[tuple[Reveal, LayerFolder], ...]
    weights: tuple[int, ...]
    model: LayerFolder

    def first_wrong_leaf(self) -> int | None:
        """Return the first leaf of the model that is not the mean, None when all are."""
        folders = [folder for _, folder in self.updates]
        return first_wrong_leaf(self.spec, folders, self.weights, self.model)

    def open(self, leaf: int) -> tuple[list[OpenedUpdate], Leaf]:
        """Return one leaf of every accepted update and of the model, with their proofs."""
        updates = [
            OpenedUpdate(reveal, leaf_proof(self.spec, folder, leaf))
            for reveal, folder in self.updates
        ]
        return updates, leaf_proof(self.spec, self.model, leaf)


@dataclass(frozen=True)
class WrongLeaf:
    """The first leaf of a proposed model that is not the mean."""

    proposed: Proposed
    averaged: Averaged
    leaf: int

    def __str__(self) -> str:
        return f"leaf {self.leaf} is not the weighted mean of {len(self.averaged.updates)} updates"


Fault = WrongVerdict | WrongLeaf


def find_fault(audit: Audit, round_id: RoundId) -> Fault | None:
    """Return what is provably wrong with a round's standing proposal, None when nothing is.

    The mean is taken of the updates that the proposal accepts, with its weights: that is what the
    contract recomputes. Raises Unavailable or Rejected when bytes that a proof needs cannot be had.
    """
    history = audit.history(round_id)
    proposed = history.proposed
    if proposed is None:
        return None
    reveals = {reveal.participant: reveal for reveal in history.reveals()}
    for index, verdict in enumerate(proposed.verdicts):
        if not verdict.is_accepted:
            continue
        weight = compute_weight(reveals[verdict.participant].examples, audit.terms.weight_cap)
        if (verdict.weight, verdict.score) != (weight, FULL_SCORE):
            return WrongVerdict(proposed, index, reveals[verdict.participant])
    averaged = fetch_averaged(audit, history, proposed)
    leaf = averaged.first_wrong_leaf() if averaged else None
    return None if averaged is None or leaf is None else WrongLeaf(proposed, averaged, leaf)


def challenge(federation: Federation, fault: Fault) -> Receipt:
    """Prove the fault to the contract. Raises Reverted when it is none, or no longer matters."""
    proposed = fault.proposed
    if isinstance(fault, WrongVerdict):
        return federation.challenge_verdict(
            proposed.round, fault.index, proposed.verdicts, fault.reveal
        )
    return federation.challenge_average(
        proposed.round, fault.leaf, proposed.verdicts, *fault.averaged.open(fault.leaf)
    )


def leaf_proof(spec: Spec, folder: LayerFolder, leaf: int) -> Leaf:
    """Return leaf `leaf` of the layer files in `folder`, and its proof; one pass, a leaf a time."""
    size = spec.encoding.leaf_bytes
    values, proof = stream_proof(_chunks(spec, folder), size, leaf)
    return Leaf(values, tuple(proof))


def watch(
    federation: Federation,
    store: ContentStore,
    workspace: Path,
    report: Callable[[str], None],
    is_stopped: Callable[[], bool],
    *,
    once: bool = False,
) -> None:
    """Judge each proposal in its challenge window, challenge the wrong ones, until stopped.

    `report` hears one line a finding. With `once`, returns after the first proposal judged. A
    proposal whose bytes cannot be had is judged again as long as its window lasts.
    """
    judged: set[object] = set()
    told: set[str] = set()

    def tell(line: str) -> None:
        if line not in told:  # what is tried again is not told again
            report(line)
        told.add(line)

    while not is_stopped():
        try:
            _judge_newest(federation, store, workspace, judged, tell)
        except CommonweightError as error:
            tell(f"cannot judge now, trying again: {error}")  # a node that is down may come back
        if once and judged:
            return
        time.sleep(_POLL_SECONDS)


def _judge_newest(
    federation: Federation,
    store: ContentStore,
    workspace: Path,
    judged: set[object],
    tell: Callable[[str], None],
) -> None:
    """Judge the newest round's proposal while it can be challenged; add it once that is done."""
    newest = federation.round_count()
    if not newest or federation.status(newest) is not Status.CHALLENGE:
        return
    proposed = proposal(federation, newest)
    if proposed.key in judged:
        return
    for line, is_final in _judge(federation, store, workspace, newest):
        tell(line)
        if is_final:
            judged.add(proposed.key)


def _judge(
    federation: Federation, store: ContentStore, workspace: Path, round_id: RoundId
) -> Iterator[tuple[str, bool]]:
    """Yield lines about the standing proposal of a round, and whether each is the last word."""
    audit = Audit(federation, store, workspace)
    for check in audit.check_round(round_id):
        if not check.passed:
            yield check.line(), False
    try:
        fault = find_fault(audit, round_id)
    except CommonweightError as error:
        yield f"round {round_id}: nothing to show to the contract: {error}", False
        return
    if fault is None:
        yield f"round {round_id}: verdicts and model are as the contract would have them", True
        return
    yield settle(federation, fault), True


def settle(federation: Federation, fault: Fault) -> str:
    """Challenge and return what came of it as a line; somebody may have been faster."""
    round_id = fault.proposed.round
    try:
        receipt = challenge(federation, fault)
    except Reverted as error:
        return f"round {round_id}: {fault}, but the challenge was refused: {error}"
    (told,) = [e for e in federation.events_in(receipt) if isinstance(e, ProposalRefuted)]
    return (
        f"round {round_id}: {fault}: {told.aggregator} was refuted in transaction"
        f" 0x{receipt.transaction_hash.hex()} ({receipt.gas_used:,} gas),"
        f" {told.reward:,} token units to {told.challenger}"
    )


def challenge_open(audit: Audit) -> list[str]:
    """Judge the newest round if it can be challenged now; return a line on what came of it."""
    newest = audit.federation.round_count()
    if not newest or audit.federation.status(newest) is not Status.CHALLENGE:
        return ["no proposal is open to challenge"]
    try:
        fault = find_fault(audit, newest)
    except CommonweightError as error:
        return [f"round {newest}: nothing to show to the contract: {error}"]
    if fault is None:
        return [f"round {newest}: verdicts and model are as the contract would have them"]
    return [settle(audit.federation, fault)]


def fetch_averaged(audit: Audit, history: RoundHistory, proposed: Proposed) -> Averaged | None:
    """Return what a proposal averages, None when it accepts nothing.

    Raises Unavailable or Rejected when the bytes cannot be had.
    """
    accepted = [verdict for verdict in proposed.verdicts if verdict.is_accepted]
    if not accepted:
        return None
    spec = audit.spec()
    before = model_before(audit.federation, history.round_id)
    screened = {s.verdict.participant: s for s in audit.screen(spec, history, before)}
    updates = []
    for verdict in accepted:
        found = screened[verdict.participant]
        # A later check's failure leaves bytes whose root is the one revealed.
        if not found.verdict.is_accepted and found.verdict.reason <= Check.ROOT:
            raise Unavailable(
                f"the update of {verdict.participant} was accepted without its bytes being what it"
                f" revealed: {found.reason}"
            )
        updates.append((found.reveal, found.folder))
    model = _fetch_proposed(audit, spec, history, proposed, before)
    weights = tuple(verdict.weight for verdict in accepted)
    return Averaged(spec, tuple(updates), weights, model)


def _fetch_proposed(
    audit: Audit, spec: Spec, history: RoundHistory, proposed: Proposed, before: Model
) -> LayerFolder:
    """Return the proposed model's layers; those of the model before when the root is its root."""
    if proposed.root == before.root:
        return audit.fetch_model(spec, before, history.round_id)
    model = Model(proposed.root, proposed.manifest)
    return audit.fetch_model(spec, model, RoundId(history.round_id + 1))


def _chunks(spec: Spec, folder: LayerFolder) -> Iterator[bytes]:
    """Yield the layer files in blocks of whole leaves."""
    size = spec.encoding.leaf_bytes
    for index in range(len(spec.layers)):
        with folder.layer_path(index).open("rb") as file:
            while block := file.read(max(_CHUNK_BYTES // size, 1) * size):
                yield block
