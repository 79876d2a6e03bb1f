"""Shows the contract what is wrong with a proposal (docs/protocol.md §11).

    for line, is_final in judge(Audit(federation, store, folder), round_id): ...

A fault is one verdict or one leaf; where bytes are withheld, the leaf has to be demanded first
(`auditor.leaf_requests`). What the contract cannot settle, an update wrongly rejected, is the
audit's to report.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.averaged import WrongLeaf, fetch_averaged
from auditor.leaf_requests import Answered, Wanted, Withheld, demand, next_step
from auditor.replay import Audit
from chain.events import DepositReturned, ProposalRefuted, Proposed, RoundEvent, RoundOpened
from chain.federation import Federation
from chain.leaf_requests import Demands, open_demands, settle_unanswered
from chain.records import Status
from chain.reverts import Reverted
from chain.transactions import Receipt
from protocol.errors import CommonweightError, Unavailable
from protocol.reveal import Reveal
from protocol.types import RoundId
from protocol.verdict import FULL_SCORE, compute_weight


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


def find_fault(audit: Audit, round_id: RoundId) -> Fault | Withheld | None:
    """Return what is provably wrong with a round's standing proposal, None when nothing is.

    The mean is taken of the updates that the proposal accepts, with its weights: that is what the
    contract recomputes. Raises Unavailable or Rejected when not even the spec or the model of
    before can be had.
    """
    history = audit.history(round_id)
    proposed = history.proposed
    if proposed is None:
        return None
    reveals = {reveal.participant: reveal for reveal in history.reveals()}
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
    averaged = fetch_averaged(audit, history, proposed)
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
    audit: Audit, round_id: RoundId, *, may_demand: bool = True
) -> Iterator[tuple[str, bool]]:
    """Do what can be done about a round's standing proposal in its challenge window.

    Yields lines, and with each whether it is the last word. Raises as `find_fault` does.
    """
    fault = find_fault(audit, round_id)
    if isinstance(fault, Withheld):
        yield f"round {round_id}: bytes cannot be had: {fault}", False
        if audit.terms.response_seconds == 0:
            why = "the terms let nobody demand leaves"
            yield f"round {round_id}: nothing to show to the contract, and {why}", False
        elif may_demand:
            yield from _pursue(audit, fault)
    elif fault is None:
        yield f"round {round_id}: verdicts and model are as the contract would have them", True
    else:
        yield settle(audit.federation, fault), True


def _pursue(audit: Audit, withheld: Withheld) -> Iterator[tuple[str, bool]]:
    """Demand what is withheld, or challenge what was posted."""
    match next_step(audit, withheld):
        case Wanted() as wanted:
            for line in demand(audit, withheld, wanted):
                yield line, False
        case WrongLeaf() as fault:
            yield settle(audit.federation, fault), True
        case Answered() as answered:
            yield f"round {withheld.proposed.round}: {answered}", True


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


def settle_demands(federation: Federation, demands: Demands) -> Iterator[str]:
    """Settle demands that are late or void; yield a line on what came of each."""
    for late, events in settle_unanswered(federation, demands):
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
    opened = [event.round for event in audit.events if isinstance(event, RoundOpened)]
    if not opened or audit.federation.status(opened[-1]) is not Status.CHALLENGE:
        return ["no proposal is open to challenge"]
    of_round = [e for e in audit.events if isinstance(e, RoundEvent) and e.round == opened[-1]]
    settled = list(settle_demands(audit.federation, open_demands(of_round)))
    if settled:
        return settled
    try:
        return [line for line, _ in judge(audit, opened[-1])]
    except CommonweightError as error:
        return [f"round {opened[-1]}: cannot judge now: {error}"]
