"""A round: its phases, every update with its checks, score and pay, the model, disputes, events."""

from typing import Any, Final

from auditor.check_result import CheckResult
from chain import events as ev
from chain.history import RoundHistory
from chain.records import Model
from contracts.enums import Scoring
from explorer.audits import RoundAudit
from explorer.facts import Subject, deadlines, head, model_as_json, origin_of, timeline
from explorer.federation_facts import phases
from node.results import CHECK_MEANINGS, round_result
from protocol.checks import ACCEPTED, Check
from protocol.cid import raw_cid
from protocol.scoring import MILLION
from protocol.types import Address, RoundId
from protocol.verdict import Verdict

_SETTLED_ON_CHAIN: Final = (Check.ZERO, Check.DUPLICATE)
_DISPUTES: Final = (ev.ProposalRefuted, ev.AggregatorSlashed, ev.AggregatorReplaced)


def round_facts(subject: Subject, round_id: RoundId) -> dict[str, Any]:
    """Return all that is known of a round that was opened."""
    view, terms = subject.view, subject.view.terms
    told = view.history.rounds[round_id]
    audited = subject.audit.of_round(told)
    status = view.status_of(round_id)
    is_newest = round_id == max(view.history.rounds)
    newest = max(view.history.rounds)
    led = told.finalized or told.proposed or told.opened_by
    disputes = [event for event in told.events if isinstance(event, _DISPUTES)]
    return {
        **head(subject),
        **view.totals.figures(told, terms.seats).as_json(),
        "status": status.name.lower(),
        "doing": view.phase["doing"] if is_newest and not told.ended else None,
        "until": None if told.ended else deadlines(told).get(status.name.lower()),
        "phases": phases(status, terms),
        "previous": round_id - 1 or None,
        "next": round_id + 1 if round_id < newest else None,
        "aggregator": None if led is None else subject.person(led.aggregator),
        "seed": told.seeded.seed.hex() if told.seeded else None,
        "deadlines": {} if told.ended else deadlines(told),
        "is_measured": terms.rules.scoring is Scoring.HELD_OUT,
        "weight_cap": terms.seats.weight_cap,
        "updates": [_update(subject, told, who, audited) for who in _concerned(subject, told)],
        "not_asked": sum(not told.asks(who, terms.seats) for who in told.members),
        "model": _model(subject, told),
        "disputes": timeline(subject, disputes),
        "leaf_requests": _leaf_requests(subject, told),
        "timeline": timeline(subject, list(told.events), join_payments=True),
        "origin": origin_of(audited),
        "audit": round_audit(audited),
    }


def round_audit(audited: RoundAudit | None) -> dict[str, Any] | None:
    """Return the checks of a round as this machine made them; None where it made none."""
    if audited is None:
        return None
    return {
        "result": audited.result,
        "made_at": audited.made_at,
        "block": audited.block,
        "from_cache": audited.from_cache,
        "checks": [check_as_json(check) for check in audited.checks],
    }


def check_as_json(check: CheckResult) -> dict[str, Any]:
    """Return a check of the audit with its result in a word."""
    result = "failed" if check.failed else "unchecked" if check.unchecked else "passed"
    return {
        "section": check.section,
        "round": check.round_id,
        "claim": check.claim,
        "detail": check.detail,
        "result": result,
        "seen_differently": check.seen_differently,
    }


def _concerned(subject: Subject, told: RoundHistory) -> list[Address]:
    """Return who committed, in that order, then who was asked and did not."""
    committed = [event.participant for event in told.committed]
    seats = subject.view.terms.seats
    asked = {who for who in told.members if told.asks(who, seats)} - set(committed)
    return committed + sorted(asked, key=str.lower)


def _update(
    subject: Subject, told: RoundHistory, who: Address, audited: RoundAudit | None
) -> dict[str, Any]:
    revealed = next((event for event in told.revealed if event.participant == who), None)
    committed = next((event for event in told.committed if event.participant == who), None)
    verdict = told.verdict_on(who)
    result = round_result(told, who, subject.view.terms)
    return {
        **subject.person(who),
        "committed": None if committed is None else _place(committed),
        "revealed": None if revealed is None else _place(revealed),
        "examples": None if revealed is None else revealed.examples,
        "root": None if revealed is None else revealed.root.hex(),
        "cid": None if revealed is None else raw_cid(revealed.manifest),
        "verdict": _verdict(verdict),
        "outcome": result.outcome.value,
        "why": result.reason,
        "paid": result.paid,
        "penalty": result.penalty,
        "audit": _audited(audited, who),
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    """Return a verdict with the checks that it says were passed."""
    if verdict is None:
        return None
    # The lowest number that fails is recorded, so all below it were passed.
    checks = [
        {
            "number": int(check),
            "name": check.name.lower().replace("_", " "),
            "meaning": CHECK_MEANINGS[check],
            "result": _result_of(check, verdict.reason),
            "settled_on_chain": check in _SETTLED_ON_CHAIN,
        }
        for check in Check
        if check <= Check.SIMILAR or check == verdict.reason
    ]
    return {
        "accepted": verdict.is_accepted,
        "weight": verdict.weight,
        "score": verdict.score,
        "reason": verdict.reason,
        "checks": checks,
    }


def _result_of(check: Check, reason: int) -> str:
    if reason == ACCEPTED or check < reason:
        return "passed"
    return "failed" if check == reason else "not looked at"


def _audited(audited: RoundAudit | None, who: Address) -> str | None:
    """Return what the audit's checks about one participant come to; None where there are none."""
    about = [check for check in (audited.checks if audited else ()) if check.claim.startswith(who)]
    if not about:
        return None
    if any(check.failed for check in about):
        return "failed"
    return "unchecked" if any(check.unchecked for check in about) else "passed"


def _model(subject: Subject, told: RoundHistory) -> dict[str, Any]:
    """Return the models before and after the round, and the losses that a manifest lists."""
    view = subject.view
    before = view.history.model_before(told.round_id, view.terms)
    after = told.finalized or told.proposed
    listed = None
    if after is not None and subject.spec is not None and subject.spec.scoring != "equal":
        manifest = subject.following.manifest(after.manifest)
        listed = None if manifest is None else manifest.losses
    return {
        "before": model_as_json(before, told.round_id - 1),
        "after": None
        if after is None
        else model_as_json(Model(after.root, after.manifest), told.round_id),
        "is_settled": told.finalized is not None,
        "losses": None
        if listed is None
        else {
            "before": listed.before / MILLION,
            "average": listed.average / MILLION,
            "without": {each.participant: each.loss / MILLION for each in listed.without},
        },
    }


def _leaf_requests(subject: Subject, told: RoundHistory) -> list[dict[str, Any]]:
    posted = {(e.root, e.leaf): e for e in told.events if isinstance(e, ev.LeafPosted)}
    returned = {(e.root, e.leaf) for e in told.events if isinstance(e, ev.DepositReturned)}
    rows = []
    for event in told.events:
        if not isinstance(event, ev.LeafRequested):
            continue
        key = event.root, event.leaf
        answer = posted.get(key)
        state = "answered" if answer else "not answered" if key in returned else "open"
        rows.append(
            {
                "leaf": event.leaf,
                "of": "the model" if event.is_model else "an update",
                "root": event.root.hex(),
                "by": subject.person(event.challenger),
                "deadline": event.deadline,
                "state": state,
                "answered_by": subject.person(answer.responder) if answer else None,
            }
        )
    return rows


def _place(event: ev.RoundEvent) -> dict[str, Any]:
    return {
        "block": event.block_number,
        "transaction": "0x" + event.transaction_hash.hex(),
    }
