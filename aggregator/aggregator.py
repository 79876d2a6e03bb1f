"""The aggregator's part in a federation: open a round, screen, average, propose, settle.

Every step first reads from mined blocks what has happened, so that an aggregator that was killed
continues where the chain stands, and a second one can take over:

    next_round   the open round, or a new one; a standby waits for it, or takes the lead
    propose      once no reveal can come any more: screen every revealed update, average the
                 accepted ones, publish the model
    respond      in the challenge window: answer the leaf requests about our proposal
    settle       finalize after the challenge window
    play         all of a round, asking participants to act through `ask`

A standby plays along: it proposes once the lead is late or was refuted (docs/protocol.md §11).

`ask` is how a driver reaches participants (Flower messages, function calls in a test). It decides
nothing: whether somebody committed or revealed is read from the chain afterwards.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Literal

from aggregator.product_error import product_error
from aggregator.responder import Held, Responder
from chain.federation import Federation
from chain.history import RoundHistory
from chain.phases import await_end
from chain.records import Model
from contracts.enums import AggregatorState, Status, SubmissionState
from contracts.reverts import Reverted
from profiling.recorder import Recorder
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Digest, RoundId, UnixTime
from rounds.average import Mode, average_layers, memory_needed
from rounds.context import RoundContext
from rounds.screen import Screened, screen
from runtime import events
from runtime.events import Report, ignore
from storage.capacity import bytes_in, check_disk, check_memory
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Pinning, build_manifest, fetch_model, fetch_update

Ask = Callable[[Literal["commit", "reveal"], RoundId], None]

_POLL_SECONDS: Final = 0.25
# The lead has time left, has just opened a round, or is we by now.
_NOT_YET: Final = frozenset({"AggregatorNotLate", "RoundStillOpen", "NoStandby"})
_ASK_AGAIN_SECONDS: Final = 5.0  # after an answer that changed nothing, before asking again


class Aggregator:
    """One aggregator's wallet and store, at work for one federation."""

    def __init__(
        self,
        federation: Federation,
        store: ContentStore,
        workspace: Path,
        report: Report = ignore,
        mode: Mode = "layerwise",
    ) -> None:
        self.mode = mode
        self.federation = federation
        self.store = store
        self.workspace = workspace
        self.report = report
        self.wait: Callable[[], None] = lambda: time.sleep(_POLL_SECONDS)  # between two looks
        self.confirmations = 0  # blocks under the reveals before they are screened
        self.terms = federation.terms()
        self.address = federation.sender.address
        self.spec = Spec.parse(store.get_block(self.terms.spec_digest))
        found = (self.terms.leaf_count, self.terms.tree_depth, self.terms.leaf_values)
        expected = (self.spec.leaf_count, self.spec.tree_depth, self.spec.encoding.leaf_values)
        if found != expected:
            raise Misconfigured(
                f"the contract has {found[0]} leaves at depth {found[1]} of {found[2]} values, "
                f"its spec has {expected[0]} at depth {expected[1]} of {expected[2]}"
            )
        self.recorder = Recorder(workspace, "aggregator", self.address, self.spec)
        self._responder = Responder(federation, self.spec, report)

    def next_round(self) -> RoundId | None:
        """Return the open round, or open one; None once the federation is over.

        A standby waits until the lead has opened one, and becomes the lead when that takes too
        long. Misconfigured for an aggregator that is not listed, or no longer after a slash.
        """
        federation = self.federation
        while True:
            now = federation.now()
            newest = now.round_count()
            if newest and not now.get_round(newest).is_ended:
                return newest
            if now.is_over():
                return None
            self.bond()
            self._check_standing()
            if not self.is_leading():
                self._take_over()
            elif (opened := self._open_round()) is not None:
                return opened

    def bond(self) -> None:
        """Post the bond where that is still missing; a standby does it before it is needed."""
        if self.bond_state() is AggregatorState.LISTED:
            self.federation.bond()

    def bond_state(self) -> AggregatorState:
        """Whether this aggregator is listed, bonded or slashed."""
        return self.federation.aggregator_state(self.address)

    def play(self, round_id: RoundId, ask: Ask) -> Status:
        """Bring the round to its end and return its final status."""
        while (status := self.federation.status(round_id)) < Status.FINALIZED:
            try:
                self._step(round_id, status, ask)
            except Reverted:
                # Somebody else pushed the round on since we looked: look again.
                if self.federation.status(round_id) is status:
                    raise
        return status

    def is_leading(self) -> bool:
        """Whether this aggregator is the one to propose: a refuted or late one no longer is."""
        return self.federation.current_aggregator() == self.address

    def _open_round(self) -> RoundId | None:
        """Open a round; None when the lead was handed on just before."""
        try:
            opened = self.federation.open_round()
        except Reverted:
            if self.is_leading():
                raise
            return None
        self.report(events.Opened(round=opened.round_id, gas=opened.receipt.gas_used))
        return opened.round_id

    def _take_over(self) -> None:
        """Hand the lead on from an aggregator that opens no round, or wait until that is allowed.

        The contract decides both when, and which of several standbys is next.
        """
        try:
            self.federation.replace_aggregator()
        except Reverted as error:
            if error.name not in _NOT_YET:
                raise
            self.wait()
        else:
            self.report(events.ReplacedIdleLead(lead=self.federation.current_aggregator()))

    def _check_standing(self) -> None:
        state = self.bond_state()
        if state is not AggregatorState.BONDED:
            raise Misconfigured(f"{self.address} cannot aggregate here: it is {state.name.lower()}")

    def _step(self, round_id: RoundId, status: Status, ask: Ask) -> None:
        match status:
            case Status.COMMIT:
                self._ask(ask, "commit", round_id, status)
            case Status.REVEAL:
                self._ask(ask, "reveal", round_id, status)
            case Status.PROPOSE if self.is_leading():
                self.propose(round_id)
            case Status.PROPOSE:
                self.wait()
            case Status.CHALLENGE:
                self.respond(round_id)
                self.wait()
            case Status.SETTLEABLE:
                self.settle(round_id)
            case Status.EXPIRED:
                self._push_on(round_id)
            case _:
                raise Misconfigured(f"round {round_id} was never opened")

    def propose(self, round_id: RoundId) -> list[Screened]:
        """Screen the revealed updates, average the accepted ones, publish and propose the model.

        With no update accepted the model stays as it is. Unrevealed commitments are penalized.
        """
        # 1. Wait until mined blocks show that no reveal can be added. Half of the phase decides on
        # a chain that stands still: a proposal that comes too late costs the bond.
        half = self.terms.propose_seconds // 2
        deadline = UnixTime(self.federation.get_round(round_id).propose_deadline - half)
        now = await_end(
            self.federation, round_id, Status.REVEAL, self.confirmations, deadline, self.wait
        )
        context = self._context(now, round_id)
        self._check_capacity(context)
        # 2. Decide on every reveal.
        self.report(events.Screening(round=round_id, updates=len(context.reveals)))
        with self.recorder.phase("fetch model", round_id):
            model = context.fetch_model()
        with self.recorder.phase("verify", round_id):
            screened = screen(context, model, partial(self._report_screened, round_id))
        # 3. Average what was accepted; it is pinned before the chain names it.
        proposed = self._publish(context, [s for s in screened if s.verdict.is_accepted])
        # 4. Propose: from here on the bond vouches for the model and for every verdict.
        verdicts = [s.verdict for s in screened]
        with self.recorder.phase("propose", round_id):
            receipt = self.federation.propose(round_id, proposed.root, proposed.manifest, verdicts)
        self.report(
            events.Proposed(round=round_id, gas=receipt.gas_used, model_root=proposed.root.hex())
        )
        self._penalize(self.federation.history().round(round_id))
        return screened

    def respond(self, round_id: RoundId) -> None:
        """Answer the leaf requests about a proposal of ours; settle requests that are late."""
        now = self.federation.now()
        if self._responder.is_due(round_id, now.head):
            context = self._context(now, round_id)
            self._responder.respond(context, self._held(context), now.head)

    def settle(self, round_id: RoundId) -> None:
        """Finalize a round whose challenge window has passed, with the verdicts as proposed."""
        told = self.federation.history().round(round_id)
        self._penalize(told)  # whom the proposal's own turn did not get to
        if told.proposed is None:
            raise Misconfigured(f"no model was proposed for round {round_id}")
        receipt = self.federation.finalize(round_id, told.proposed.verdicts)
        self.report(events.Finalized(round=round_id, gas=receipt.gas_used))

    def _push_on(self, round_id: RoundId) -> None:
        """Hand an expired round to a bonded standby, or end it when there is none."""
        try:
            self.federation.replace_aggregator()
        except Reverted as error:
            if error.name != "NoStandby":
                raise
            self._penalize(self.federation.history().round(round_id))
            self.federation.abandon(round_id)

    def _context(self, now: Federation, round_id: RoundId) -> RoundContext:
        workspace = self.workspace / self.federation.address
        return RoundContext.at(now, self.store, self.spec, workspace, round_id)

    def _check_capacity(self, context: RoundContext) -> None:
        """Announce what the round takes; raises Misconfigured when this machine lacks it."""
        # The model before, every update, the model after. What is there already is overwritten.
        updates = len(context.reveals)
        missing = max(self.spec.total_bytes * (updates + 2) - bytes_in(context.folder), 0)
        memory = memory_needed(self.spec, updates, self.mode)
        purpose = f"round {context.round_id} with {updates} updates"
        self.report(
            events.Announcing(
                round=context.round_id,
                disk_bytes=missing,
                disk_free=check_disk(self.workspace, missing, purpose),
                memory_bytes=memory,
                memory_free=check_memory(memory, purpose),
            )
        )

    def _publish(self, context: RoundContext, accepted: list[Screened]) -> Model:
        """Average and pin; return the new model, the old one when nothing was accepted."""
        if not accepted:
            return context.model
        round_id, target = context.round_id, context.new_model
        updates, weights = [s.folder for s in accepted], [s.verdict.weight for s in accepted]
        self.report(events.Averaging(round=round_id, updates=len(updates)))
        # Each layer is pinned while those after it are averaged.
        with self.recorder.phase("pin", round_id), Pinning(self.store, target) as pinning:
            with self.recorder.phase("average", round_id):
                root = average_layers(
                    self.spec, updates, weights, target, mode=self.mode, on_layer=pinning.begin
                )
            self._report_product_error(round_id, updates, weights)
            with self.recorder.phase("hash", round_id) as span:
                span.add(read=self.spec.total_bytes)
                manifest = build_manifest(target, self.spec, context.subject("model"), root)
            return Model(root=root, manifest=pinning.finish(manifest))

    def _report_product_error(
        self, round_id: RoundId, updates: list[LayerFolder], weights: list[int]
    ) -> None:
        error = product_error(self.spec, updates, weights)
        if error is not None:
            weight = max(error.by_weight, key=lambda name: error.by_weight[name])
            self.report(
                events.AggregationError(
                    round=round_id,
                    total=error.total,
                    largest=error.by_weight[weight],
                    weight=weight,
                )
            )

    def _held(self, context: RoundContext) -> dict[Digest, Held]:
        """Return the model we proposed and the updates it averages, by root; nothing of others."""
        proposed = context.told.proposed
        if proposed is None or proposed.aggregator != self.address:
            return {}
        accepted = {v.participant for v in proposed.verdicts if v.is_accepted}
        held = {}
        for reveal in context.reveals:
            if reveal.participant in accepted:
                folder = context.update_folder(reveal.participant)
                fetch = partial(fetch_update, self.store, context.update(reveal), folder)
                held[reveal.root] = Held(folder, fetch)
        model = context.model_after(Model(proposed.root, proposed.manifest))
        held[proposed.root] = Held(
            context.new_model, partial(fetch_model, self.store, model, context.new_model)
        )
        return held

    def _penalize(self, told: RoundHistory) -> None:
        """Take the penalty for every commitment that was not revealed, unless it is taken."""
        for participant in told.unrevealed:
            try:
                self.federation.penalize(told.round_id, participant)
            except Reverted:
                submission = self.federation.get_submission(told.round_id, participant)
                if submission.state is not SubmissionState.PENALIZED:
                    raise
                continue  # by another aggregator, since we looked
            self.report(events.Penalized(round=told.round_id, participant=participant))

    def _ask(
        self, ask: Ask, action: Literal["commit", "reveal"], round_id: RoundId, status: Status
    ) -> None:
        asking = events.AskingToCommit if action == "commit" else events.AskingToReveal
        self.report(asking(round=round_id))
        ask(action, round_id)
        again_at = time.monotonic() + _ASK_AGAIN_SECONDS
        while time.monotonic() < again_at and self.federation.status(round_id) is status:
            self.wait()

    def _report_screened(self, round_id: RoundId, decision: Screened) -> None:
        verdict = decision.verdict
        decided = events.Accepted if verdict.is_accepted else events.Rejected
        self.report(
            decided(
                round=round_id,
                participant=verdict.participant,
                check=verdict.reason,
                reason=decision.reason,
            )
        )
