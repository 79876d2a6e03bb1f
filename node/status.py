"""A participant's state in plain words: what it does, what it earned, why a round was not paid.

It is read from the chain, at one mined block, so that it works beside a running process and without
one. Only the daemon is asked, for its peer ID: others look for blocks at the one announced.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from chain.federation import Federation
from chain.location import FederationLocation
from contracts.enums import Status, SubmissionState
from node.privacy import describe_budget
from node.results import round_results, standing_of
from node.settings import ParticipantSettings
from protocol.errors import CommonweightError
from protocol.types import Address, RoundId, format_tokens
from protocol.whereabouts import Peer, parse_whereabouts
from runtime.settings import RoleSettings
from runtime.status import describe_process, describe_round, open_federation, print_process
from storage.ipfs import ContentStore

_UNDER_WAY: Final = (
    Status.COMMIT,
    Status.REVEAL,
    Status.SEAL,
    Status.UNMASK,
    Status.ASSIST,
    Status.PROPOSE,
)


def participant_status(settings: ParticipantSettings) -> dict[str, Any]:
    """Return a participant's state as JSON values; amounts in token units."""
    federation, address = open_federation(settings)
    newest = federation.round_count()
    results = list(round_results(federation, address))
    history = federation.history()
    withdrawals, made = history.withdrawals, history.announced.get(address)
    places = parse_whereabouts(made.whereabouts) if made is not None else ()
    peers = [place.id for place in places if isinstance(place, Peer)]
    return {
        "participant": address,
        **describe_process(settings),
        "federation": federation.address,
        "standing": standing_of(federation, address).value,
        "stake": federation.get_participant(address).stake,
        "earned": sum(result.paid for result in results),
        "penalties": sum(result.penalty for result in results),
        "credit": federation.credit_of(address),
        "withdrawn": sum(e.amount for e in withdrawals if e.account == address),
        "privacy": describe_budget(
            settings.state,
            federation,
            address,
            settings.privacy.target(federation.terms().seats.rounds),
        ),
        "announced": [place.line for place in places],
        "daemon_elsewhere": _other_peer(settings, peers) if peers else None,
        "now": describe_round(federation, newest, _own_part(federation, newest, address)),
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


def print_participant(status: dict[str, Any], line: Callable[[str], object]) -> None:
    """Print a participant's state through `line`, which prints one line."""
    line(f"participant  {status['participant']}, {status['standing']}")
    print_process(status, line)
    line(
        f"money        {format_tokens(status['earned'])} earned,"
        f" {format_tokens(status['withdrawn'])} withdrawn,"
        f" {format_tokens(status['credit'])} to withdraw;"
        f" {format_tokens(status['stake'])} at stake,"
        f" {format_tokens(status['penalties'])} lost in penalties"
    )
    line(f"announced    {', '.join(status['announced']) or 'no place where its blocks are'}")
    if status["daemon_elsewhere"] is not None:
        line(
            f"daemon       peer {status['daemon_elsewhere']}, which is not announced: others look"
            " for updates elsewhere (docs/stores.md)"
        )
    if status["privacy"] is not None:
        line(f"privacy      {_privacy_line(status['privacy'])}")
    for row in status["rounds"]:
        amount = f"paid {format_tokens(row['paid'])}: " if row["paid"] else ""
        penalty = f" ({format_tokens(row['penalty'])})" if row["penalty"] else ""
        line(f"round {row['round']:<6} {amount}{row['reason']}{penalty}")


def _privacy_line(privacy: dict[str, Any]) -> str:
    """Return what is spent of the privacy budget in words."""
    budget = "no budget now" if privacy["epsilon"] is None else f"of {privacy['epsilon']:g}"
    rounds = f"{privacy['rounds']} rounds trained with noise"
    told = f"ε {privacy['epsilon_spent']:.2f} {budget} spent at δ {privacy['delta']:g}, {rounds}"
    if lost := privacy["rounds_not_counted"]:
        told += f"; {lost} more on the chain, which count once the next round is trained"
    return told


def _other_peer(settings: RoleSettings, announced: Sequence[str]) -> str | None:
    """Return the daemon's peer ID if it is none of the announced ones; None without an answer."""
    own = settings.store.own(FederationLocation.load(settings.federation).ipfs_url)
    if not isinstance(own, ContentStore):
        return None
    try:
        found = own.id()
    except CommonweightError:  # a daemon that is down is not at another place
        return None
    return None if found in announced else found


def _own_part(federation: Federation, newest: RoundId, address: Address) -> str | None:
    """Return this participant's part in the open round; None when no round is open."""
    status = federation.status(newest) if newest else Status.NONE
    if status not in _UNDER_WAY:
        return None
    state = federation.get_submission(newest, address).state
    standing = federation.get_participant(address)
    if state is SubmissionState.REVEALED:
        is_asked = status in (Status.UNMASK, Status.ASSIST)
        return "revealed, opens what the sum needs next" if is_asked else "revealed"
    if state in (SubmissionState.UNMASKED, SubmissionState.OBJECTED):
        return "revealed, and what the sum needs is opened"
    if state is SubmissionState.COMMITTED:
        return "committed, to reveal" if status is Status.REVEAL else "committed"
    if status is not Status.COMMIT:
        return "takes no part in this round"
    # As the contract has it: whoever joined in the opening's block or later is not drawn.
    facts = federation.get_round(newest)
    if not standing.active or standing.joined_block >= facts.opened_block:
        return "takes part from the next round on"
    if not federation.is_eligible(newest, address):
        return "not asked: the seed drew others"
    return "asked: trains, and commits next"
