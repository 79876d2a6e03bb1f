"""One participant's standing and its result in every round, read from the chain.

for result in round_results(federation, address):
    print(result.round, result.reason)      # 3 rejected by check 8 (norm): the update is too far…
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from chain.events import Evicted, Penalized
from chain.federation import Federation
from chain.history import History, RoundHistory
from chain.records import Terms
from contracts.enums import Scoring
from protocol.checks import Check
from protocol.types import Address, RoundId, TokenUnits

_NOTHING: Final = TokenUnits(0)

CHECK_MEANINGS: Final = {
    Check.REACHABLE: "its bytes were not available from IPFS",
    Check.MANIFEST: "the manifest is malformed or too large",
    Check.ROUND_AND_SPEC: "the manifest belongs to another round, federation or spec",
    Check.LAYERS: "layer names or shapes are not the spec's",
    Check.DIGESTS: "a layer file does not match the manifest",
    Check.ROOT: "the layers do not hash to the root on the chain",
    Check.RANGE: "a value lies outside what the encoding allows",
    Check.NORM: "the update is longer than the spec allows",
    Check.ZERO: "the update changes nothing",
    Check.DUPLICATE: "the update is a copy of one that was committed earlier",
    Check.WEAK: "the update is shorter than any training makes it",
    Check.SIMILAR: "the update is nearly another one, or the model's last movement",
    Check.HARM: "the held-out loss is higher with the update, by more than it may be",
    Check.BUNDLE: "its secrets' bundle is malformed, for other peers, or contradicts a peer's",
    Check.SILENT: "it did not open its secrets, and others did in its place",
    Check.BLAMED: "what it published of an update contradicts the masked values, or nothing was",
    Check.TOO_FEW: "nothing is wrong with it, but too few others could be summed with it",
}
"""The checks of docs/protocol.md §6, one phrase each."""


class Standing(Enum):
    """A participant's standing in the federation."""

    STRANGER = "never joined"
    ACTIVE = "active"
    PENALIZED = "out since a penalty: the stake is to be filled up"
    LEAVING = "leaving: the stake is not free yet"
    EVICTED = "its seat was freed after missed rounds: the stake is not free yet"
    LEFT = "left"


class Outcome(Enum):
    """The result of a round for one participant."""

    OPEN = "open"
    PAID = "paid"
    UNPAID = "unpaid"
    NOT_A_MEMBER = "not a member"
    NOT_ASKED = "not asked"
    UNSEEDED = "not drawn"
    OFFLINE = "offline"
    FULL = "full"
    NOT_REVEALED = "not revealed"
    SILENT = "silent"
    VOID = "void"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class RoundResult:
    """One round's result. `reason` explains it in words; amounts are in token units."""

    round: RoundId
    outcome: Outcome
    reason: str
    paid: TokenUnits = _NOTHING
    penalty: TokenUnits = _NOTHING


def standing_of(federation: Federation, address: Address) -> Standing:
    """Return the standing of `address` at the block that `federation` reads, or the latest."""
    now = federation.pinned()
    facts = now.get_participant(address)
    if facts.active:
        return Standing.ACTIVE
    if facts.stake and not facts.unlock_at:
        return Standing.PENALIZED
    # The contract deletes the record of a participant that got its stake back, keeps little of one
    # that lost all of it, and does not say why a seat is being freed. Their events do.
    last = now.history().memberships.get(address)
    if facts.unlock_at:
        return Standing.EVICTED if isinstance(last, Evicted) else Standing.LEAVING
    if last is None:
        return Standing.STRANGER
    return Standing.PENALIZED if isinstance(last, Penalized) else Standing.LEFT


def round_results(federation: Federation, address: Address) -> Iterator[RoundResult]:
    """Yield the result of every round that was ever opened, oldest first.

    Raises like `Federation.history`.
    """
    terms = federation.terms()
    for told in federation.history().rounds.values():
        yield round_result(told, address, terms)


def used_update(told: RoundHistory, address: Address) -> bool:
    """Return whether the update of `address` is in the average of a finalized round.

    With whatever score: one that was not paid for moved the model all the same.
    """
    verdict = told.verdict_on(address)
    return told.finalized is not None and verdict is not None and verdict.weight > 0


def owes_account(told: RoundHistory, address: Address) -> bool:
    """Return whether a refused set waits for what a member says of its masks."""
    asked = {reveal.participant for reveal in told.unmasked_themselves}
    given = {event.participant for event in told.masking.streams}
    return told.is_refused and address in asked - given


