"""Rebuilds a federation's rounds from the chain and IPFS alone (docs/protocol.md §10).

Nothing the aggregator says is believed: updates are fetched and hashed again, screening is decided
again, the mean and the payouts are computed again, and the tokens are counted.

    for check in Audit(federation, store, folder).run():
        print(check.line())
"""

import dataclasses
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from auditor.cache import AuditCache, EventsRead, block_hash
from auditor.check_result import Verified
from auditor.downloads import Downloads
from auditor.history import RoundHistory, round_histories
from auditor.rules import (
    check_commitments,
    check_eligible,
    check_payouts,
    check_verdicts,
    tell_refuted,
    unreachable,
)
from auditor.tokens import Holdings, check_tokens, count_tokens, read_holdings
from chain.complete import MissingLogs, require_all_logs
from chain.events import FederationEvent, Finalized
from chain.federation import Federation
from chain.records import Model
from chain.rpc import plain_errors
from protocol.checks import Check
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.spec import Spec
from protocol.types import RoundId, parse_digest
from rounds.compare import first_wrong_value
from rounds.screen import Screened, screen_reveals
from storage.ipfs import ContentStore
from storage.layers import LayerFolder

_PAUSES_S: Final = (1.0, 2.0, 4.0)


class ChainChanged(Unavailable):
    """The chain went another way below the block that an audit looks at: begin again."""


