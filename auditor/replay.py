"""Rebuilds a federation's rounds from the chain and IPFS alone (docs/protocol.md §10).

Nothing is taken on the aggregator's word: updates are fetched and hashed again, screened again, the
new model and the payouts are recomputed, and the tokens are counted.

    for check in Audit(federation, store, folder).run():
        print(check.line())
"""

import dataclasses
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from auditor.cache import AuditCache
from auditor.check_result import CheckResult
from auditor.downloads import Downloads
from auditor.masked import (
    check_blame,
    check_draw,
    check_half_prices,
    check_opened,
    check_seal,
    judge_masked,
)
from auditor.rules import (
    check_commitments,
    check_eligible,
    check_payouts,
    check_seed,
    check_terms,
    check_verdicts,
    report_refuted,
)
from auditor.scores import check_losses, judge_scores
from auditor.tokens import Holdings, check_tokens, read_holdings
from chain.event_index import block_hash
from chain.event_log import MissingLogs
from chain.federation import Federation
from chain.history import History, RoundHistory
from chain.records import Model
from ethereum.rpc import plain_errors
from protocol.checks import Check
from protocol.errors import CommonweightError, Misconfigured, Rejected, Unavailable
from protocol.spec import Spec
from protocol.types import RoundId, parse_digest
from rounds.compare import first_wrong_value
from rounds.context import RoundContext
from rounds.rebuild import as_summed, obtain_model, rebuild
from rounds.score import Evaluate, HeldOut
from rounds.screen import Screened, screen
from rounds.seal import choose_set
from rounds.whereabouts import learn_places
from storage.blocks import Store
from storage.layers import LayerFolder

_PAUSES_S: Final = (1.0, 2.0, 4.0)  # a node's log index may be some blocks behind its head


class ChainChanged(Unavailable):
    """A reorganisation replaced the block that an audit reads: run the audit again."""


