"""The events that a role decides from: all of them, of one chain, and none left out unnoticed."""

import random
from collections.abc import Callable, Sequence

import pytest

from chain import event_log as module
from chain import events as ev
from chain.event_index import block_hash
from chain.event_log import MissingLogs, check_complete
from chain.events import FederationEvent, KeyPublished, Objected
from chain.history import History
from protocol.errors import Unavailable
from protocol.types import RoundId, TokenUnits
from tests.chain.stage import Stage, ask, digest
from tests.chain.test_events import every_event

COUNTED = (
    ev.Joined,
    ev.Evicted,
    ev.Left,
    ev.RoundOpened,
    ev.SeedFixed,
    ev.Committed,
    ev.Revealed,
    ev.Proposed,
    ev.ProposalRefuted,
    ev.Paid,
    ev.Finalized,
    ev.Abandoned,
)
DEPOSIT = 0  # no test here counts tokens


def fold(events: Sequence[FederationEvent]) -> History:
    return History.fold(events, TokenUnits(DEPOSIT))


def test_no_counted_log_can_be_left_out(stage: Stage) -> None:
    told = every_event(stage)
    client, block = stage.sponsor, stage.w3.eth.block_number
    check_complete(fold(told), client, block)
    assert {type(event) for event in told} >= set(COUNTED)
    for event in told:
        if isinstance(event, COUNTED):
            fewer = [each for each in told if each is not event]
            with pytest.raises(MissingLogs, match=f"not have all logs of block {block}"):
                check_complete(fold(fewer), client, block)
    end = told[len(told) // 2].block_number
    fewer = [event for event in told if event.block_number <= end]
    check_complete(fold(fewer), client, end)  # as it was then
    with pytest.raises(MissingLogs):
        check_complete(fold(fewer), client, block)
    with pytest.raises(Unavailable, match="only 0 rounds at block"):
        check_complete(fold(told), client, client.deployment_block)


def test_rounds_that_were_compared_are_not_compared_again(stage: Stage) -> None:
    stage.finalize()
    block = stage.w3.eth.block_number
    told = [e for e in stage.sponsor.read_events() if not isinstance(e, ev.Revealed)]
    with pytest.raises(MissingLogs, match="show 0 reveals in round 1, the contract counts 3"):
        check_complete(fold(told), stage.sponsor, block)
    check_complete(fold(told), stage.sponsor, block, {RoundId(1)})


def test_open_leaf_requests_are_counted(stage: Stage) -> None:
    stage.propose(digest(20))
    stage.outsider.request_model_leaf(RoundId(1), 3)
    block = stage.w3.eth.block_number
    told = stage.sponsor.read_events()
    check_complete(fold(told), stage.sponsor, block)
    fewer = [e for e in told if not isinstance(e, ev.LeafRequested)]
    with pytest.raises(MissingLogs, match=r"show 0 open leaf requests in round 1, .* counts 1"):
        check_complete(fold(fewer), stage.sponsor, block)


# ---------------------------------------------------------------------------- read block by block


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of blocks that are asked for."""
    asked: list[tuple[int, int]] = []
    real = ev.read_events

    def read(w3: object, address: object, first: int, last: int) -> list[FederationEvent]:
        asked.append((first, last))
        return real(w3, address, first, last)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "read_events", read)
    return asked


def test_only_new_blocks_are_asked_for(stage: Stage, ranges: list[tuple[int, int]]) -> None:
    client = stage.sponsor
    first = client.now()
    history = first.history()
    assert first.history() is history
    stage.finalize()
    later = client.now()
    assert later.history().events == client.read_events()
    assert ranges == [(client.deployment_block, first.head), (first.head + 1, later.head)]
    assert len(history.events) < len(later.history().events)  # what a caller holds does not grow


def test_a_history_in_any_steps_is_the_whole_one(stage: Stage) -> None:
    """Whatever blocks are looked at on the way, in whatever order, the fold is the same."""
    told = every_event(stage)
    client, head = stage.sponsor, stage.w3.eth.block_number
    rng = random.Random(7)
    for _ in range(5):
        client.event_log.forget()
        for block in rng.choices(range(client.deployment_block, head + 1), k=6):
            earlier = [event for event in told if event.block_number <= block]
            assert client.at(block).history().events == earlier
        assert client.at(head).history().rounds == fold(told).rounds


def test_a_history_that_goes_on_is_the_whole_one_and_leaves_the_one_before(stage: Stage) -> None:
    told = every_event(stage)
    whole = fold(told)
    for place in range(len(told)):
        begun, before = fold(told[:place]), fold(told[:place])
        assert begun.extended(told[place:]) == whole
        assert begun == before
    # Those of a masked round, which its history keeps in a part of its own.
    where = {"block_number": 7, "block_hash": bytes(32), "transaction_hash": bytes(32)}
    of = {"round": RoundId(9), "participant": stage.sponsor.address, **where}
    masked: list[FederationEvent] = [
        KeyPublished.model_validate({**of, "public_key": bytes(32), "log_index": 0}),
        Objected.model_validate({**of, "log_index": 1}),
    ]
    begun, before = fold(masked[:1]), fold(masked[:1])
    assert begun.extended(masked[1:]) == fold(masked)
    assert begun == before
    # Rounds that are over are not made again.
    begun = fold(told[:-1])
    assert begun.extended(told[-1:]).rounds[RoundId(1)] is begun.rounds[RoundId(1)]


def test_asking_for_a_round_that_was_not_opened_changes_nothing(stage: Stage) -> None:
    """As whoever fetches the newest model does; the history is kept and compared again."""
    history = stage.sponsor.now().history()
    before = dict(history.rounds)
    assert history.round(RoundId(9)).events == []
    assert history.rounds == before
    ask(stage.w3, "evm_mine")  # a block without events
    assert stage.sponsor.now().history() is history


def test_a_reorganisation_is_read_again(stage: Stage, ranges: list[tuple[int, int]]) -> None:
    client = stage.sponsor
    snapshot = ask(stage.w3, "evm_snapshot")
    before = client.now()
    before.history()
    stage.finalize()
    assert client.now().history().rounds[RoundId(1)].finalized is not None
    ask(stage.w3, "evm_revert", snapshot)
    for _ in range(30):  # longer than the other branch, with nothing in it
        ask(stage.w3, "evm_mine")
    now = client.now()
    assert (
        now.history().rounds.get(RoundId(1)) is None or not now.history().rounds[RoundId(1)].ended
    )
    assert now.history().events == client.read_events()
    assert ranges[-1] == (before.head + 1, now.head)


def test_a_chain_that_changes_while_it_is_read_is_no_history(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = stage.sponsor
    client.event_log.forget()
    real: Callable[..., bytes | None] = block_hash
    answers = iter([b"\1" * 32])

    def changing(w3: object, block: int) -> bytes | None:
        return next(answers, None) or real(w3, block)

    monkeypatch.setattr(module, "block_hash", changing)
    with pytest.raises(Unavailable, match="has another block"):
        client.history()
    assert client.history().events == client.read_events()


def test_events_without_those_of_the_first_blocks_are_not_all(stage: Stage) -> None:
    stage.open()
    client = stage.sponsor.now()
    client.event_log.forget()
    joined = [e.block_number for e in client.read_events() if isinstance(e, ev.Joined)]
    client.deployment_block = joined[0] + 1
    with pytest.raises(MissingLogs, match="show 2 active participants, the contract counts 3"):
        client.history()


def test_who_joins_in_the_block_of_the_opening_is_no_member(stage: Stage) -> None:
    stage.open()
    told = stage.sponsor.read_events()
    opened = next(event for event in told if isinstance(event, ev.RoundOpened))
    last = [event for event in told if isinstance(event, ev.Joined)][-1]
    moved = last.model_copy(update={"block_number": opened.block_number})
    history = fold([moved if event is last else event for event in told])
    assert last.participant in history.active
    assert last.participant not in history.round(RoundId(1)).members
    assert len(history.round(RoundId(1)).members) == 2
