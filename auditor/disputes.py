"""Shows the contract what is wrong with a proposal (docs/protocol.md §11).

    audit = Audit(federation, store, folder)
    for line, is_final in judge(audit, audit.context(round_id)): ...

A fault is one verdict or one leaf; where bytes are withheld, the leaf has to be requested first
(`auditor.leaf_requests`). What the contract cannot settle, an update wrongly rejected, is the
audit's to report.
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
    """An accepted update whose proposed weight or score is not what the rules give it."""

    proposed: Proposed
    index: int
    reveal: Reveal

    def __str__(self) -> str:
        verdict = self.proposed.verdicts[self.index]
        return f"{verdict.participant} has weight {verdict.weight} and score {verdict.score}"


Fault = WrongVerdict | WrongLeaf


def find_fault(audit: Audit, context: RoundContext) -> Fault | Withheld | None:
    """Return what is provably wrong with a round's standing proposal, None when nothing is.

    The mean is taken of the updates that the proposal accepts, with its weights: that is what the
    contract recomputes. Raises Unavailable or Rejected when not even the model before is available.
    """
    proposed = context.told.proposed
    if proposed is None:
        return None
    reveals = {reveal.participant: reveal for reveal in context.reveals}
    for index, verdict in enumerate(proposed.verdicts):
        if not verdict.is_accepted:
            continue
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
    """Prove the fault to the contract. Raises Reverted when it is none, or no longer matters."""
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
    """Do what can be done about a round's standing proposal in its challenge window.

    Yields lines, and with each whether it is the last word. Raises as `find_fault` does.
    """
    fault, round_id = find_fault(audit, context), context.round_id
    if isinstance(fault, Withheld):
        yield f"round {round_id}: bytes cannot be had: {fault}", False
        if audit.terms.response_seconds == 0:
            why = "the terms let nobody request leaves"
            yield f"round {round_id}: nothing to show to the contract, and {why}", False
        elif may_request:
            yield from _pursue(audit, context, fault)
    elif fault is None:
        yield f"round {round_id}: verdicts and model are as the contract would have them", True
    else:
        yield settle(audit.federation, fault), True


def _pursue(audit: Audit, context: RoundContext, withheld: Withheld) -> Iterator[tuple[str, bool]]:
    """Request what is withheld, or challenge what was posted."""
    match next_step(audit, context, withheld):
        case Wanted() as wanted:
            for line in request(audit, context, withheld, wanted):
                yield line, False
        case WrongLeaf() as fault:
            yield settle(audit.federation, fault), True
        case Answered() as answered:
            yield f"round {context.round_id}: {answered}", True


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


def settle_requests(federation: Federation, requests: LeafRequests) -> Iterator[str]:
    """Settle leaf requests that are late or void; yield one line per outcome."""
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
    """Judge the newest round if it can be challenged now; return lines on what came of it.

    Looks at the chain as it is by now: `audit` may have taken long.
    """
    try:
        return _challenge_open(Audit(audit.federation, audit.store, audit.folder, audit.cache))
    except CommonweightError as error:
        return [f"cannot judge now: {error}"]


def _challenge_open(audit: Audit) -> list[str]:
    newest = max(audit.history.rounds, default=RoundId(0))
    if not newest or audit.federation.status(newest) is not Status.CHALLENGE:
        return ["no proposal is open to challenge"]
    open_requests = audit.history.rounds[newest].open_requests
    settled = list(settle_requests(audit.federation, open_requests))
    if settled:
        return settled
    try:
        return [line for line, _ in judge(audit, audit.context(newest))]
    except CommonweightError as error:
        return [f"round {newest}: cannot judge now: {error}"]
