"""A participant, or any account: what it earned and lost, and why, round by round."""

from collections import Counter
from typing import Any, Final

from explorer.facts import Subject, head, origin_of
from explorer.federation_facts import standing
from node.results import Outcome, round_result
from protocol.types import Address, RoundId

PAGE_ROUNDS: Final = 25

# Results that are nobody's loss: there was nothing to be paid for.
_NOT_ITS_TURN: Final = frozenset(
    {Outcome.NOT_A_MEMBER, Outcome.NOT_ASKED, Outcome.UNSEEDED, Outcome.OPEN}
)


def participant_facts(
    subject: Subject, who: Address, before: int | None = None, most: int = PAGE_ROUNDS
) -> dict[str, Any]:
    """Return an account, all zero for a stranger, with its newest rounds below `before`."""
    view = subject.view
    history, terms = view.history, view.terms
    results = [round_result(told, who, terms) for told in history.rounds.values()]
    outcomes = Counter(result.outcome for result in results)
    reasons = Counter(
        result.reason
        for result in results
        if result.outcome is not Outcome.PAID and result.outcome not in _NOT_ITS_TURN
    )
    last = len(results) if before is None else min(len(results), before - 1)
    shown = results[max(last - most, 0) : max(last, 0)][::-1]
    person = view.people.get(who)
    figures = {} if person is None else dict(vars(person))
    announced = view.announced.get(who)
    return {
        **head(subject),
        "participant": subject.person(who),
        "standing": standing(view, who).value,
        "has_seat": who in history.memberships,
        "aggregates": view.aggregators[who].name.lower() if who in view.aggregators else None,
        "is_sponsor": who == view.sponsor,
        "figures": {
            **dict.fromkeys(("stake", "earned", "fees", "withdrawn", "lost"), 0),
            **figures,
            "credit": history.accounts.credited[who],
        },
        "outcomes": {each.value: outcomes[each] for each in Outcome if outcomes[each]},
        "not_paid": [{"why": why, "rounds": count} for why, count in reasons.most_common()],
        "announced": None if announced is None else dict(announced),
        "round_rows": [_row(subject, result) for result in shown],
        "older": shown[-1].round if shown and shown[-1].round > 1 else None,
        "newer": before is not None,
    }


def _row(subject: Subject, result: Any) -> dict[str, Any]:
    told = subject.view.history.rounds[RoundId(result.round)]
    return {
        "round": result.round,
        "outcome": result.outcome.value,
        "why": result.reason,
        "paid": result.paid,
        "penalty": result.penalty,
        "origin": origin_of(subject.audit.of_round(told)),
    }
