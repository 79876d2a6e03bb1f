"""Rebuilds a federation's rounds from the chain and IPFS alone (docs/protocol.md §10).

Nothing the aggregator says is believed: updates are fetched and hashed again, screening is decided
again, the mean and the payouts are computed again, and the tokens are counted.

    for check in Audit(federation, store, folder).run():
        print(check.line())
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from auditor.tokens import check_tokens
from auditor.verified import Verified
from chain.events import (
    Committed,
    FederationEvent,
    Finalized,
    Paid,
    ProposalRefuted,
    Proposed,
    Revealed,
    RoundEvent,
    RoundOpened,
)
from chain.federation import Federation
from chain.records import Model
from chain.rounds import model_before, standing_proposal
from protocol.average import weighted_mean
from protocol.commitment import compute_commitment, is_eligible
from protocol.encoding import STORED
from protocol.errors import CommonweightError, Misconfigured
from protocol.manifest import Kind
from protocol.payout import compute_payouts
from protocol.quantities import Address, Digest, RoundId, parse_digest
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.verdict import Verdict
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, fetch_model
from storage.screening import Screened, screen_reveals

_BLOCK_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class RoundHistory:
    """A finalized or proposed round as the events tell it."""

    round_id: RoundId
    opened: RoundOpened
    committed: tuple[Committed, ...]
    revealed: tuple[Revealed, ...]
    proposed: Proposed | None
    finalized: Finalized | None
    paid: tuple[Paid, ...]
    refuted: tuple[ProposalRefuted, ...]

    def reveals(self) -> list[Reveal]:
        """The reveals in the order in which their participants committed."""
        by_participant = {e.participant: e for e in self.revealed}
        return [
            Reveal(e.participant, r.root, r.manifest, r.examples)
            for e in self.committed
            if (r := by_participant.get(e.participant)) is not None
        ]


class Audit:
    """One federation under audit; files are kept in `folder` while it runs."""

    def __init__(self, federation: Federation, store: ContentStore, folder: Path) -> None:
        self.federation = federation
        self.store = store
        self.folder = folder
        self.chain_id = federation.w3.eth.chain_id
        self.block = federation.w3.eth.block_number
        self.terms = federation.terms()
        self.events = federation.read_events(to_block=self.block)

    def run(self) -> Iterator[Verified]:
        """Yield every check as it is made, in the order of the rounds."""
        spec_check, spec = self._check_spec()
        yield spec_check
        if spec is None:
            return
        yield self._check_held_out(spec)
        terms = self.terms
        model = Model(terms.initial_model_root, terms.initial_model_manifest)
        initial = RoundId(1)
        yield self._check_model(spec, model, initial, "the initial model's layers hash to its root")
        for history in round_histories(self.events):
            yield from self._check_round(spec, history, model)
            if history.finalized is not None:
                model = Model(history.finalized.root, history.finalized.manifest)
        yield from check_tokens(self.federation, self.events, self.block)

    def spec(self) -> Spec:
        """Return the spec that the contract pins; Unavailable or Rejected when it cannot be had."""
        return Spec.parse(self.store.get_block(self.terms.spec_digest))

    def history(self, round_id: RoundId) -> RoundHistory:
        """Return what the events tell of a round; Misconfigured when it was not opened."""
        for history in round_histories(self.events):
            if history.round_id == round_id:
                return history
        raise Misconfigured(f"round {round_id} was not opened before block {self.block}")

    def check_round(self, round_id: RoundId) -> Iterator[Verified]:
        """Yield the checks of one round that can be made before it is finalized too."""
        model = model_before(self.federation, round_id)
        yield from self._check_round(self.spec(), self.history(round_id), model)

    def _check_spec(self) -> tuple[Verified, Spec | None]:
        section, claim = "§5", "the spec is the one the contract pins"
        try:
            spec = self.spec()
        except CommonweightError as error:
            return Verified(section, None, claim, False, str(error)), None
        leaf_values = spec.encoding.leaf_values
        found = (spec.leaf_count, spec.tree_depth, leaf_values, spec.sampling_fraction)
        terms = self.terms
        fixed = (terms.leaf_count, terms.tree_depth, terms.leaf_values, terms.sampling_fraction)
        detail = f"{terms.spec_digest.hex()}, {len(spec.layers)} layers, {spec.leaf_count} leaves"
        if found != fixed:
            detail = (
                f"leaves, depth, values a leaf and sampling are {found}, the contract's are {fixed}"
            )
        return Verified(section, None, claim, found == fixed, detail), spec

    def _check_held_out(self, spec: Spec) -> Verified:
        claim = "the held-out set is the one the spec pins"
        try:
            data = self.store.get_block(parse_digest(spec.evaluation_digest))
        except CommonweightError as error:
            return Verified("§5", None, claim, False, str(error))
        return Verified("§5", None, claim, True, f"{spec.evaluation_digest}, {len(data):,} bytes")

    def _check_round(self, spec: Spec, history: RoundHistory, model: Model) -> Iterator[Verified]:
        yield from self._check_eligible(history)
        yield from self._check_commitments(history)
        yield from _tell_refuted(history)
        if history.proposed is None:
            return
        try:
            screened = self.screen(spec, history, model)
        except CommonweightError as error:
            claim = "every screening decision is the one the rules ask for"
            yield Verified("§6", history.round_id, claim, False, str(error))
            return
        yield from _check_verdicts(history.round_id, history.proposed.verdicts, screened)
        yield self._check_average(spec, history, model, screened)
        if history.finalized is not None:
            yield self._check_payouts(history)

    def _check_eligible(self, history: RoundHistory) -> Iterator[Verified]:
        seed, fraction = history.opened.seed, self.terms.sampling_fraction
        strangers = [
            e.participant
            for e in history.committed
            if not is_eligible(seed, e.participant, fraction)
        ]
        claim = f"the seed drew all {len(history.committed)} participants that committed"
        yield Verified("§8", history.round_id, claim, not strangers, ", ".join(strangers))

    def _check_commitments(self, history: RoundHistory) -> Iterator[Verified]:
        committed = {e.participant: e.commitment for e in history.committed}
        for e in history.revealed:
            opened = compute_commitment(
                self.federation.address,
                e.round,
                e.participant,
                e.root,
                e.manifest,
                e.examples,
                e.salt,
            )
            # The contract keeps the first 31 bytes.
            is_same = opened[:31] == committed.get(e.participant, Digest(b""))[:31]
            claim = f"{e.participant} revealed what it committed to"
            yield Verified("§8", e.round, claim, is_same, f"update {e.root.hex()}")

    def screen(self, spec: Spec, history: RoundHistory, model: Model) -> list[Screened]:
        """Return our own decision on each reveal; raises when the model before cannot be had."""
        return screen_reveals(
            self.store,
            spec,
            self._subject(history.round_id, "update"),
            history.reveals(),
            self.fetch_model(spec, model, history.round_id),
            model.root,
            self.terms.weight_cap,
            self._round_folder(history.round_id),
        )

    def _check_average(
        self, spec: Spec, history: RoundHistory, before: Model, screened: Sequence[Screened]
    ) -> Verified:
        assert history.proposed is not None
        proposed = Model(history.proposed.root, history.proposed.manifest)
        accepted = [s for s in screened if s.verdict.is_accepted]
        round_id = history.round_id
        if not accepted:
            claim = "without an accepted update the model stayed as it was"
            return Verified("§7", round_id, claim, proposed == before, proposed.root.hex())
        claim = f"the proposed model is the weighted mean of {len(accepted)} updates"
        try:
            model = self.fetch_model(spec, proposed, RoundId(round_id + 1))
        except CommonweightError as error:
            return Verified("§7", round_id, claim, False, str(error))
        weights = [s.verdict.weight for s in accepted]
        leaf = first_wrong_leaf(spec, [s.folder for s in accepted], weights, model)
        detail = f"model {proposed.root.hex()}" if leaf is None else f"leaf {leaf} differs"
        return Verified("§7", round_id, claim, leaf is None, detail)

    def _check_payouts(self, history: RoundHistory) -> Verified:
        assert history.proposed is not None
        assert history.finalized is not None
        expected = compute_payouts(self.terms.round_reward, history.proposed.verdicts)
        due = {who: amount for who, amount in expected.items() if amount}
        paid = {e.participant: e.amount for e in history.paid}
        shares = sum(v.weight * v.score for v in history.proposed.verdicts)
        fee = self.terms.aggregator_fee if shares else 0
        is_right = paid == due and history.finalized.fee == fee
        claim = f"{len(paid)} participants were paid by weight, and the aggregator its fee"
        detail = f"{sum(paid.values()) + history.finalized.fee:,} token units"
        return Verified("§9", history.round_id, claim, is_right, detail)

    def _check_model(self, spec: Spec, model: Model, round_id: RoundId, claim: str) -> Verified:
        try:
            self.fetch_model(spec, model, round_id)
        except CommonweightError as error:
            return Verified("§4", None, claim, False, str(error))
        return Verified("§4", None, claim, True, model.root.hex())

    def fetch_model(self, spec: Spec, model: Model, before: RoundId) -> LayerFolder:
        """Return a model's layer files, its root recomputed. Raises as `storage.fetch_model`."""
        folder = LayerFolder(self.folder / "models" / model.root.hex())
        subject = self._subject(before, "model")
        return fetch_model(self.store, model.manifest, spec, subject, model.root, folder)

    def _subject(self, round_id: RoundId, kind: Kind) -> Subject:
        return Subject(self.chain_id, self.federation.address, round_id, kind)

    def _round_folder(self, round_id: RoundId) -> Path:
        return self.folder / f"round-{round_id:04d}"


