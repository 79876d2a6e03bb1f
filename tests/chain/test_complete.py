"""Whether logs are all there: none of those that the contract counts can be left out unnoticed."""

import pytest

from chain import events as ev
from chain.complete import MissingLogs, require_all_logs, require_round_logs
from chain.events import FederationEvent
from protocol.errors import Unavailable
from protocol.types import RoundId
from tests.chain.stage import Stage, digest
from tests.chain.test_events import every_event

COUNTED = (
    ev.Created,
    ev.RoundOpened,
    ev.Committed,
    ev.Revealed,
    ev.Proposed,
    ev.ProposalRefuted,
    ev.Paid,
    ev.Finalized,
    ev.Abandoned,
)


def test_no_counted_log_can_be_left_out(stage: Stage) -> None:
    told = every_event(stage)
    client, block = stage.sponsor, stage.w3.eth.block_number
    require_all_logs(client, told, block)
    assert {type(event) for event in told} >= set(COUNTED)
    for event in told:
        if isinstance(event, COUNTED):
            fewer = [each for each in told if each is not event]
            with pytest.raises(MissingLogs, match=f"not have all logs of block {block}"):
                require_all_logs(client, fewer, block)
    end = told[len(told) // 2].block_number
    fewer = [event for event in told if event.block_number <= end]
    require_all_logs(client, fewer, end)  # as it was then
    with pytest.raises(MissingLogs):
        require_all_logs(client, fewer, block)
    with pytest.raises(Unavailable, match="only 0 rounds at block"):
        require_all_logs(client, told, client.deployment_block)


def test_rounds_that_are_known_are_not_compared(stage: Stage) -> None:
    stage.finalize()
    block = stage.w3.eth.block_number
    told = [e for e in stage.sponsor.read_events() if not isinstance(e, ev.Revealed)]
    with pytest.raises(MissingLogs, match="tell of 0 reveals in round 1, the contract counts 3"):
        require_all_logs(stage.sponsor, told, block)
    require_all_logs(stage.sponsor, told, block, {RoundId(1)})


def test_open_demands_are_counted(stage: Stage) -> None:
    def of_round() -> list[FederationEvent]:
        return stage.sponsor.read_events(round_id=RoundId(1))

    stage.propose(digest(20))
    stage.outsider.challenge_model_availability(RoundId(1), 3)
    block = stage.w3.eth.block_number
    require_round_logs(stage.sponsor, of_round(), RoundId(1), block)
    fewer = [e for e in of_round() if not isinstance(e, ev.AvailabilityChallenged)]
    with pytest.raises(MissingLogs, match=r"tell of 0 open demands in round 1, .* counts 1"):
        require_round_logs(stage.sponsor, fewer, RoundId(1), block)
