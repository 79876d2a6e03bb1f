"""Whether a node's logs tell all that the contract counts.

A node whose index of logs is behind, or that cuts answers short, gives fewer logs without a word.
The contract's own numbers, read at the block up to which the events go, show it.
"""

from collections.abc import Collection, Sequence

from chain.events import (
    Abandoned,
    Committed,
    Created,
    FederationEvent,
    Finalized,
    Paid,
    ProposalRefuted,
    Proposed,
    Revealed,
    RoundEvent,
    RoundOpened,
)
from chain.federation import Federation
from chain.leaf_requests import open_demands, since_proposal
from chain.records import Outcome, Round
from protocol.errors import Unavailable
from protocol.types import RoundId


class MissingLogs(Unavailable):
    """The node does not have all logs of a block: the same question may be answered later."""

    service = "chain"


def require_all_logs(
    federation: Federation,
    events: Sequence[FederationEvent],
    block: int,
    known: Collection[RoundId] = (),
) -> None:
    """Raise MissingLogs unless `events` are all that the federation emitted up to `block`.

    The contract counts what concerns rounds; those of `known` are not compared again. `events` go
    back to the deployment. Unavailable when the node no longer has the state of `block`.
    """
    if not any(isinstance(event, Created) for event in events):
        raise MissingLogs(
            f"the node does not have all logs of block {block}: none says that the federation was"
            f" created; the first block asked for was {federation.deployment_block}"
        )
    by_round: dict[RoundId, list[FederationEvent]] = {}
    for event in events:
        if isinstance(event, RoundEvent) and event.round:
            by_round.setdefault(event.round, []).append(event)
    newest = federation.round_count(block)
    if by_round and max(by_round) > newest:
        raise MissingLogs(
            f"the node has logs of round {max(by_round)}, but only {newest} rounds at block {block}"
        )
    for number in map(RoundId, range(1, newest + 1)):
        if number not in known:
            require_round_logs(federation, by_round.get(number, []), number, block)


def require_round_logs(
    federation: Federation, events: Sequence[FederationEvent], round_id: RoundId, block: int
) -> None:
    """Raise MissingLogs unless `events` are all that a round emitted up to `block`.

    Unavailable when the node no longer has the state of `block`.
    """
    told, counted = _told(events), _counted(federation.get_round(round_id, block))
    for what, found in told.items():
        if found != counted[what]:
            raise MissingLogs(
                f"the node does not have all logs of block {block}: they tell of {found} {what} in"
                f" round {round_id}, the contract counts {counted[what]}"
            )
    for event in events:
        if isinstance(event, Finalized):
            paid = event.fee + sum(each.amount for each in events if isinstance(each, Paid))
            if paid != event.paid:
                raise MissingLogs(
                    f"the node does not have all logs of block {block}: they tell of {paid:,} token"
                    f" units paid in round {round_id}, {event.paid:,} were"
                )


def _told(events: Sequence[FederationEvent]) -> dict[str, int]:
    def count(kind: type[FederationEvent]) -> int:
        return sum(isinstance(event, kind) for event in events)

    return {
        "openings": count(RoundOpened),
        "commitments": count(Committed),
        "reveals": count(Revealed),
        "proposals": count(Proposed),
        "refuted proposals": count(ProposalRefuted),
        "open demands": len(open_demands(since_proposal(events))),
        "settlements": count(Finalized),
        "abandonments": count(Abandoned),
    }


def _counted(round_: Round) -> dict[str, int]:
    standing = bool(round_.challenge_deadline)
    return {
        "openings": int(bool(round_.commit_deadline)),
        "commitments": round_.committed,
        "reveals": round_.revealed,
        "proposals": round_.proposals,
        "refuted proposals": round_.proposals - standing,
        "open demands": round_.open_requests,
        "settlements": int(round_.outcome is Outcome.FINALIZED),
        "abandonments": int(round_.outcome is Outcome.ABANDONED),
    }
