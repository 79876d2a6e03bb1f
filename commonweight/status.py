"""A role's state in plain words: what it is doing, what it earned, why a round was not paid.

Read from the chain; the state folder only adds whether the process runs and its last line.
"""

from typing import Any, Final

from chain.events import AggregatorSlashed, Finalized, Penalized, Withdrawn
from chain.federation import Federation
from chain.location import FederationLocation
from chain.records import AggregatorState, Round, Status, SubmissionState
from chain.rounds import connect_federation
from chain.wallet import keystore_address
from commonweight.show import tokens
from node.history import round_results, standing_of
from operation.progress import DOING
from operation.running import is_held
from operation.settings import RoleSettings
from protocol.quantities import Address, RoundId
from storage.files import read_json

_FOR_ALL: Final = {
    Status.PROPOSE: "the aggregator screens and averages",
    Status.EXPIRED: "the aggregator is late: anybody can hand the round on",
    Status.CHALLENGE: "a model is proposed: it can be challenged",
    Status.SETTLEABLE: "the challenge window is over: anybody can settle the round",
    Status.FINALIZED: "no round is open",
    Status.ABANDONED: "no round is open",
    Status.NONE: "no round was opened yet",
}


def participant_status(settings: RoleSettings) -> dict[str, Any]:
    """Return a participant's state as JSON values; amounts in token units."""
    federation, address = _open(settings)
    newest = federation.round_count()
    results = list(round_results(federation, address))
    events = federation.read_events()
    withdrawn = sum(e.amount for e in events if isinstance(e, Withdrawn) and e.account == address)
    penalties = sum(
        e.amount for e in events if isinstance(e, Penalized) and e.participant == address
    )
    return {
        "participant": address,
        **_process(settings),
        "federation": federation.address,
        "standing": standing_of(federation, address).value,
        "stake": federation.get_participant(address).stake,
        "earned": sum(result.paid for result in results),
        "penalties": penalties,
        "credit": federation.credit_of(address),
        "withdrawn": withdrawn,
        "now": _now(federation, newest, _own_part(federation, newest, address)),
        "rounds": [
            {
                "round": result.round,
                "outcome": result.outcome.value,
                "reason": result.reason,
                "paid": result.paid,
                "penalty": result.penalty,
            }
            for result in results
        ],
    }


def aggregator_status(settings: RoleSettings) -> dict[str, Any]:
    """Return an aggregator's state as JSON values; amounts in token units."""
    federation, address = _open(settings)
    events = federation.read_events()
    finalized = [e for e in events if isinstance(e, Finalized) and e.aggregator == address]
    lost = [e for e in events if isinstance(e, AggregatorSlashed) and e.aggregator == address]
    terms, newest = federation.terms(), federation.round_count()
    state = federation.aggregator_state(address)
    return {
        "aggregator": address,
        **_process(settings),
        "federation": federation.address,
        "state": state.name.lower(),
        "leads": federation.current_aggregator() == address,
        "bond": terms.aggregator_bond if state is AggregatorState.BONDED else 0,
        "bond_lost": sum(e.amount for e in lost),
        "earned": sum(e.fee for e in finalized),
        "credit": federation.credit_of(address),
        "escrow": federation.escrow(),
        "rounds_paid_for": federation.escrow() // terms.round_cost if terms.round_cost else None,
        "rounds_left": terms.rounds - newest,
        "active_participants": federation.active_count(),
        "settled": [e.round for e in finalized],
        "now": _now(federation, newest, None),
    }


def print_participant(status: dict[str, Any], line: Any) -> None:
    """Tell a participant's state through `line`, which prints one."""
    line(f"participant  {status['participant']}, {status['standing']}")
    _print_process(status, line)
    line(
        f"money        {tokens(status['earned'])} earned, {tokens(status['withdrawn'])} withdrawn,"
        f" {tokens(status['credit'])} to withdraw; {tokens(status['stake'])} at stake,"
        f" {tokens(status['penalties'])} lost in penalties"
    )
    for row in status["rounds"]:
        amount = f"paid {tokens(row['paid'])}: " if row["paid"] else ""
        penalty = f" ({tokens(row['penalty'])})" if row["penalty"] else ""
        line(f"round {row['round']:<6} {amount}{row['reason']}{penalty}")


