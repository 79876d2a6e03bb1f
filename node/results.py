"""What the chain says of one participant: its standing, and what came of every round.

for result in round_results(federation, address):
    print(result.round, result.reason)      # 3 rejected by check 8 (norm): the update is too far…
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from chain.complete import require_round_logs
from chain.events import (
    Abandoned,
    Committed,
    FederationEvent,
    Finalized,
    Joined,
    Left,
    Paid,
    Penalized,
    Revealed,
    RoundEvent,
    RoundOpened,
    StakeReleased,
)
from chain.federation import Federation
from chain.rounds import standing_proposal
from protocol.checks import Check
from protocol.types import Address, RoundId, TokenUnits

_NOTHING: Final = TokenUnits(0)

CHECK_MEANINGS: Final = {
    Check.REACHABLE: "its bytes could not be had from IPFS",
    Check.MANIFEST: "the manifest is malformed or too large",
    Check.ROUND_AND_SPEC: "the manifest is of another round, federation or spec",
    Check.LAYERS: "layer names or shapes are not the spec's",
    Check.DIGESTS: "a layer file is not what the manifest says",
    Check.ROOT: "the layers do not hash to the root on the chain",
    Check.RANGE: "a value lies outside what the encoding allows",
    Check.NORM: "the update is further from the model than the spec allows",
    Check.NOT_MODEL: "the update is the model itself",
    Check.NOT_DUPLICATE: "the update is a copy of one that was committed earlier",
}
"""docs/protocol.md §6 in a phrase each."""


class Standing(Enum):
    """What a participant is to the federation."""

    STRANGER = "never joined"
    ACTIVE = "active"
    PENALIZED = "out since a penalty: the stake is to be filled up"
    LEAVING = "leaving: the stake is not free yet"
    LEFT = "left"


class Outcome(Enum):
    """What came of a round for one participant."""

    OPEN = "open"
    PAID = "paid"
    UNPAID = "unpaid"
    NOT_A_MEMBER = "not a member"
    NOT_ASKED = "not asked"
    OFFLINE = "offline"
    NOT_REVEALED = "not revealed"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class RoundResult:
    """One round: `reason` says in words why it was paid or was not; `paid` in token units."""

    round: RoundId
    outcome: Outcome
    reason: str
    paid: TokenUnits = _NOTHING
    penalty: TokenUnits = _NOTHING


def standing_of(federation: Federation, address: Address) -> Standing:
    """Return the standing of `address` as of the latest block."""
    facts = federation.get_participant(address)
    if facts.active:
        return Standing.ACTIVE
    if facts.unlock_at:
        return Standing.LEAVING
    if facts.stake:
        return Standing.PENALIZED
    # No record is left of whoever got its stake back, nor much of who lost all of it.
    events = [
        e
        for e in federation.read_events()
        if isinstance(e, Joined | Penalized | StakeReleased) and e.participant == address
    ]
    if not events:
        return Standing.STRANGER
    return Standing.PENALIZED if isinstance(events[-1], Penalized) else Standing.LEFT


def round_results(federation: Federation, address: Address) -> Iterator[RoundResult]:
    """Yield what came of every round that was ever opened, the oldest first.

    Unavailable when `federation` reads one block (see `Federation.now`) and the node does not have
    all logs of the newest round there.
    """
    events = federation.read_events()
    newest = federation.round_count()
    if federation.block is not None and newest:
        of_newest = [e for e in events if isinstance(e, RoundEvent) if e.round == newest]
        require_round_logs(federation, of_newest, newest, federation.block)
    is_member = False
    for event in events:
        match event:
            case Joined(participant=who) if who == address:
                is_member = True
            case Left(participant=who) if who == address:
                is_member = False
            case Penalized(participant=who, amount=amount) if who == address and amount:
                is_member = False
            case RoundOpened():
                of_round = [
                    e for e in events if isinstance(e, RoundEvent) if e.round == event.round
                ]
                yield _result(federation, address, event.round, of_round, is_member)


def _result(
    federation: Federation,
    address: Address,
    round_id: RoundId,
    events: Sequence[FederationEvent],
    was_member: bool,
) -> RoundResult:
    own = [e for e in events if getattr(e, "participant", None) == address]
    has_committed = any(isinstance(e, Committed) for e in own)
    has_revealed = any(isinstance(e, Revealed) for e in own)
    has_ended = any(isinstance(e, Finalized | Abandoned) for e in events)
    fault = next((e for e in own if isinstance(e, Penalized)), None)
    if fault is not None:
        return RoundResult(
            round_id,
            Outcome.NOT_REVEALED,
            "committed but not revealed: the penalty was taken from the stake",
            penalty=fault.amount,
        )
    if not has_ended:
        return RoundResult(round_id, Outcome.OPEN, "the round is not over")
    if not has_committed:
        return _absent(federation, address, round_id, was_member)
    if not has_revealed:
        return RoundResult(
            round_id, Outcome.NOT_REVEALED, "committed but not revealed: a penalty may follow"
        )
    if any(isinstance(e, Abandoned) for e in events):
        return RoundResult(round_id, Outcome.ABANDONED, "the round was abandoned: nobody was paid")
    return _judged(address, round_id, events, own)


def _absent(
    federation: Federation, address: Address, round_id: RoundId, was_member: bool
) -> RoundResult:
    if not was_member:
        return RoundResult(round_id, Outcome.NOT_A_MEMBER, "not a member when the round was opened")
    if not federation.is_eligible(round_id, address):
        return RoundResult(round_id, Outcome.NOT_ASKED, "not asked: the seed drew others")
    return RoundResult(round_id, Outcome.OFFLINE, "offline or too late: asked, did not commit")


def _judged(
    address: Address,
    round_id: RoundId,
    events: Sequence[FederationEvent],
    own: Sequence[FederationEvent],
) -> RoundResult:
    proposal = standing_proposal(events)
    verdicts = {v.participant: v for v in proposal.verdicts} if proposal else {}
    verdict = verdicts.get(address)
    paid = TokenUnits(sum(e.amount for e in own if isinstance(e, Paid)))
    if verdict is not None and not verdict.is_accepted:
        return RoundResult(round_id, Outcome.REJECTED, describe_rejection(verdict.reason))
    if not paid:
        return RoundResult(
            round_id, Outcome.UNPAID, "accepted, but the share rounds down to nothing"
        )
    return RoundResult(round_id, Outcome.PAID, "accepted and paid", paid=paid)


def describe_rejection(check: int) -> str:
    """Return why an update with this reason code was rejected."""
    try:
        known = Check(check)
    except ValueError:
        return f"rejected by check {check}, which docs/protocol.md does not have"
    name = known.name.lower().replace("_", " ")
    return f"rejected by check {check} ({name}): {CHECK_MEANINGS[known]}"
