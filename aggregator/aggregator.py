"""The aggregator's part in a federation: open a round, screen, average, propose, settle.

Every step first reads from mined blocks what has happened. An aggregator that was killed therefore
continues where the chain stands, and a standby can take over at any point:

    next_round   return the open round or open one; a standby waits, or becomes active
    fix_seed     draw who is asked, in a block after the opening; anybody may
    propose      once no further reveal is possible, screen every revealed update, score those that
                 pass, move the model by the mean of the accepted ones and publish it
    seal         where updates are masked: once no further reveal is possible, say which are summed
    open_sum     until all masks in the sum are known: draw the sketches, recover what is missing;
                 then `propose`
    respond      during the challenge window, answer leaf requests about our proposal
    settle       finalize the round after the challenge window, and drop what was not accepted
    play         run a whole round, asking participants to act through `ask`

A standby follows every round. It proposes once the active aggregator is late or was refuted
(docs/protocol.md §11).

`ask` is how a driver reaches participants: Flower messages, or function calls in a test. It decides
nothing; whether somebody committed or revealed is read from the chain afterwards.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal

from aggregator.keeping import Keeper
from aggregator.product_error import product_error
from aggregator.responder import Held, Responder
from aggregator.scorer import SCORING_PART, check_pace, score
from chain.federation import Federation
from chain.history import RoundHistory
from chain.phases import await_end, draw_sketches, fix_seed, void_round
from chain.records import Model
from contracts.enums import AggregatorState, Status, SubmissionState
from contracts.reverts import Reverted
from profiling.recorder import Recorder
from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected, Unavailable
from protocol.manifest import Losses, Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId, UnixTime, parse_digest
from rounds.average import Mode, average_layers, memory_needed
from rounds.budget import Budget
from rounds.bundles import fetch_bundle
from rounds.context import RoundContext
from rounds.prune import prune, prune_models
from rounds.rebuild import Fetcher, as_summed, obtain_model, obtain_sum, rebuild
from rounds.recovery import recover_secrets
from rounds.score import SCRATCH, Evaluate, HeldOut
from rounds.screen import Screened, screen
from rounds.seal import choose_set, seal_verdicts
from rounds.sketched import judge_sum
from rounds.terms import require_agreement
from rounds.whereabouts import learn_places
from runtime import events
from runtime.events import Report, ignore
from storage.blocks import Store
from storage.capacity import bytes_in, check_disk, check_memory
from storage.files import write_atomically
from storage.layers import (
    LayerFolder,
    Pinning,
    build_manifest,
    fetch_model,
    fetch_update,
)
from storage.proof import prove_store

Action = Literal["commit", "reveal", "unmask", "assist", "object"]
Ask = Callable[[Action, RoundId], None]

_POLL_SECONDS: Final = 0.25
# In this order: the active aggregator still has time; it has just opened a round; this aggregator
# has become active itself, with no other standby behind it.
_NOT_YET: Final = frozenset({"AggregatorNotLate", "RoundStillOpen", "NoStandby"})
_RESERVE: Final = 4  # the part of the propose phase that no download may use
_TRIES_ALONE: Final = 3  # to get the only update of a round, where the own store works
_ASK_AGAIN_SECONDS: Final = 5.0  # after an answer that changed nothing, before asking again


class Aggregator:
    """One aggregator, with its wallet and content store, in one federation."""

    def __init__(
        self,
        federation: Federation,
        store: Store,
        workspace: Path,
        report: Report = ignore,
        mode: Mode = "layerwise",
    ) -> None:
        self.mode = mode
        self.federation = federation
        self.store = store
        self.workspace = workspace
        self.report = report
        self.wait: Callable[[], None] = lambda: time.sleep(_POLL_SECONDS)  # between polls
        self.confirmations = 0  # blocks mined on top of the last reveal before screening starts
        self.keeps_all = True  # or only what can still be disputed or compared with
        self.owns_store = False  # or it may be an author's too, and what is pinned stays
        self.update_seconds: float | None = None  # for each update to come; by default by its size
        self.before_bond: Callable[[], None] = lambda: None  # raises where no bond should be posted
        self.held_out: HeldOut | None = None  # what scores are measured with; see `score_with`
        self.terms = federation.terms()
        self.address = federation.sender.address
        learn_places(store, federation)
        self.spec = Spec.parse(store.get_block(self.terms.identity.spec_digest))
        require_agreement(self.terms, self.spec)  # or the bond would go
        self.recorder = Recorder(workspace, "aggregator", self.address, self.spec)
        self._asked_about = (RoundId(0), 0)  # whose sum members were asked to look at
        self._responder = Responder(federation, self.spec, report)
        self._keeper = Keeper(self.address, report)

    def score_with(self, evaluate: Evaluate) -> HeldOut:
        """Measure help with `evaluate` from now on."""
        folder = self.workspace / self.federation.address
        for left in folder.glob(f"round-*/{SCRATCH}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        file = folder / "losses.json"
        self.held_out = HeldOut(self.spec, evaluate, file)
        return self.held_out

    def try_evaluator(self, evaluate: Evaluate) -> None:
        """Measure help with `evaluate`, which is tried on the current model at once.

        Raises Misconfigured when this machine is too slow for a full round, and Unavailable when
        the model cannot be had or evaluated.
        """
        now, held_out = self.federation.now(), self.score_with(evaluate)
        context = self._context(now, RoundId(now.round_count() + 1))
        held_out.try_out(obtain_model(context), context.model.root)
        check_pace(held_out, self.terms.seats.round_seats, self.terms.windows.propose_seconds)

    def keep_founding(self) -> None:
        """Put what the federation was founded with into the own store, and pin it.

        Everybody starts from it, and asks aggregators first.
        """
        identity = self.terms.identity
        try:
            self._keep_block(identity.initial_model_manifest)
            raw = self.store.get_block(identity.initial_model_manifest)
            self._keep_block(identity.spec_digest)
            self._keep_block(parse_digest(self.spec.evaluation_digest))
            with suppress(Rejected):  # not a manifest: then its model is of no use to anybody
                for entry in Manifest.parse(raw).layers:
                    for digest in entry.digests:
                        self._keep_block(digest)
        except Unavailable as error:
            self.report(events.NotKept(round=RoundId(0), reason=str(error)))

    def _keep_block(self, digest: Digest) -> None:
        # Also where the store has it: what a daemon only fetched, it drops when it tidies up.
        self.store.put_block(self.store.get_block(digest))

    def next_round(self) -> RoundId | None:
        """Return the open round, or open one; None once the federation is over.

        A standby waits for the active aggregator to open a round, and takes its place when that
        takes too long. Raises Misconfigured for an aggregator that is not listed or was slashed.
        """
        federation = self.federation
        while True:
            now = federation.now()
            newest = now.round_count()
            if newest and not now.get_round(newest).is_ended:
                return newest
            if now.is_over():
                return None
            # A standby bonds before it is needed: the contract skips those that have not.
            self.bond()
            state = self.bond_state()
            if state is not AggregatorState.BONDED:
                raise Misconfigured(
                    f"{self.address} cannot aggregate here: it is {state.name.lower()}"
                )
            if not self.is_active():
                self._take_over()
                continue
            try:
                opened = federation.open_round()
            except Reverted:
                # A standby may have taken over between our read and our transaction.
                if self.is_active():
                    raise
                continue
            self.report(events.Opened(round=opened.round_id, gas=opened.receipt.gas_used))
            return opened.round_id

    def bond(self) -> None:
        """Post the bond if it is missing; raises what `before_bond` does."""
        if self.bond_state() is AggregatorState.LISTED:
            self.before_bond()
            self.federation.bond()

    def bond_state(self) -> AggregatorState:
        """Whether this aggregator is listed, bonded or slashed."""
        return self.federation.aggregator_state(self.address)

    def play(self, round_id: RoundId, ask: Ask) -> Status:  # noqa: C901 - one case per status
        """Bring the round to its end and return its final status."""
        while not (status := self.federation.status(round_id)).is_ended:
            try:
                match status:
                    case Status.SEED:
                        self.fix_seed(round_id)
                    case Status.UNSEEDED:
                        self.federation.abandon(round_id)
                    case Status.COMMIT:
                        self._ask(ask, "commit", round_id, status)
                    case Status.REVEAL:
                        self._ask(ask, "reveal", round_id, status)
                    case Status.SEAL if self._has_too_few(round_id):
                        self._abandon(round_id)
                    case Status.SEAL if self.is_active():
                        self.seal(round_id)
                    case Status.UNMASK:
                        self.open_sum(round_id)
                        self._ask(ask, "unmask", round_id, status)
                    case Status.ASSIST:
                        self._ask(ask, "assist", round_id, status)
                        self.open_sum(round_id)
                    case Status.VOID:
                        self.void(round_id)
                    case Status.PROPOSE if self.is_active():
                        self.propose(round_id)
                    case Status.PROPOSE | Status.SEAL:
                        self.wait()
                    case Status.CHALLENGE:
                        self.respond(round_id)
                        self._ask_to_object(ask, round_id)
                        self.wait()
                    case Status.SETTLEABLE:
                        self.settle(round_id)
                    case Status.EXPIRED:
                        self._hand_on(round_id)
                    case _:
                        raise Misconfigured(f"round {round_id} was never opened")
            except Reverted:
                # Anybody may settle, abandon or hand on a round, so somebody else may have done it
                # since the status was read. Only a refusal in an unchanged round is a failure.
                if self.federation.status(round_id) is status:
                    raise
        if self.terms.is_masked:
            # Anybody may end a void round, and most who do take no penalties.
            self._penalize(self.federation.history().round(round_id))
        return status

    def seal(self, round_id: RoundId) -> list[Screened]:
        """Say which of the masked updates are summed, having put them into the own store.

        Nobody can object later that what was sealed is not to be had: it is served here.
        """
        half = self.terms.windows.seal_seconds // 2
        deadline = UnixTime(self.federation.get_round(round_id).propose_deadline - half)
        now = await_end(
            self.federation, round_id, Status.REVEAL, self.confirmations, deadline, self.wait
        )
        learn_places(self.store, now)
        context = self._context(now, round_id)
        self._check_capacity(context)
        self.report(events.Screening(round=round_id, updates=len(context.reveals)))
        with self.recorder.phase("verify", round_id):
            chosen = self._screen(context, self._screen_until(round_id), choose_set)
        self._keeper.keep_revealed(context, chosen)
        with self.recorder.phase("seal", round_id):
            receipt = self.federation.seal_set(round_id, seal_verdicts(context, chosen))
        self.report(
            events.SetSealed(
                round=round_id,
                members=sum(each.verdict.is_averaged for each in chosen),
                revealed=len(chosen),
                gas=receipt.gas_used,
            )
        )
        self._penalize(self.federation.history().round(round_id))
        return chosen

    def open_sum(self, round_id: RoundId) -> None:
        """Draw the sketches once that is possible, and post what shares recover."""
        told = self.federation.history().round(round_id)
        if told.masking.drawn is None:
            receipt = draw_sketches(self.federation, round_id)
            if receipt is not None:
                self.report(events.SketchesDrawn(round=round_id, gas=receipt.gas_used))
        if self.federation.status(round_id) is not Status.ASSIST:
            return
        context = self._context(self.federation.now(), round_id)
        for reveal in context.told.summed:
            if reveal.participant not in context.told.masking.silent:
                continue
            try:
                found = recover_secrets(context.told, reveal, fetch_bundle(context, reveal))
            except (Rejected, Unavailable) as error:
                self.report(events.NotRecovered(round=round_id, reason=str(error)))
                continue
            if found is not None:
                receipt = self.federation.unmask(round_id, found, Digest(bytes(32)))
                who = reveal.participant
                self.report(events.Recovered(round=round_id, participant=who, gas=receipt.gas_used))

    def void(self, round_id: RoundId) -> None:
        """End a round whose sum cannot be opened or was objected to."""
        # First: who is killed in between does not come back to a round that is over.
        told = self.federation.history().round(round_id)
        self._penalize(told, told.masking.silent)
        receipt = void_round(self.federation, round_id)
        self.report(events.RoundVoided(round=round_id, gas=receipt.gas_used))

    def _has_too_few(self, round_id: RoundId) -> bool:
        return self.federation.get_round(round_id).revealed < self.terms.rules.min_set

    def _ask_to_object(self, ask: Ask, round_id: RoundId) -> None:
        """Ask the set's members to look at the sum of a masked round, once a proposal."""
        proposals = self.federation.get_round(round_id).proposals
        if self.terms.is_masked and self._asked_about != (round_id, proposals):
            self._asked_about = (round_id, proposals)
            ask("object", round_id)

    def fix_seed(self, round_id: RoundId) -> None:
        """Fix the round's seed, or wait for the block in which that is possible."""
        # Whoever follows the round may, and does: a lead that opened it must not be able to choose
        # among blocks by waiting.
        receipt = fix_seed(self.federation, round_id)
        if receipt is None:
            self.wait()
        else:
            self.report(events.SeedFixed(round=round_id, gas=receipt.gas_used))

    def is_active(self) -> bool:
        """Whether this is the active aggregator; one that was refuted or late no longer is."""
        return self.federation.current_aggregator() == self.address

    def _take_over(self) -> None:
        """Replace an active aggregator that opens no round, or wait until that is allowed.

        The contract decides when, and which of several standbys is next.
        """
        try:
            self.federation.replace_aggregator()
        except Reverted as error:
            if error.name not in _NOT_YET:
                raise
            self.wait()
        else:
            # Not necessarily this one: another standby may stand before it in the list.
            active = self.federation.current_aggregator()
            self.report(events.ReplacedIdleAggregator(lead=active))

    def propose(self, round_id: RoundId) -> list[Screened]:
        """Screen the revealed updates, move the model by the accepted ones, publish and propose it.

        If no update is accepted, the model stays as it is. Unrevealed commitments are penalized.
        """
        # 1. Wait until mined blocks show that no reveal can be added: a proposal without a verdict
        # on every reveal is refused. A chain that has stopped mining never shows it, and a late
        # proposal costs the bond, so after half of the phase the deadline decides.
        half = self.terms.windows.propose_seconds // 2
        deadline = UnixTime(self.federation.get_round(round_id).propose_deadline - half)
        now = await_end(
            self.federation, round_id, Status.REVEAL, self.confirmations, deadline, self.wait
        )
        learn_places(self.store, now)
        context = self._context(now, round_id)
        if self.keeps_all:
            prune_models(context)  # which are copies: a round's folder has the model it came to
        else:
            prune(context)
        self._check_capacity(context)
        # 2. Decide on every reveal, in a time that leaves enough for the rest.
        self.report(events.Screening(round=round_id, updates=len(context.reveals)))
        with self.recorder.phase("fetch model", round_id):
            model = obtain_model(context, Fetcher(self._budget(round_id)))
        with self.recorder.phase("verify", round_id):
            screened = self._decide(context)
        for missing in dict.fromkeys(line for s in screened for line in s.not_compared):
            self.report(events.NotCompared(round=round_id, reason=missing))
        # 3. Measure what each of them helps, where the federation pays by that.
        losses = None
        if self.spec.scoring == "heldOut":
            screened, losses = self._score(context, model, screened)
        # 4. Average what was accepted. It is pinned before the chain names it, since from then on
        # anybody may request a leaf of it.
        accepted = [s for s in screened if s.verdict.is_averaged]
        proposed = self._publish(context, model, accepted, losses, deadline)
        # 5. Propose. From here on the bond vouches for the model and for every verdict.
        verdicts = [s.verdict for s in screened]
        with self.recorder.phase("propose", round_id):
            receipt = self.federation.propose(round_id, proposed.root, proposed.manifest, verdicts)
        self.report(
            events.Proposed(round=round_id, gas=receipt.gas_used, model_root=proposed.root.hex())
        )
        # 6. What has no deadline comes last: penalties, and keeping what was accepted.
        self._penalize(self.federation.history().round(round_id))
        self._keeper.keep_revealed(context, screened)
        return screened

    def _decide(self, context: RoundContext) -> list[Screened]:
        """Return the decision on every reveal; of masked updates by what their sketches say."""
        if not self.terms.is_masked:
            return self._screen(context, self._screen_until(context.round_id), screen)
        fetcher = Fetcher(self._budget(context.round_id))
        judged = judge_sum(context, obtain_sum(context, fetcher), fetcher)
        if judged.objection:
            self.report(events.SumDoubted(round=context.round_id, reason=judged.objection))
        for decision in judged.decisions:
            self._report_screened(context.round_id, decision)
        return judged.decisions

    def _score(
        self, context: RoundContext, before: LayerFolder, screened: Sequence[Screened]
    ) -> tuple[list[Screened], Losses | None]:
        """Return the decisions with scores, and the losses behind these, within the phase."""
        round_id = context.round_id
        fetcher = Fetcher(self._budget(round_id))
        seconds = self._seconds_left(round_id) - self.terms.windows.propose_seconds / _RESERVE
        with self.recorder.phase("score", round_id):
            return score(context, before, screened, self.held_out, fetcher, seconds, self.report)

    def _seconds_left(self, round_id: RoundId) -> int:
        deadline = self.federation.get_round(round_id).propose_deadline
        return max(deadline - self.federation.next_time(), 0)

    def _reserve(self) -> float:
        """Return the seconds at the end of the propose phase that no download may use."""
        # A quarter of the phase is for the average, pins and a proposal that is slow to be mined,
        # and half of it for evaluations where the federation pays by measured help.
        evaluating = 0.0 if self.spec.scoring == "equal" else 1 / SCORING_PART
        return self._deciding_seconds * (1 / _RESERVE + evaluating)

    @property
    def _deciding_seconds(self) -> int:
        """How long the phase is in which others' updates are fetched and judged."""
        windows = self.terms.windows
        return windows.seal_seconds if self.terms.is_masked else windows.propose_seconds

    def _budget(self, round_id: RoundId) -> Budget:
        """Return how long others may keep us waiting before the proposal."""
        left, reserve = self._seconds_left(round_id), self._reserve()
        # Who begins late shares what is left: nobody is rejected unheard.
        shared = left / 2 if self.spec.scoring == "equal" else left / 4
        return Budget.of(self.spec, max(left - reserve, shared), self.update_seconds)

    def _screen_until(self, round_id: RoundId) -> UnixTime:
        """Return from when on what is unreachable is rejected, whatever our own store does."""
        seconds = max(self._deciding_seconds // 2, int(self._reserve()))
        return UnixTime(self.federation.get_round(round_id).propose_deadline - seconds)

    def _screen(
        self,
        context: RoundContext,
        deadline: UnixTime,
        decide: Callable[[RoundContext, Fetcher], list[Screened]],
    ) -> list[Screened]:
        """Decide on every reveal; while our own store is at fault, nobody is rejected for it.

        From `deadline` on, which leaves time for the proposal, what is unreachable is rejected.
        """
        tries, told = 0, ""
        while True:
            decided = decide(context, Fetcher(self._budget(context.round_id)))
            missing = [s for s in decided if s.verdict.reason == Check.REACHABLE]
            if not missing or self.federation.next_time() >= deadline:
                break
            # An author is at fault only if the store works, and somebody else's update came: a
            # daemon that reaches nobody may take and give back its own blocks. A single author
            # has a few tries, since more likely it is the one who is missing.
            fault = self._fault_of_store()
            others = [s for s in decided if s.reveal.participant != self.address]
            is_enough = len(others) == 1 and tries >= _TRIES_ALONE
            if fault is None and (is_enough or any(s.has_root for s in others)):
                break
            tries += fault is None
            reason = fault or "it works, but no update came from anybody"
            if reason != told:
                self.report(events.WaitingForStore(round=context.round_id, reason=reason))
                told = reason
            self.wait()
            # While the store is down, screening again would only come to the same.
            while self._fault_of_store() and self.federation.next_time() < deadline:
                self.wait()
        for decision in decided:
            self._report_screened(context.round_id, decision)
        return decided

    def _fault_of_store(self) -> str | None:
        """Return what our own store does not do, None when it takes a block and gives it back."""
        try:
            prove_store(self.store, 1)
        except Unavailable as error:
            return str(error)
        return None

    def respond(self, round_id: RoundId) -> None:
        """Answer leaf requests about our own proposal; settle requests that are overdue."""
        now = self.federation.now()
        if self._responder.is_due(round_id, now.head):
            context = self._context(now, round_id)
            self._responder.respond(context, self._held(context), now.head)
        if self._keeper.is_due():
            self._keeper.serve_late(self._context(now, round_id))

    def settle(self, round_id: RoundId) -> None:
        """Finalize a round whose challenge window has passed, with the verdicts as proposed."""
        told = self.federation.history().round(round_id)
        # Again: `propose` may have been cut off before it penalized everybody, and no aggregator
        # comes back to a round that was settled.
        self._penalize(told)
        if told.proposed is None:
            raise Misconfigured(f"no model was proposed for round {round_id}")
        receipt = self.federation.finalize(round_id, told.proposed.verdicts)
        self.report(events.Finalized(round=round_id, gas=receipt.gas_used))
        # Last: nobody waits for it, and what fails here costs disk only.
        try:
            context = self._context(self.federation.now(), round_id)
            self._keeper.remove_unused(context, keeps_all=self.keeps_all, owns=self.owns_store)
        except (Unavailable, Rejected) as error:
            self.report(events.NotRemoved(round=round_id, reason=str(error)))

    def _hand_on(self, round_id: RoundId) -> None:
        """Hand an expired round to a bonded standby, or abandon it when there is none."""
        try:
            self.federation.replace_aggregator()
        except Reverted as error:
            if error.name != "NoStandby":
                raise
            self._abandon(round_id)

    def _abandon(self, round_id: RoundId) -> None:
        self._penalize(self.federation.history().round(round_id))
        self.federation.abandon(round_id)

    def _context(self, now: Federation, round_id: RoundId) -> RoundContext:
        workspace = self.workspace / self.federation.address
        return RoundContext.at(now, self.store, self.spec, workspace, round_id)

    def _check_capacity(self, context: RoundContext) -> None:
        """Report the disk and memory that the round needs; Misconfigured when they are missing.

        Checked before anything is fetched: a disk that fills up in mid-round may cost the bond.
        """
        # The model before, every update, the model after. Files that exist are overwritten.
        updates = len(context.reveals)
        size = self.spec.total_bytes(self.spec.update_kind)
        sums = self.spec.total_bytes("sum") if self.terms.is_masked else 0
        needed = 2 * self.spec.total_bytes("model") + updates * size + sums
        missing = max(needed - bytes_in(context.folder), 0)
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

    def _publish(
        self,
        context: RoundContext,
        before: LayerFolder,
        accepted: list[Screened],
        losses: Losses | None,
        deadline: UnixTime,
    ) -> Model:
        """Move the model and pin it; return the new one, or the old one if nothing was accepted.

        Its manifest lists the losses that the scores follow from. Raises Unavailable when the store
        does not take it, but from `deadline` on.
        """
        if not accepted:
            return context.model
        round_id, target = context.round_id, context.new_model
        self.report(events.Averaging(round=round_id, updates=len(accepted)))
        updates, weights = as_summed(
            context,
            [s.reveal for s in accepted],
            [s.folder for s in accepted],
            [s.verdict.weight for s in accepted],
        )
        # Each layer is pinned while those after it are averaged.
        with self.recorder.phase("pin", round_id), Pinning(self.store, target) as pinning:
            with self.recorder.phase("average", round_id):
                root = average_layers(
                    self.spec,
                    before,
                    updates,
                    weights,
                    target,
                    round_id,
                    mode=self.mode,
                    on_layer=pinning.begin,
                )
            # While the last layers are still being pinned. Nothing is decided from it.
            error = None
            if not self.terms.is_masked:  # a sum does not tell what A and B of each were
                error = product_error(self.spec, before, updates, weights, round_id)
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
            with self.recorder.phase("hash", round_id) as span:
                span.add(read=self.spec.total_bytes("model"))
                manifest = build_manifest(target, self.spec, context.subject("model"), root)
                manifest = manifest.model_copy(update={"losses": losses})
                # Should the store lose it, it cannot be made again of the model's files alone. But
                # that is no reason to be late.
                with suppress(OSError):
                    write_atomically(context.proposed_manifest, manifest.to_bytes())
            try:
                return Model(root=root, manifest=pinning.finish(manifest))
            except Unavailable as error:
                if self.federation.next_time() < deadline:
                    raise
                # Too late costs the bond. Whoever does not find the model computes it.
                self.report(events.NotKept(round=round_id, reason=str(error)))
                return Model(root=root, manifest=manifest.digest())

    def _held(self, context: RoundContext) -> dict[Digest, Held]:
        """Return the model we proposed and the updates it averages, by root.

        Empty for another aggregator's proposal: its bond is at stake there, not ours.
        """
        proposed = context.told.proposed
        if proposed is None or proposed.aggregator != self.address:
            return {}
        accepted = {v.participant for v in proposed.verdicts if v.is_averaged}
        held = {}
        for reveal in context.reveals:
            if reveal.participant in accepted:
                folder = context.update_folder(reveal.participant)
                fetch = partial(fetch_update, self.store, context.update(reveal), folder)
                held[reveal.root] = Held(folder, fetch)
        held[proposed.root] = Held(context.new_model, partial(self._restore_model, context))
        return held

    def _restore_model(self, context: RoundContext) -> None:
        """Get the files of the model we proposed again: from the store, or from the updates."""
        assert context.told.proposed is not None
        proposed = Model(context.told.proposed.root, context.told.proposed.manifest)
        try:
            fetch_model(self.store, context.model_after(proposed), context.new_model)
        except (Unavailable, Rejected):
            rebuild(context, obtain_model(context), context.new_model)

    def _penalize(self, told: RoundHistory, silent: Sequence[Address] = ()) -> None:
        """Penalize whoever did not reveal or unmask, unless that was done already.

        With `silent` those too whose silence is about to end the round.
        """
        for participant in dict.fromkeys([*told.owing_penalties, *silent]):
            try:
                self.federation.penalize(told.round_id, participant)
            except Reverted:
                # Anybody may penalize, and another aggregator may have done so since we looked.
                submission = self.federation.get_submission(told.round_id, participant)
                if submission.state is not SubmissionState.PENALIZED:
                    raise
                continue
            self.report(events.Penalized(round=told.round_id, participant=participant))

    def _ask(self, ask: Ask, action: Action, round_id: RoundId, status: Status) -> None:
        match action:
            case "commit":
                self.report(events.AskingToCommit(round=round_id))
            case "reveal":
                self.report(events.AskingToReveal(round=round_id))
            case _:
                self.report(events.AskingToUnmask(round=round_id))
        ask(action, round_id)
        # Whoever acted did so on chain by now. The others may come back before the deadline.
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