def round_histories(events: Sequence[FederationEvent]) -> list[RoundHistory]:
    """Return every round that was opened, in order; of several proposals the last one stands.

    A proposal that was refuted does not count.
    """
    rounds: dict[RoundId, list[RoundEvent]] = {}
    for event in events:
        if isinstance(event, RoundEvent) and event.round:
            rounds.setdefault(event.round, []).append(event)
    return [_history(round_id, of_round) for round_id, of_round in sorted(rounds.items())]


def first_wrong_leaf(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], model: LayerFolder
) -> int | None:
    """Return the first leaf of `model` that is not the weighted mean of `updates`, None if all are.

    Every layer file must have the size that the spec gives it.
    """
    leaf_bytes = spec.encoding.leaf_bytes
    first = 0
    for index in range(len(spec.layers)):
        size = spec.layer_bytes(index)
        for start in range(0, size, _BLOCK_BYTES):
            count = min(_BLOCK_BYTES, size - start) // STORED.itemsize
            blocks = [
                np.fromfile(u.layer_path(index), STORED, count=count, offset=start) for u in updates
            ]
            found = np.fromfile(model.layer_path(index), STORED, count=count, offset=start)
            wrong = np.flatnonzero(weighted_mean(blocks, weights) != found)
            if wrong.size:
                return first + (start + int(wrong[0]) * STORED.itemsize) // leaf_bytes
        first += size // leaf_bytes
    return None


