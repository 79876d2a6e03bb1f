"""A federation: its terms in words, its money, its rounds, who takes part, and what is due now."""

from typing import Any, Final

from chain.events import Evicted, Left, Penalized, StakeReleased
from chain.history import History
from chain.records import Terms
from contracts.enums import AggregatorState, Privacy, Status
from explorer.charts import bars, line, stacks
from explorer.facts import Subject, deadlines, head, model_as_json, origin_of
from explorer.following import View
from node.results import Standing
from protocol.cid import raw_cid
from protocol.scoring import MILLION
from protocol.types import Address, RoundId
from sponsor.show import describe_base, terms_as_json, terms_in_words

PAGE_ROUNDS: Final = 25
_CHART_ROUNDS: Final = 60

# The way of a round; phases that a federation does not have are left out.
_PHASES: Final = {
    "SEED": "draw",
    "COMMIT": "commit",
    "REVEAL": "reveal",
    "SEAL": "seal",
    "UNMASK": "unmask",
    "ASSIST": "assist",
    "PROPOSE": "propose",
    "CHALLENGE": "challenge",
    "SETTLEABLE": "settle",
}
_MASKED_ONLY: Final = frozenset({"SEAL", "UNMASK", "ASSIST"})
_STANDS_AT: Final = {"UNSEEDED": "SEED", "EXPIRED": "PROPOSE", "VOID": "ASSIST"}


def federation_facts(
    subject: Subject, before: int | None = None, most: int = PAGE_ROUNDS
) -> dict[str, Any]:
    """Return a federation with at most so many rounds below `before`, the newest first."""
    view, terms = subject.view, subject.view.terms
    history = view.history
    newest = max(history.rounds, default=RoundId(0))
    last = newest if before is None else min(newest, before - 1)
    shown = [RoundId(n) for n in range(last, max(last - most, 0), -1)]
    return {
        **head(subject),
        "sponsor": subject.person(view.sponsor),
        "spec_cid": raw_cid(terms.identity.spec_digest),
        "base": None if subject.spec is None else describe_base(subject.spec),
        "in_words": dict(terms_in_words(_described(subject))),
        "terms": terms_as_json(terms),
        "now": _now(subject, newest),
        "money": _money(subject),
        "losses": losses(subject),
        "updates": _updates(subject, newest),
        "participants": [_participant(subject, who) for who in _members(history)],
        "aggregators": _aggregators(subject),
        "model": current_model(view),
        "round_rows": [round_row(subject, number) for number in shown],
        "older": shown[-1] if shown and shown[-1] > 1 else None,
        "newer": before is not None,
        "audit": audit_summary(subject),
    }


def phases(status: Status, terms: Terms) -> list[dict[str, Any]]:
    """Return the phases of a round, each with whether it is done, now, or to come."""
    is_masked = terms.rules.privacy is Privacy.MASKED
    names = [
        name
        for name in _PHASES
        if name in Status.__members__ and (is_masked or name not in _MASKED_ONLY)
    ]
    at = _STANDS_AT.get(status.name, status.name)
    ended = len(names) if status is Status.FINALIZED else -1
    place = names.index(at) if at in names else ended
    states = [
        "done" if i < place else "now" if i == place else "to come" for i in range(len(names))
    ]
    return [{"name": _PHASES[n], "state": s} for n, s in zip(names, states, strict=True)]


def round_row(subject: Subject, number: RoundId) -> dict[str, Any]:
    """Return a round as one row of a table."""
    view = subject.view
    told = view.history.round(number)
    audited = subject.audit.of_round(told)
    settled = told.finalized
    return {
        **view.totals.figures(told, view.terms.seats).as_json(),
        "status": view.status_of(number).name.lower(),
        "model_cid": None if settled is None else raw_cid(settled.manifest),
        "audit": None if audited is None else audited.result,
        "origin": origin_of(audited),
    }


def losses(subject: Subject) -> dict[str, Any]:
    """Return the held-out loss after each round, whose word that is, and its chart."""
    measured = _losses_in_manifests(subject)
    source, points = "manifests", measured
    if not points:
        source, points = "run", dict(subject.following.notes.losses())
    shown = sorted(points.items())
    return {
        "source": source if shown else None,
        "unit": "nats per token",
        "points": [{"round": number, "loss": loss} for number, loss in shown],
        "chart": line(shown) if len(shown) > 1 else None,
    }


def current_model(view: View) -> dict[str, Any]:
    """Return the model that the next round starts from."""
    newest = max(view.history.rounds, default=RoundId(0))
    model = view.history.model_before(RoundId(newest + 1), view.terms)
    finalized = [n for n, told in view.history.rounds.items() if told.finalized is not None]
    return model_as_json(model, max(finalized, default=0))


def standing(view: View, who: Address) -> Standing:
    """Return a member's standing by its events."""
    if who in view.history.active:
        return Standing.ACTIVE
    match view.history.memberships.get(who):
        case Penalized():
            return Standing.PENALIZED
        case Left():
            return Standing.LEAVING
        case Evicted():
            return Standing.EVICTED
        case StakeReleased():
            return Standing.LEFT
    return Standing.STRANGER