class Audit:
    """An audit of one federation at one block; layer files are kept in `folder` while it runs.

    With a cache, which must be held, rounds that passed before are not recomputed. `evaluate` gives
    the held-out loss of a model, without which losses behind scores cannot be checked. After `run`,
    `from_cache` has the rounds from the cache, and `found_spec` the spec.

    A full node keeps the state of about 128 blocks. All state is therefore read at the start, at
    the block up to which the events were read; if that took too long, once more at a newer block.
    Raises Unavailable when the node does not answer, or lacks logs that the contract counts.
    """

    def __init__(
        self,
        federation: Federation,
        store: Store,
        folder: Path,
        cache: AuditCache | None = None,
        evaluate: Evaluate | None = None,
    ) -> None:
        self.federation = federation
        self.store = store
        self.folder = folder
        self.cache = cache
        self.evaluate = evaluate
        self._measured: HeldOut | None = None
        self.chain_id = federation.chain_id
        self.terms = federation.terms()
        self.block = -1
        self.block_hash = b""
        self.history = History()
        self.found_spec: Spec | None = None
        self.from_cache: set[RoundId] = set()
        self._downloads = Downloads(store)
        self._screened: dict[tuple[RoundId, Model], list[Screened]] = {}
        self._sealed: dict[tuple[RoundId, Model], list[Screened]] = {}
        self._index = None if cache is None else cache.index
        if self._index is not None and (known := self._index.load()) is not None:
            federation.event_log.begin_with(*known)
        self._look()

    def run(self, rounds: Collection[RoundId] | None = None) -> Iterator[CheckResult]:
        """Yield every check as it is made, in the order of the rounds.

        With `rounds`, check the spec, each of these rounds with its model before, and the tokens,
        which can only be counted as a whole. Raises Misconfigured when a round was not opened, and
        ChainChanged when a reorganisation undid what was checked.
        """
        # 1. Read all state first: the node may have dropped it by the time the rounds are done.
        held = self._read_holdings()
        plan = self._plan(rounds)
        # 2. Check the spec. Without it no byte of an update can be judged.
        spec_check, spec = self._check_spec()
        self.found_spec = spec
        yield spec_check
        if spec is None:
            return
        yield check_terms(self.terms, spec)
        # 3. Check the held-out set and the initial model.
        yield self._check_held_out(spec)
        if rounds is None:
            yield self._check_initial_model(spec)
        # 4. Recompute the rounds, which may take hours.
        try:
            yield from self._check_rounds([self._context(spec, *entry) for entry in plan])
        finally:
            # A round whose updates are gone does not wait for the model proposed for it.
            self._downloads.finish()
        # 5. Count the tokens, at a block that is still on the chain.
        if block_hash(self.federation.w3, self.block) != self.block_hash:
            try:
                held = self._look_again(plan)
            except ChainChanged:
                raise
            except Unavailable as error:
                # The rounds were checked all the same; only the tokens stay unchecked.
                held = error
        if isinstance(held, Unavailable):
            claim = "the contract holds and owes what its events say"
            yield CheckResult.refused("§9", None, claim, held)
        else:
            yield from check_tokens(self.history.accounts, held)

    # -------------------------------------------------------------- the chain

    def _look(self) -> None:
        """Read the history up to the latest block."""
        block = self._head()
        for pause in (*_PAUSES_S, None):
            try:
                now = self.federation.at(block)
                found = block_hash(now.w3, block)
                self.history = now.history()
                # Logs are asked for by number: a reorganisation in between would mix two branches.
                if found is None or block_hash(now.w3, block) != found:
                    raise ChainChanged(f"the chain has another block {block} than a moment ago")
                learn_places(self.store, now)
            except MissingLogs:
                # The same block again: the node's log index may catch up with it.
                self.federation.event_log.forget()
                if pause is None:
                    raise
                time.sleep(pause)
            except Unavailable:
                if pause is None:
                    raise
                time.sleep(pause)
                block = self._head()  # the node may have dropped the state of the older one
            else:
                self.block, self.block_hash = block, found
                return
        raise AssertionError("the last try returns or raises")

    def _read_holdings(self) -> Holdings | Unavailable:
        """Return what the contract holds at this audit's block, or why it is unavailable.

        Moves on to a newer block when the node has dropped this one's state meanwhile.
        """
        for pause in (*_PAUSES_S, None):
            accounts = self.history.accounts
            try:
                held = read_holdings(self.federation, accounts, self.block)
                if not held.agree_with(accounts):
                    raise MissingLogs(
                        f"the node does not have all logs of block {self.block}: by them the"
                        " contract should hold and owe other amounts than it does"
                    )
            except Unavailable as error:
                if pause is None:
                    return error  # not raised: the rounds can be checked without it
                if isinstance(error, MissingLogs):
                    self.federation.event_log.forget()
                time.sleep(pause)
                self._look()
            else:
                if self._index is not None:
                    self._index.keep(self.history.events, self.block, self.block_hash)
                return held
        raise AssertionError("the last try returns")

    def _look_again(self, plan: Sequence[tuple[RoundHistory, Model]]) -> Holdings | Unavailable:
        """Move to another block after a reorganisation, and return what the contract holds there.

        Raises ChainChanged unless the rounds that were checked are unchanged there.
        """
        gone = self.block
        self._look()
        held = self._read_holdings()
        # Events carry block hashes, so a round that was mined again elsewhere counts as another
        # one.
        now = {told.round_id: (told, before) for told, before in self._plan(None)}
        if any(now.get(told.round_id) != (told, before) for told, before in plan):
            raise ChainChanged(
                f"block {gone}, at which the audit began, is no longer on the chain, nor is all"
                " that was checked: run it again"
            )
        return held

    def _head(self) -> int:
        with plain_errors():
            return int(self.federation.w3.eth.block_number)

    # ------------------------------------------------------------- the rounds

    def spec(self) -> Spec:
        """Return the spec that the contract pins; raises Unavailable or Rejected."""
        return Spec.parse(self.store.get_block(self.terms.identity.spec_digest))

    def context(self, round_id: RoundId) -> RoundContext:
        """Return a round's context; raises Misconfigured when the round was not opened."""
        (entry,) = self._plan({round_id})
        return self._context(self.spec(), *entry)

    def _context(self, spec: Spec, told: RoundHistory, before: Model) -> RoundContext:
        place = (self.federation.address, self.chain_id, self.terms)
        return RoundContext(*place, spec, self.store, self.folder, self.history, told, before)

    def _plan(self, rounds: Collection[RoundId] | None) -> list[tuple[RoundHistory, Model]]:
        """Return the rounds to check, each with the model before it."""
        told = sorted(self.history.rounds.items())
        for _, each in told:
            _ = each.opened  # raises Unavailable now, not in the middle of the audit
        missing = sorted(set(rounds or ()) - self.history.rounds.keys())
        if missing:
            raise Misconfigured(f"round {missing[0]} was not opened before block {self.block}")
        return [
            (each, self.history.model_before(round_id, self.terms))
            for round_id, each in told
            if rounds is None or round_id in rounds
        ]

    def _check_rounds(self, plan: Sequence[RoundContext]) -> Iterator[CheckResult]:
        """Recompute the rounds that are not in the cache, while the next updates are fetched."""
        kept = [
            self.cache.read_round(each.told, each.model) if self.cache else None for each in plan
        ]
        ahead = [context for context, checks in zip(plan, kept, strict=True) if checks is None]
        for context, checks in zip(plan, kept, strict=True):
            if checks is not None:
                self.from_cache.add(context.round_id)
                yield from checks
                continue
            for coming in ahead[:2]:
                if coming.told.proposed is not None:
                    self._downloads.begin_updates(coming)
            del ahead[0]
            made = []
            for check in self.check_round(context):
                made.append(check)
                yield check
            self._finish(context, made)

    def _finish(self, context: RoundContext, checks: Sequence[CheckResult]) -> None:
        """Cache the result of a round that cannot change any more, and drop the round's files."""
        finalized, cache = context.told.finalized, self.cache
        if finalized is None:
            return
        if cache is not None and not cache.is_settled(finalized.block_number, self.block):
            return  # and the files stay, to be hashed instead of fetched next time
        # Checked again next time: whether an update was unavailable depends on when one looks
        # (docs/protocol.md §6).
        screened = self._screened.get((context.round_id, context.model), [])
        may_change = any(s.verdict.reason == Check.REACHABLE for s in screened)
        if cache is not None and not may_change and all(check.is_final for check in checks):
            cache.write_round(context.told, context.model, checks)
        # Whatever was found, or the disk would fill with models of rounds whose updates are gone.
        self._downloads.drop(context, Model(finalized.root, finalized.manifest))

    def _check_spec(self) -> tuple[CheckResult, Spec | None]:
        section, claim = "§5", "the spec is the one the contract pins"
        try:
            spec = self.spec()
        except CommonweightError as error:
            return CheckResult.refused(section, None, claim, error), None
        return CheckResult(section, None, claim, True, spec.digest().hex()), spec

    def _check_held_out(self, spec: Spec) -> CheckResult:
        claim = "the held-out set is the one the spec pins"
        try:
            data = self.store.get_block(parse_digest(spec.evaluation_digest))
        except CommonweightError as error:
            return CheckResult.refused("§5", None, claim, error)
        return CheckResult(
            "§5", None, claim, True, f"{spec.evaluation_digest}, {len(data):,} bytes"
        )

    def check_round(self, context: RoundContext) -> Iterator[CheckResult]:
        """Yield the checks of one round; without a proposal or settlement, those that are possible.

        In the order of docs/protocol.md §10: the draw and the commitments (§8), the model (§4), the
        verdicts (§6), the new model (§7) and its manifest (§5), the payouts (§9).
        """
        told, round_id = context.told, context.round_id
        # 1. What the events alone must meet.
        yield from check_seed(self.federation.w3, self.federation.address, told)
        yield check_eligible(self.terms, told)
        yield from check_commitments(self.federation.address, told)
        yield from report_refuted(told)
        if told.masking.sealed is not None:
            yield from self._check_masks(context)
        if told.proposed is None:
            return
        # 2. The model before. Downloads of everything else begin meanwhile.
        self._downloads.begin_updates(context)
        proposed = Model(told.proposed.root, told.proposed.manifest)
        if proposed.root != context.model.root:
            self._downloads.begin_model(context, proposed)
        claim = "the model that the round starts from hashes to its root"
        check = self._check_model(context, claim)
        yield dataclasses.replace(check, round_id=round_id)
        # 3. Our own verdicts, which need no model but for check 12, with the scores that the losses
        # give which the proposal lists.
        verdicts, ours = told.proposed.verdicts, self.screen(context)
        judged = judge_scores(context, proposed, verdicts, ours)
        yield from check_verdicts(round_id, verdicts, judged.decisions)
        if judged.check is not None:
            yield judged.check
        # 4. The new model, by the proposal's verdicts: wrong ones are reported above.
        if check.passed:
            yield from self._check_average(context, proposed)
        # 5. The money.
        if told.finalized is not None:
            yield check_payouts(self.terms, told)
        # 6. Those losses, last: to evaluate a model takes longer than all of the above.
        if check.passed and judged.losses is not None:
            before = self.model_before(context)
            losses, evaluated = judged.losses, self._held_out(context)
            yield check_losses(context, before, ours, losses, evaluated, self._downloads)

    def _held_out(self, context: RoundContext) -> HeldOut | None:
        """Return what evaluates models here; None without a base model."""
        if self._measured is None and self.evaluate is not None:
            self._measured = HeldOut(context.spec, self.evaluate)
        return self._measured

    def screen(self, context: RoundContext) -> list[Screened]:
        """Return our own decision on each reveal."""
        # Screened once: verdicts, average and disputes must be judged by the same decisions.
        known = self._screened.get((context.round_id, context.model))
        if known is None:
            verdicts = context.told.proposed.verdicts if context.told.proposed else ()
            reasons = {verdict.participant: verdict.reason for verdict in verdicts}
            if self.terms.is_masked:
                known = judge_masked(context, self.fetched(context), self._downloads)
            else:
                known = screen(context, self._downloads, proposed=reasons)
            self._screened[context.round_id, context.model] = known
        return known

    def fetched(self, context: RoundContext) -> list[Screened]:
        """Return the decisions that say whose bytes are here: of masked updates those of a seal."""
        if not self.terms.is_masked:
            return self.screen(context)
        known = self._sealed.get((context.round_id, context.model))
        if known is None:
            known = choose_set(context, self._downloads)
            self._sealed[context.round_id, context.model] = known
        return known

    def _check_masks(self, context: RoundContext) -> Iterator[CheckResult]:
        """Check what was sealed and opened of a masked round (§13)."""
        yield from check_seal(context, self.fetched(context))
        yield from check_draw(self.federation.w3, context.told)
        yield from check_opened(context, self._downloads)
        if context.told.masking.voided is not None:
            yield check_half_prices(self.terms, context.told)
        if context.told.is_refused:
            yield check_blame(context, self._downloads)

    def model_before(self, context: RoundContext) -> LayerFolder:
        """Return the files of the model before a round; raises like `obtain_model`."""
        return obtain_model(context, self._downloads)

    def fetch_proposed(self, context: RoundContext, model: Model) -> LayerFolder:
        """Return the files of a proposed model; raises like `storage.layers.fetch_model`."""
        return self._downloads.fetch_proposed(context, model)

    def _check_average(self, context: RoundContext, proposed: Model) -> Iterator[CheckResult]:
        """Check the new model against what the updates that the proposal accepts make of it."""
        round_id, accepted = context.round_id, context.averaged
        if not accepted:
            claim = "without an accepted update the model stayed as it was"
            is_same = proposed == context.model
            yield CheckResult("§7", round_id, claim, is_same, proposed.root.hex())
            return
        claim = f"the proposed model is the one before moved by the mean of {len(accepted)} updates"
        ours = {decision.verdict.participant: decision for decision in self.fetched(context)}
        updates = [ours[reveal.participant] for reveal, _ in accepted]
        missing = [decision for decision in updates if not decision.has_root]
        # Only accepted updates count: one that was rejected is not in the average, whatever it has.
        if missing:
            detail = f"bytes of {len(missing)} updates are missing here: {missing[0].reason}"
            yield CheckResult("§7", round_id, claim, None, detail)
            return
        before = self.model_before(context)
        is_same = proposed.root == context.model.root
        try:
            model = before if is_same else self.fetch_proposed(context, proposed)
        except (Unavailable, Rejected) as error:
            yield from self._check_without_manifest(context, proposed, claim, error)
            return
        found = [decision.folder for decision in updates]
        reveals = [reveal for reveal, _ in accepted]
        folders, weights = as_summed(context, reveals, found, [weight for _, weight in accepted])
        wrong = first_wrong_value(context.spec, before, folders, weights, model, round_id)
        detail = f"model {proposed.root.hex()}" if wrong is None else str(wrong)
        yield CheckResult("§7", round_id, claim, wrong is None, detail, wrong)

    def _check_without_manifest(
        self, context: RoundContext, proposed: Model, claim: str, error: CommonweightError
    ) -> Iterator[CheckResult]:
        """Check the root of a proposed model whose bytes its manifest does not give."""
        before, round_id = self.model_before(context), context.round_id
        model = rebuild(context, before, context.new_model, self._downloads)
        found = model.root(context.spec)
        if found != proposed.root:
            detail = f"the updates give the model {found.hex()}, not {proposed.root.hex()}: {error}"
            yield CheckResult("§7", round_id, claim, False, detail)
            return
        yield CheckResult("§7", round_id, claim, True, f"model {found.hex()}")
        # Reported, not failed: whoever needs the model rebuilds it, as was done here (§5).
        claim = "the model is to be had without its manifest, which does not lead to it"
        yield CheckResult("§5", round_id, claim, True, str(error))

    def _check_model(self, context: RoundContext, claim: str) -> CheckResult:
        try:
            self.model_before(context)
        except CommonweightError as error:
            return CheckResult.refused("§4", None, claim, error)
        return CheckResult("§4", None, claim, True, context.model.root.hex())

    def _check_initial_model(self, spec: Spec) -> CheckResult:
        # As a participant of the first round finds it, whether that round was opened or not.
        first = RoundHistory(RoundId(1))
        model = History().model_before(first.round_id, self.terms)
        known = self.cache.read_model(model) if self.cache else None
        if known is not None:
            return known
        claim = "the initial model's layers hash to its root"
        check = self._check_model(self._context(spec, first, model), claim)
        if self.cache is not None and check.passed:
            self.cache.write_model(model, check)
        return check