def print_aggregator(status: dict[str, Any], line: Any) -> None:
    """Tell an aggregator's state through `line`, which prints one."""
    leads = "leads" if status["leads"] else "stands by"
    line(f"aggregator   {status['aggregator']}, {status['state']}, {leads}")
    _print_process(status, line)
    line(
        f"money        {tokens(status['earned'])} earned, {tokens(status['credit'])} to withdraw;"
        f" {tokens(status['bond'])} bonded, {tokens(status['bond_lost'])} lost"
    )
    line(
        f"federation   {status['rounds_left']} rounds to come, escrow for"
        f" {status['rounds_paid_for']}; {status['active_participants']} participants"
    )
    line(f"settled      {', '.join(str(n) for n in status['settled']) or 'no round yet'}")


def _open(settings: RoleSettings) -> tuple[Federation, Address]:
    location = FederationLocation.load(settings.federation)
    return connect_federation(location).now(), keystore_address(settings.keystore)


def _process(settings: RoleSettings) -> dict[str, Any]:
    path = settings.state / DOING
    last = read_json(path) if path.exists() else None
    return {"running": is_held(settings.state), "last_line": last}


def _now(federation: Federation, newest: RoundId, own_part: str | None) -> dict[str, Any]:
    status = federation.status(newest) if newest else Status.NONE
    facts = federation.get_round(newest) if newest else None
    deadline = _deadline(facts, status)
    left = None if deadline is None else max(0, deadline - federation.next_time())
    over = federation.is_over()
    general = "the federation is over" if over else _FOR_ALL.get(status)
    counts = None
    if facts is not None and status in (Status.COMMIT, Status.REVEAL):
        counts = (
            f"{facts.committed} of {facts.expected} committed"
            if status is Status.COMMIT
            else f"{facts.revealed} of {facts.committed} revealed"
        )
    doing = "; ".join(text for text in (own_part, counts or general) if text)
    return {"round": newest, "phase": status.name.lower(), "seconds_left": left, "doing": doing}


def _deadline(facts: Round | None, status: Status) -> int | None:
    if facts is None:
        return None
    return {
        Status.COMMIT: facts.commit_deadline,
        Status.REVEAL: facts.reveal_deadline,
        Status.PROPOSE: facts.propose_deadline,
        Status.CHALLENGE: facts.challenge_deadline,
    }.get(status)


def _own_part(federation: Federation, newest: RoundId, address: Address) -> str | None:
    """Say what the open round has of this participant, None where it has no part in it."""
    status = federation.status(newest) if newest else Status.NONE
    if status not in (Status.COMMIT, Status.REVEAL, Status.PROPOSE):
        return None
    state = federation.get_submission(newest, address).state
    standing = federation.get_participant(address)
    if state is SubmissionState.REVEALED:
        return "revealed"
    if state is SubmissionState.COMMITTED:
        return "committed, to reveal" if status is Status.REVEAL else "committed"
    if status is not Status.COMMIT:
        return "takes no part in this round"
    if not standing.active or standing.joined_after_round >= newest:
        return "takes part from the next round on"
    if not federation.is_eligible(newest, address):
        return "not asked: the seed drew others"
    return "asked: trains, and commits next"


def _print_process(status: dict[str, Any], line: Any) -> None:
    now, last = status["now"], status["last_line"]
    left = "" if now["seconds_left"] is None else f", {duration(now['seconds_left'])} left"
    line(f"now          round {now['round']}, {now['phase']}{left}: {now['doing']}")
    told = ""
    if last is not None:
        facts = " ".join(f"{k}={v}" for k, v in last.items() if k not in ("time", "who", "phase"))
        told = f"; its last line: {last['phase']} {facts}".rstrip()
    line(f"process      {'running' if status['running'] else 'not running'}{told}")


def duration(seconds: int) -> str:
    """Return a time as a person says it: 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 120:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 2:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24} h"
