"""Whether a round used a participant's update, as its events tell."""

from typing import Any

import pytest

from chain.events import Abandoned, Finalized, ProposalRefuted, Proposed, RoundEvent
from chain.history import History
from node.results import last_used_round, used_update
from protocol.types import Address, BasisPoints, RoundId
from protocol.verdict import Verdict

ANN, BOB = Address("0x" + 39 * "0" + "1"), Address("0x" + 39 * "0" + "2")
ACCEPTED, UNPAID, REJECTED = (7, 10_000, 0), (7, 0, 12), (0, 0, 12)


def event(kind: type[RoundEvent], number: int, **fields: Any) -> RoundEvent:
    place = {"block_number": number, "block_hash": bytes(32), "transaction_hash": bytes(32)}
    return kind.model_validate({**place, "log_index": 0, "round": number, **fields})


def proposed(number: int, weight: int, score: int, reason: int) -> RoundEvent:
    verdict = Verdict(ANN, bytes(30), weight, BasisPoints(score), reason)
    model = {"root": bytes(32), "manifest": bytes(32), "aggregator": BOB}
    return event(Proposed, number, **model, challenge_deadline=9, verdicts=(verdict,))


def finalized(number: int) -> RoundEvent:
    model = {"root": bytes(32), "manifest": bytes(32), "aggregator": BOB}
    return event(Finalized, number, **model, fee=0, paid=0)


def refuted(number: int) -> RoundEvent:
    proposal = {"root": bytes(32), "aggregator": BOB, "challenger": ANN}
    return event(ProposalRefuted, number, **proposal, reward=1)


def history(*events: RoundEvent) -> History:
    made = History()
    for each in events:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("events", "used"),
    [
        ([proposed(1, *ACCEPTED), finalized(1)], True),
        ([proposed(1, *UNPAID), finalized(1)], True),  # it moved the model, paid or not
        ([proposed(1, *REJECTED), finalized(1)], False),
        ([proposed(1, *ACCEPTED)], False),
        ([proposed(1, *ACCEPTED), refuted(1)], False),
        ([proposed(1, *ACCEPTED), refuted(1), proposed(1, *REJECTED), finalized(1)], False),
        ([proposed(1, *REJECTED), refuted(1), proposed(1, *ACCEPTED), finalized(1)], True),
        ([event(Abandoned, 1)], False),
        ([finalized(1)], False),  # not revealed: no verdict
    ],
)
def test_an_update_is_used_when_it_is_in_the_average_of_a_finalized_round(
    events: list[RoundEvent], used: bool
) -> None:
    told = history(*events).round(RoundId(1))
    assert used_update(told, ANN) is used
    assert not used_update(told, BOB)


def test_a_round_starts_from_the_newest_one_that_used_the_update() -> None:
    events = []
    for number, verdict in ((1, ACCEPTED), (2, ACCEPTED), (3, REJECTED), (5, ACCEPTED)):
        events += [proposed(number, *verdict), finalized(number)]
    events.append(event(Abandoned, 4))
    told = history(*events)
    found = [last_used_round(told, ANN, RoundId(number)) for number in range(1, 7)]
    assert found == [None, 1, 2, 2, 2, 5]
    assert last_used_round(told, BOB, RoundId(6)) is None
