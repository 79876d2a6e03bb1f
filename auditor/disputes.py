"""Proves a faulty proposal wrong to the contract (docs/protocol.md §11).

    audit = Audit(federation, store, folder)
    for line, is_final in judge(audit, audit.context(round_id)): ...

A fault is a verdict, two of them, or a leaf. If bytes are withheld, the leaf has to be requested
first (`auditor.leaf_requests`). The contract cannot settle the other rejections; the audit reports
them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.averaged import WrongLeaf, WrongMove, collect_averaged
from auditor.leaf_requests import Answered, Wanted, Withheld, next_step, request
from auditor.replay import Audit
from chain.events import DepositReturned, ProposalRefuted, Proposed
from chain.federation import Federation
from chain.history import LeafRequests
from chain.leaf_requests import settle_unanswered
from chain.records import Opening
from contracts.enums import Status
from contracts.reverts import Reverted
from ethereum.transactions import Receipt
from protocol.checks import ACCEPTED, Check
from protocol.errors import CommonweightError
from protocol.types import RoundId
from protocol.verdict import compute_weight
from rounds.context import RoundContext


@dataclass(frozen=True)
class WrongVerdict:
    """A verdict with a wrong weight, or one that is wrong about the zero update."""

    proposed: Proposed
    index: int
    opening: Opening

    def __str__(self) -> str:
        verdict = self.proposed.verdicts[self.index]
        return (
            f"{verdict.participant} has weight {verdict.weight} and reason {verdict.reason}"
            f" with {self.opening.examples} examples and root {self.opening.root.hex()}"
        )


@dataclass(frozen=True)
class PassedCopy:
    """A verdict that lets a copy pass of what verdict `earlier` is about."""

    proposed: Proposed
    index: int
    earlier: int
    opening: Opening
    earlier_opening: Opening

    def __str__(self) -> str:
        copy, first = (self.proposed.verdicts[i].participant for i in (self.index, self.earlier))
        return f"the update of {copy} is a copy of the one {first} committed to before"


@dataclass(frozen=True)
class DeniedOriginal:
    """A verdict that calls an update a copy whose root nobody had committed to before."""

    proposed: Proposed
    index: int
    openings: tuple[Opening, ...]

    def __str__(self) -> str:
        return f"the update of {self.proposed.verdicts[self.index].participant} is no copy"


Fault = WrongVerdict | PassedCopy | DeniedOriginal | WrongLeaf | WrongMove


def find_fault(audit: Audit, context: RoundContext) -> Fault | Withheld | None:
    """Return a provable fault of a round's standing proposal; None when there is none.

    The average is that of the updates the proposal accepts, with its weights, since this is what
    the contract recomputes. Raises Unavailable or Rejected when the model that the round starts
    from is not available.
    """
    proposed = context.told.proposed
    if proposed is None:
        return None
    # 1. Verdicts: they follow from the events alone, so no withheld bytes can hide a wrong one.
    wrong = _find_wrong_verdict(audit, context, proposed)
    if wrong is not None:
        return wrong
    averaged = collect_averaged(audit, context)
    if averaged is None:
        return None
    # 2. A leaf that moved too far: it takes no update, and the least gas.
    far = averaged.first_leaf_too_far()
    if far is not None:
        return WrongMove(proposed, far, *averaged.open_models(far))
    # 3. A leaf that is not what the updates make of it.
    if averaged.missing:
        return Withheld(proposed, averaged)
    leaf = averaged.first_wrong_leaf()
    return None if leaf is None else averaged.wrong_leaf(proposed, leaf)


def _find_wrong_verdict(
    audit: Audit, context: RoundContext, proposed: Proposed
) -> WrongVerdict | PassedCopy | DeniedOriginal | None:
    """Return the first verdict that the contract can refute; docs/protocol.md §11 lists them."""
    identity, weight_cap = audit.terms.identity, audit.terms.seats.weight_cap
    order = {reveal.participant: number for number, reveal in enumerate(context.reveals)}
    judged = [reveal for _, reveal in context.judged]
    openings = tuple(Opening.of(reveal) for reveal in judged)
    for index, (verdict, reveal) in enumerate(zip(proposed.verdicts, judged, strict=True)):
        if audit.terms.is_masked:
            # What was sealed cannot be disputed, and masks hide what is zero or a copy.
            if verdict.weight not in (0, compute_weight(reveal.examples, weight_cap)):
                return WrongVerdict(proposed, index, openings[index])
            continue
        reason, is_zero = verdict.reason, reveal.root == identity.zero_root
        has_weight = verdict.weight == compute_weight(reveal.examples, weight_cap)
        passes_zero = is_zero and (reason == ACCEPTED or reason > Check.ZERO)
        denies_zero = reason == Check.ZERO and not is_zero
        if passes_zero or denies_zero or (reason == ACCEPTED and not has_weight):
            return WrongVerdict(proposed, index, openings[index])
        earlier = [
            other
            for other, each in enumerate(judged)
            if each.root == reveal.root and order[each.participant] < order[reveal.participant]
        ]
        if earlier and (reason == ACCEPTED or reason > Check.DUPLICATE):
            pair = openings[index], openings[earlier[0]]
            return PassedCopy(proposed, index, earlier[0], *pair)
        if reason == Check.DUPLICATE and not earlier:
            return DeniedOriginal(proposed, index, openings)
    return None


def challenge(federation: Federation, fault: Fault) -> Receipt:
    """Prove the fault to the contract. Raises Reverted when it is none or the proposal is gone."""
    round_id, verdicts = fault.proposed.round, fault.proposed.verdicts
    match fault:
        case WrongVerdict():
            return federation.challenge_verdict(round_id, fault.index, verdicts, fault.opening)
        case PassedCopy():
            pair = fault.opening, fault.earlier_opening
            return federation.challenge_duplicate(
                round_id, fault.index, fault.earlier, verdicts, *pair
            )
        case DeniedOriginal():
            return federation.challenge_original(round_id, fault.index, verdicts, fault.openings)
        case WrongMove():
            return federation.challenge_move(round_id, fault.leaf, fault.before, fault.model)
        case WrongLeaf():
            leaves = fault.updates, fault.before, fault.model
            if fault.is_masked:
                return federation.challenge_sum(round_id, fault.leaf, verdicts, *leaves)
            return federation.challenge_average(round_id, fault.leaf, verdicts, *leaves)


def judge(
    audit: Audit, context: RoundContext, *, may_request: bool = True
) -> Iterator[tuple[str, bool]]:
    """Judge a round's standing proposal in its challenge window, and challenge or request leaves.

    Yields lines, each with whether it is the final result. Raises like `find_fault`.
    """
    fault, round_id = find_fault(audit, context), context.round_id
    if fault is None:
        yield f"round {round_id}: verdicts and model are as the contract would have them", True
        return
    if not isinstance(fault, Withheld):
        yield settle(audit.federation, fault), True
        return
    # Never final while bytes are missing: they may turn up, or be posted, before the window closes.
    yield f"round {round_id}: bytes are unavailable: {fault}", False
    if audit.terms.windows.response_seconds == 0:
        why = "the terms do not allow leaf requests"
        yield f"round {round_id}: nothing to show to the contract, and {why}", False
        return
    if not may_request:
        return
    match next_step(audit, context, fault):
        case Wanted() as wanted:
            for line in request(audit, context, fault, wanted):
                yield line, False
        case WrongLeaf() | WrongMove() as wrong:
            yield settle(audit.federation, wrong), True
        case Answered() as answered:
            yield f"round {round_id}: {answered}", True


def settle(federation: Federation, fault: Fault) -> str:
    """Challenge the proposal and return the outcome as one line."""
    round_id = fault.proposed.round
    try:
        receipt = challenge(federation, fault)
    except Reverted as error:
        # Not a failure of this auditor: somebody else may have proved a fault first.
        return f"round {round_id}: {fault}, but the challenge was refused: {error}"
    (told,) = [e for e in federation.events_in(receipt) if isinstance(e, ProposalRefuted)]
    return (
        f"round {round_id}: {fault}: {told.aggregator} was refuted in transaction"
        f" 0x{receipt.transaction_hash.hex()} ({receipt.gas_used:,} gas),"
        f" {told.reward:,} token units to {told.challenger}"
    )


def settle_requests(federation: Federation, requests: LeafRequests) -> Iterator[str]:
    """Settle leaf requests that are overdue or void; yield one line per outcome."""
    for late, events in settle_unanswered(federation, requests):
        where = f"round {late.round}: leaf {late.leaf}"
        for event in events:
            if isinstance(event, ProposalRefuted):
                yield (
                    f"{where} was not posted in time: {event.aggregator} was refuted,"
                    f" {event.reward:,} token units to {event.challenger}"
                )
            elif isinstance(event, DepositReturned):
                yield f"{where}: the deposit was returned to {event.challenger}"


def challenge_open(audit: Audit) -> list[str]:
    """Judge the newest round if its challenge window is open; return the results as lines."""
    where = ""
    try:
        # A new look at the chain: `audit` may have taken long, and its window may have closed.
        fresh = Audit(audit.federation, audit.store, audit.folder, audit.cache)
        newest = max(fresh.history.rounds, default=RoundId(0))
        if not newest or fresh.federation.status(newest) is not Status.CHALLENGE:
            return ["no proposal is open to challenge"]
        open_requests = fresh.history.rounds[newest].open_requests
        settled = list(settle_requests(fresh.federation, open_requests))
        if settled:  # the history that was read is out of date now
            return settled
        where = f"round {newest}: "
        return [line for line, _ in judge(fresh, fresh.context(newest))]
    except CommonweightError as error:
        return [f"{where}cannot judge now: {error}"]