class Audit:
    """One federation under audit, at one block; layer files are kept in `folder` while it runs.

    With a cache, which must be held, rounds that are done are not done again; without one
    everything is. After `run`, `from_cache` tells which rounds were not, and `found_spec` the spec.

    A full node keeps the state of about 128 blocks. So all state is read when the audit begins, at
    the block up to which the events were read; where that took too long, once more at a newer one.
    Unavailable when the node does not answer, or lacks logs that the contract counts.
    """

    def __init__(
        self,
        federation: Federation,
        store: ContentStore,
        folder: Path,
        cache: AuditCache | None = None,
    ) -> None:
        self.federation = federation
        self.store = store
        self.folder = folder
        self.cache = cache
        with plain_errors():
            self.chain_id = federation.w3.eth.chain_id
        self.terms = federation.terms()
        self.block = -1
        self.block_hash = b""
        self.events: list[FederationEvent] = []
        self.found_spec: Spec | None = None
        self.from_cache: set[RoundId] = set()
        self._read: EventsRead | None = None
        self._downloads = Downloads(store, self.chain_id, federation.address, folder)
        self._screened: dict[tuple[RoundId, Model], list[Screened]] = {}
        self._look()

    def run(self, rounds: Collection[RoundId] | None = None) -> Iterator[Verified]:
        """Yield every check as it is made, in the order of the rounds.

        With `rounds` only of those: the spec, each round and the model before it, and the tokens,
        which can only be counted as a whole. Misconfigured when one of them was not opened;
        ChainChanged when a reorganisation undid what was checked.
        """
        held = self._read_holdings()
        plan = self._plan(rounds)
        spec_check, spec = self._check_spec()
        self.found_spec = spec
        yield spec_check
        if spec is None:
            return
        yield self._check_held_out(spec)
        if rounds is None:
            yield self._check_initial_model(spec)
        yield from self._check_rounds(spec, plan)
        if block_hash(self.federation, self.block) != self.block_hash:
            try:
                held = self._look_again(plan)
            except ChainChanged:
                raise
            except Unavailable as error:
                held = error
        yield from self._check_tokens(held)

    # -------------------------------------------------------------- the chain

    def _look(self) -> None:
        """Read the events up to a block that is the latest, and see that none is missing."""
        block = self._head()
        for pause in (*_PAUSES_S, None):
            try:
                return self._look_at(block)
            except MissingLogs:
                # The index of a node's logs may catch up with this very block.
                self._read = None
                if pause is None:
                    raise
                time.sleep(pause)
            except Unavailable:
                if pause is None:
                    raise
                time.sleep(pause)
                block = self._head()
        raise AssertionError("the last try returns or raises")

    def _look_at(self, block: int) -> None:
        found = block_hash(self.federation, block)
        if found is None:
            raise Unavailable(f"the Ethereum RPC does not have its own block {block}")
        known = self._known_events(block)
        events = [*known.events, *self.federation.read_events(known.to_block + 1, block)]
        self._read = EventsRead(block, found, events)
        done = round_histories(known.events) if known.counted else []
        ended = {history.round_id for history in done if history.ended}
        require_all_logs(self.federation, events, block, ended)
        if not self._is_on_chain(self._read):
            raise ChainChanged(f"the chain has another block {block} than a moment ago")
        self._read.counted = True
        self.block, self.block_hash, self.events = block, found, events

    def _known_events(self, block: int) -> EventsRead:
        """Return the events up to a block that is still on the chain, up to `block` at most."""
        known = self._read
        if known is None or known.to_block > block or not self._is_on_chain(known):
            known = self.cache.known_events(block) if self.cache else None
        return known or EventsRead(self.federation.deployment_block - 1, b"", [])

    def _is_on_chain(self, read: EventsRead) -> bool:
        return block_hash(self.federation, read.to_block) == read.block_hash

    def _read_holdings(self) -> Holdings | Unavailable:
        """Return what the contract holds at this audit's block, or why that cannot be known.

        Looks again at a newer block when the node has forgotten this one's state meanwhile.
        """
        for pause in (*_PAUSES_S, None):
            accounts = count_tokens(self.events, self.terms.availability_deposit)
            try:
                held = read_holdings(self.federation, accounts, self.block)
                if not held.agree_with(accounts):
                    raise MissingLogs(
                        f"the node does not have all logs of block {self.block}: by them the"
                        " contract should hold and owe other amounts than it does"
                    )
            except Unavailable as error:
                if pause is None:
                    return error
                if isinstance(error, MissingLogs):
                    self._read = None
                time.sleep(pause)
                self._look()
            else:
                if self.cache is not None and self._read is not None:
                    self.cache.keep_events(self._read)
                return held
        raise AssertionError("the last try returns")

    def _look_again(self, plan: Sequence[tuple[RoundHistory, Model]]) -> Holdings | Unavailable:
        """Look at another block after a reorganisation, and return what is held there.

        ChainChanged unless the rounds that were checked are there as they were.
        """
        gone = self.block
        self._look()
        held = self._read_holdings()
        now = {history.round_id: (history, before) for history, before in self._plan(None)}
        if any(now.get(history.round_id) != (history, before) for history, before in plan):
            raise ChainChanged(
                f"block {gone}, at which the audit began, is no longer on the chain, nor is all"
                " that was checked: run it again"
            )
        return held

    def _check_tokens(self, held: Holdings | Unavailable) -> Iterator[Verified]:
        if isinstance(held, Unavailable):
            claim = "the contract holds and owes what its events say"
            yield Verified.refused("§9", None, claim, held)
            return
        yield from check_tokens(count_tokens(self.events, self.terms.availability_deposit), held)

    def _head(self) -> int:
        with plain_errors():
            return int(self.federation.w3.eth.block_number)

    # ------------------------------------------------------------- the rounds

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
        model = self.model_before(round_id)
        yield from self._check_round(self.spec(), self.history(round_id), model)

    def model_before(self, round_id: RoundId) -> Model:
        """Return the model from which participants of a round start."""
        model = self._initial_model()
        for event in self.events:
            if isinstance(event, Finalized) and event.round < round_id:
                model = Model(event.root, event.manifest)
        return model

    def _plan(self, rounds: Collection[RoundId] | None) -> list[tuple[RoundHistory, Model]]:
        """Return the rounds to look at, each with the model before it."""
        plan = []
        model = self._initial_model()
        for history in round_histories(self.events):
            plan.append((history, model))
            if history.finalized is not None:
                model = Model(history.finalized.root, history.finalized.manifest)
        if rounds is None:
            return plan
        for missing in sorted(set(rounds) - {history.round_id for history, _ in plan}):
            raise Misconfigured(f"round {missing} was not opened before block {self.block}")
        return [(history, model) for history, model in plan if history.round_id in rounds]

    def _check_rounds(
        self, spec: Spec, plan: Sequence[tuple[RoundHistory, Model]]
    ) -> Iterator[Verified]:
        """Recompute the rounds that are not in the cache, the next one's updates on their way."""
        kept = [self.cache.read_round(*entry) if self.cache else None for entry in plan]
        ahead = [history for (history, _), checks in zip(plan, kept, strict=True) if checks is None]
        for (history, before), checks in zip(plan, kept, strict=True):
            if checks is not None:
                self.from_cache.add(history.round_id)
                yield from checks
                continue
            for coming in ahead[:2]:
                if coming.proposed is not None:
                    self._downloads.begin_updates(spec, coming)
            del ahead[0]
            made = []
            for check in self._check_round(spec, history, before):
                made.append(check)
                yield check
            self._finish(history, before, made)

    def _finish(self, history: RoundHistory, before: Model, checks: Sequence[Verified]) -> None:
        """Keep what a round came to when it can never come to anything else, and drop its files.

        A round in which an update could not be had is looked at again next time: a rejection for
        that reason is right or wrong depending on when one looks (docs/protocol.md §6).
        """
        finalized = history.finalized
        screened = self._screened.get((history.round_id, before), [])
        if finalized is None or not all(check.passed for check in checks):
            return
        if any(s.verdict.reason == Check.REACHABLE for s in screened):
            return
        if self.cache is not None:
            if not self.cache.is_settled(finalized.block_number, self.block):
                return
            self.cache.write_round(history, before, checks)
        self._downloads.drop(history.round_id, Model(finalized.root, finalized.manifest))

    def _initial_model(self) -> Model:
        return Model(self.terms.initial_model_root, self.terms.initial_model_manifest)

    def _check_spec(self) -> tuple[Verified, Spec | None]:
        section, claim = "§5", "the spec is the one the contract pins"
        try:
            spec = self.spec()
        except CommonweightError as error:
            return Verified.refused(section, None, claim, error), None
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
            return Verified.refused("§5", None, claim, error)
        return Verified("§5", None, claim, True, f"{spec.evaluation_digest}, {len(data):,} bytes")

    def _check_round(self, spec: Spec, history: RoundHistory, model: Model) -> Iterator[Verified]:
        yield check_eligible(self.terms, history)
        yield from check_commitments(self.federation.address, history)
        yield from tell_refuted(history)
        if history.proposed is None:
            return
        self._downloads.begin_updates(spec, history)
        proposed = Model(history.proposed.root, history.proposed.manifest)
        if proposed != model:
            self._downloads.begin_model(spec, proposed, RoundId(history.round_id + 1))
        claim = "the model that the round starts from hashes to its root"
        check = self._check_model(spec, model, history.round_id, claim)
        yield dataclasses.replace(check, round_id=history.round_id)
        if not check.passed:
            return
        screened = self.screen(spec, history, model)
        yield from check_verdicts(history.round_id, history.proposed.verdicts, screened)
        yield self._check_average(spec, history, model, screened)
        if history.finalized is not None:
            yield check_payouts(self.terms, history)

    def screen(self, spec: Spec, history: RoundHistory, model: Model) -> list[Screened]:
        """Return our own decision on each reveal; raises when the model before cannot be had.

        A round is screened once; whoever asks again gets the same decisions.
        """
        known = self._screened.get((history.round_id, model))
        if known is None:
            known = screen_reveals(
                self.store,
                spec,
                self._downloads.subject(history.round_id, "update"),
                history.reveals(),
                self.fetch_model(spec, model, history.round_id),
                model.root,
                self.terms.weight_cap,
                self._downloads.round_folder(history.round_id),
                fetch=self._downloads.fetch_update,
            )
            self._screened[history.round_id, model] = known
        return known

    def _check_average(
        self, spec: Spec, history: RoundHistory, before: Model, screened: Sequence[Screened]
    ) -> Verified:
        assert history.proposed is not None
        proposed = Model(history.proposed.root, history.proposed.manifest)
        accepted = [s for s in screened if s.verdict.is_accepted]
        round_id = history.round_id
        averaged = [v for v in history.proposed.verdicts if v.is_accepted]
        unseen = unreachable(averaged, screened)
        if unseen:
            claim = "the proposed model is the weighted mean of the updates it accepts"
            detail = f"bytes of {len(unseen)} updates are missing here"
            return Verified("§7", round_id, claim, None, detail)
        if not accepted:
            claim = "without an accepted update the model stayed as it was"
            return Verified("§7", round_id, claim, proposed == before, proposed.root.hex())
        claim = f"the proposed model is the weighted mean of {len(accepted)} updates"
        try:
            model = self.fetch_model(spec, proposed, RoundId(round_id + 1))
        except CommonweightError as error:
            return Verified.refused("§7", round_id, claim, error)
        weights = [s.verdict.weight for s in accepted]
        wrong = first_wrong_value(spec, [s.folder for s in accepted], weights, model)
        detail = f"model {proposed.root.hex()}" if wrong is None else str(wrong)
        return Verified("§7", round_id, claim, wrong is None, detail, wrong)

    def _check_model(self, spec: Spec, model: Model, round_id: RoundId, claim: str) -> Verified:
        try:
            self.fetch_model(spec, model, round_id)
        except CommonweightError as error:
            return Verified.refused("§4", None, claim, error)
        return Verified("§4", None, claim, True, model.root.hex())

    def _check_initial_model(self, spec: Spec) -> Verified:
        model = self._initial_model()
        known = self.cache.read_model(model) if self.cache else None
        if known is not None:
            return known
        claim = "the initial model's layers hash to its root"
        check = self._check_model(spec, model, RoundId(1), claim)
        if self.cache is not None and check.passed:
            self.cache.write_model(model, check)
        return check

    def fetch_model(self, spec: Spec, model: Model, before: RoundId) -> LayerFolder:
        """Return a model's layer files, its root recomputed. Raises as `storage.fetch_model`."""
        return self._downloads.fetch_model(spec, model, before)
