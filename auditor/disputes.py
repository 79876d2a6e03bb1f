"""Proves a faulty proposal wrong to the contract (docs/protocol.md §11).

    audit = Audit(federation, store, folder)
    for line, is_final in judge(audit, audit.context(round_id)): ...

A fault is one verdict or one leaf. If bytes are withheld, the leaf has to be requested first
(`auditor.leaf_requests`). A wrongly rejected update is nothing that the contract can settle; the
audit only reports it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.averaged import WrongLeaf, fetch_averaged
from auditor.leaf_requests import Answered, Wanted, Withheld, next_step, request
from auditor.replay import Audit
from chain.events import DepositReturned, ProposalRefuted, Proposed
from chain.federation import Federation
from chain.history import LeafRequests
from chain.leaf_requests import settle_unanswered
from contracts.enums import Status
from contracts.reverts import Reverted
from ethereum.transactions import Receipt
from protocol.errors import CommonweightError, Unavailable
from protocol.reveal import Reveal
from protocol.types import RoundId
from protocol.verdict import FULL_SCORE, compute_weight
from rounds.context import RoundContext


@dataclass(frozen=True)
class WrongVerdict:
    """An accepted update whose proposed weight or score breaks the rules."""

    proposed: Proposed
    index: int
    reveal: Reveal

    def __str__(self) -> str:
        verdict = self.proposed.verdicts[self.index]
        return f"{verdict.participant} has weight {verdict.weight} and score {verdict.score}"


Fault = WrongVerdict | WrongLeaf


def find_fault(audit: Audit, context: RoundContext) -> Fault | Withheld | None:
    """Return a provable fault of a round's standing proposal; None when there is none.

    The mean is that of the updates the proposal accepts, with its weights, since this is what the
    contract recomputes. Raises Unavailable or Rejected when the model that the round starts from is
    not available.
    """
    proposed = context.told.proposed
    if proposed is None:
        return None
    reveals = {reveal.participant: reveal for reveal in context.reveals}
    # Verdicts first: they follow from the events alone, so no withheld bytes can hide a wrong one.
    for index, verdict in enumerate(proposed.verdicts):
        if not verdict.is_accepted:
            continue
        # The contract accepts verdicts on reveals only. So the log is missing, not the reveal.
        if verdict.participant not in reveals:
            raise Unavailable(
                f"the node does not have all logs: none says what {verdict.participant} revealed"
            )
        weight = compute_weight(reveals[verdict.participant].examples, audit.terms.weight_cap)
        if (verdict.weight, verdict.score) != (weight, FULL_SCORE):
            return WrongVerdict(proposed, index, reveals[verdict.participant])
    averaged = fetch_averaged(audit, context)
    if averaged is None:
        return None
    if averaged.missing:
        return Withheld(proposed, averaged)
    leaf = averaged.first_wrong_leaf()
    return None if leaf is None else WrongLeaf(proposed, leaf, *averaged.open(leaf))


def challenge(federation: Federation, fault: Fault) -> Receipt:
    """Prove the fault to the contract. Raises Reverted when it is none or the proposal is gone."""
    proposed = fault.proposed
    if isinstance(fault, WrongVerdict):
        return federation.challenge_verdict(
            proposed.round, fault.index, proposed.verdicts, fault.reveal
        )
    return federation.challenge_average(
        proposed.round, fault.leaf, proposed.verdicts, fault.updates, fault.model
    )


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
    if audit.terms.response_seconds == 0:
        why = "the terms do not allow leaf requests"
        yield f"round {round_id}: nothing to show to the contract, and {why}", False
        return
    if not may_request:
        return
    match next_step(audit, context, fault):
        case Wanted() as wanted:
            for line in request(audit, context, fault, wanted):
                yield line, False
        case WrongLeaf() as wrong:
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