def _tell_refuted(history: RoundHistory) -> Iterator[Verified]:
    for event in history.refuted:
        claim = f"a proposal of {event.aggregator} was refuted and is void"
        detail = f"model {event.root.hex()}, by {event.challenger}"
        yield Verified("§11", history.round_id, claim, True, detail)


def _check_verdicts(
    round_id: RoundId, proposed: Sequence[Verdict], screened: Sequence[Screened]
) -> Iterator[Verified]:
    ours: dict[Address, Screened] = {s.verdict.participant: s for s in screened}
    for verdict in proposed:
        mine = ours.get(verdict.participant)
        if mine is None:
            claim = f"{verdict.participant} has a verdict without a reveal"
            yield Verified("§6", round_id, claim, False, "")
            continue
        claim = f"{verdict.participant} was rightly {_said(verdict)}"
        detail = f"root {mine.reveal.root.hex()}" if mine.verdict.is_accepted else mine.reason
        if mine.verdict != verdict:
            detail = f"it should have been {_said(mine.verdict)}. {detail}"
        yield Verified("§6", round_id, claim, mine.verdict == verdict, detail)


def _said(verdict: Verdict) -> str:
    if verdict.is_accepted:
        return f"accepted with weight {verdict.weight} and score {verdict.score}"
    return f"rejected by check {verdict.reason}"


def _history(round_id: RoundId, events: Sequence[RoundEvent]) -> RoundHistory:
    standing = standing_proposal(events)
    settled = [e for e in events if isinstance(e, Finalized)]
    opened = [e for e in events if isinstance(e, RoundOpened)]
    if not opened:
        raise Misconfigured(f"round {round_id} has events but was never opened")
    return RoundHistory(
        round_id,
        opened[0],
        tuple(e for e in events if isinstance(e, Committed)),
        tuple(e for e in events if isinstance(e, Revealed)),
        standing,
        settled[0] if settled else None,
        tuple(e for e in events if isinstance(e, Paid)),
        tuple(e for e in events if isinstance(e, ProposalRefuted)),
    )