def audit_summary(subject: Subject) -> dict[str, Any]:
    """Return what this machine's audit came to so far, in counts."""
    audit = subject.audit
    checks = audit.checks
    return {
        "standing": audit.standing,
        "made": len(checks),
        "passed": sum(check.passed is True for check in checks),
        "failed": sum(check.failed for check in checks),
        "unchecked": sum(check.unchecked for check in checks),
        "rounds": len(audit.rounds),
        "from_cache": sum(each.from_cache for each in audit.rounds.values()),
        "done": audit.done,
        "planned": audit.planned,
        "doing": audit.doing,
        "block": audit.block,
        "made_at": audit.made_at,
        "error": audit.error,
    }


def _described(subject: Subject) -> dict[str, Any]:
    """Return what `sponsor.show` puts into words."""
    view, terms = subject.view, subject.view.terms
    accounts = view.history.accounts
    return {
        "federation": view.address,
        "chain_id": view.now.chain_id,
        "sponsor": view.sponsor,
        "spec_cid": raw_cid(terms.identity.spec_digest),
        "base_model": None if subject.spec is None else describe_base(subject.spec),
        "terms": terms_as_json(terms),
        "aggregators": list(view.aggregators),
        "escrow": accounts.escrowed,
        "burned": accounts.burned,
        "rounds_left": terms.seats.rounds - len(view.history.rounds),
        "active": len(view.history.active),
        "closed": view.is_closed,
        "over": view.is_over,
    }


def _now(subject: Subject, newest: RoundId) -> dict[str, Any]:
    """Return where the newest round stands, and until when."""
    view = subject.view
    status = view.status_of(newest) if newest else Status.NONE
    return {
        "round": newest,
        "phase": status.name.lower(),
        "phases": phases(status, view.terms),
        "doing": view.phase["doing"],
        "until": deadlines(view.history.round(newest)).get(status.name.lower()),
    }


def _money(subject: Subject) -> dict[str, Any]:
    """Return where every token is that came in, with whether this machine's audit agrees."""
    accounts = subject.view.history.accounts
    parts = [
        ("in escrow for rewards", "escrowed", accounts.escrowed),
        ("staked by participants", "staked", accounts.staked),
        ("bonded by aggregators", "bonded", accounts.bonded),
        ("deposited for leaf requests", "deposited", accounts.deposited),
        ("credited, not withdrawn yet", "credited", accounts.credited.total()),
        ("withdrawn", "withdrawn", accounts.withdrawn),
        ("burned", "burned", accounts.burned),
    ]
    counted = [check for check in subject.audit.general if check.section == "§9"]
    is_right = bool(counted) and all(check.passed for check in counted)
    return {
        "received": accounts.received,
        "parts": [{"name": n, "key": k, "amount": a} for n, k, a in parts],
        "unaccounted": accounts.received - sum(amount for _, _, amount in parts),
        "bar": bars([(key, amount) for _, key, amount in parts]),
        "origin": "chain" if not counted else "recomputed" if is_right else "differs",
    }


def _updates(subject: Subject, newest: RoundId) -> dict[str, Any]:
    """Return what became of the updates of the newest rounds, oldest first, and its chart."""
    view = subject.view
    numbers = [RoundId(n) for n in range(max(newest - _CHART_ROUNDS, 0) + 1, newest + 1)]
    rows = []
    for number in numbers:
        figures = view.totals.figures(view.history.round(number), view.terms.seats)
        waiting = figures.revealed - figures.accepted - figures.rejected
        parts = [
            ("accepted", figures.accepted),
            ("rejected", figures.rejected),
            ("not judged", waiting),
            ("not revealed", figures.committed - figures.revealed),
        ]
        rows.append((number, parts))
    return {
        "rounds": [{"round": number, **dict(parts)} for number, parts in rows],
        "chart": stacks(rows) if len(rows) > 1 else None,
    }


def _members(history: History) -> list[Address]:
    """Return everybody who ever had a seat: the active ones first, in the order of joining."""
    active = list(history.active)
    return active + [who for who in history.memberships if who not in history.active]


def _participant(subject: Subject, who: Address) -> dict[str, Any]:
    view = subject.view
    person = view.people.get(who)
    figures = {} if person is None else vars(person)
    return {
        **subject.person(who),
        "standing": standing(view, who).value,
        "active": who in view.history.active,
        "credit": view.history.accounts.credited[who],
        **{name: figures.get(name, 0) for name in ("stake", "earned", "lost", "committed", "paid")},
    }


def _aggregators(subject: Subject) -> list[dict[str, Any]]:
    view = subject.view
    rows = []
    for who, state in view.aggregators.items():
        person = view.people.get(who)
        counted = view.unreachable.get(who, {"revealed": 0, "rejected": 0})
        rows.append(
            {
                **subject.person(who),
                "state": state.name.lower(),
                "leads": who == view.leads and state is AggregatorState.BONDED,
                "fees": 0 if person is None else person.fees,
                "led": 0 if person is None else person.led,
                "lost": 0 if person is None else person.lost,
                "judged": counted["revealed"],
                "unreachable": counted["rejected"],
            }
        )
    return rows


def _losses_in_manifests(subject: Subject) -> dict[int, float]:
    """Return the losses that the manifests of settled models list, where help is measured."""
    if subject.spec is None or subject.spec.scoring == "equal":
        return {}
    found: dict[int, float] = {}
    settled = [told for told in subject.view.history.rounds.values() if told.finalized is not None]
    for told in settled[-_CHART_ROUNDS:]:
        assert told.finalized is not None
        manifest = subject.following.manifest(told.finalized.manifest)
        listed = None if manifest is None else manifest.losses
        if listed is not None:
            found.setdefault(told.round_id - 1, listed.before / MILLION)
            found[told.round_id] = listed.average / MILLION
    return found