def last_used_round(history: History, address: Address, before: RoundId) -> RoundId | None:
    """Return the newest round before `before` that used the update of `address`, if any."""
    used = (told.round_id for told in history.rounds.values() if used_update(told, address))
    return max((round_id for round_id in used if round_id < before), default=None)


def round_result(  # noqa: C901 - one case per outcome
    told: RoundHistory, address: Address, terms: Terms
) -> RoundResult:
    """Return the result of one round for `address`."""

    def result(outcome: Outcome, reason: str, paid: int = 0, penalty: int = 0) -> RoundResult:
        amounts = TokenUnits(paid), TokenUnits(penalty)
        return RoundResult(told.round_id, outcome, reason, *amounts)

    # The penalty decides first: it may be taken before the round ends, or after it was abandoned.
    has_committed = address in {event.participant for event in told.committed}
    has_revealed = address in {event.participant for event in told.revealed}
    fault = next((event for event in told.penalized if event.participant == address), None)
    if fault is not None:
        if has_revealed:
            reason = "sealed into the sum, but its secrets were not posted in time: the penalty"
            reason += " was taken from the stake"
            return result(Outcome.SILENT, reason, penalty=fault.amount)
        reason = "committed but not revealed: the penalty was taken from the stake"
        return result(Outcome.NOT_REVEALED, reason, penalty=fault.amount)
    if not told.ended:
        return result(Outcome.OPEN, "the round is not over")
    if not has_committed:
        if address not in told.members:
            return result(Outcome.NOT_A_MEMBER, "not a member when the round was opened")
        if told.seeded is None:
            return result(Outcome.UNSEEDED, "nobody was asked: the seed was not fixed in time")
        if not told.asks(address, terms.seats):
            return result(Outcome.NOT_ASKED, "not asked: the seed drew others")
        if not told.missed_by(address, terms.seats):
            return result(Outcome.FULL, "asked, but others took all the round's seats first")
        return result(Outcome.OFFLINE, "offline or too late: asked, did not commit")
    if not has_revealed:
        follows = "a penalty may follow" if told.revealed else "as nobody has, so without a penalty"
        return result(Outcome.NOT_REVEALED, f"committed but not revealed: {follows}")
    if told.masking.voided is not None:
        paid = told.paid_to(address)
        half = "its secrets were posted, and half the price is paid" if paid else "nothing is paid"
        why = "refused" if told.is_refused else "not opened"
        owed = ", and it has still to account for its masks" if owes_account(told, address) else ""
        return result(Outcome.VOID, f"the round's sum was {why}: {half}{owed}", paid=paid)
    if told.abandoned is not None:
        return result(Outcome.ABANDONED, "the round was abandoned: nobody was paid")
    verdict, paid = told.verdict_on(address), told.paid_to(address)
    if verdict is not None and verdict.is_averaged and not verdict.is_accepted:
        why = describe_rejection(verdict.reason).removeprefix("rejected by ")
        return result(Outcome.UNPAID, f"summed with the others, but not paid by {why}")
    if verdict is not None and not verdict.is_accepted:
        return result(Outcome.REJECTED, describe_rejection(verdict.reason))
    is_measured = terms.rules.scoring is Scoring.HELD_OUT
    if is_measured and verdict is not None and not verdict.score:
        reason = "accepted, but not paid: the held-out loss is no lower with the update, or after"
        return result(Outcome.UNPAID, f"{reason} the round")
    if not paid:
        return result(Outcome.UNPAID, "accepted, but the price rounds down to nothing")
    # The price is posted: it depends on the examples, and on help where that is measured, whoever
    # else took part.
    weight, cap = verdict.weight if verdict else 0, terms.seats.weight_cap
    reason = f"accepted and paid for {weight} of {cap} examples" if verdict else "accepted and paid"
    if is_measured and verdict is not None:
        reason += f", {verdict.score / 100:.2f}% by how much the update lowers the held-out loss"
    return result(Outcome.PAID, reason, paid=paid)


def describe_rejection(check: int) -> str:
    """Return why an update with this reason code was rejected."""
    try:
        known = Check(check)
    except ValueError:
        return f"rejected by check {check}, which docs/protocol.md does not have"
    name = known.name.lower().replace("_", " ")
    return f"rejected by check {check} ({name}): {CHECK_MEANINGS[known]}"
