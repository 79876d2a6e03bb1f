"""A standby beside the active aggregator: it waits, and takes over when the contract allows it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aggregator.aggregator import Aggregator
from contracts.enums import AggregatorState, Status
from contracts.reverts import Reverted
from protocol.errors import Misconfigured
from tests.world import TOKEN, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, rounds=2) as world:
        yield world


def test_a_standby_waits_for_the_round_that_the_lead_opens(world: World) -> None:
    standby = world.stand_by()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(standby.next_round)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1.0)
        opened = world.open_round()
        assert waiting.result(timeout=30) == opened
    assert world.client().current_aggregator() == world.aggregator_wallet.address


def test_a_standby_replaces_an_idle_aggregator(world: World) -> None:
    standby = world.stand_by()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(standby.next_round)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        world.travel(600)  # propose_seconds
        round_id = waiting.result(timeout=30)
    assert round_id == 1
    federation = world.client()
    assert federation.current_aggregator() == world.standby_wallet.address
    # It cost the aggregator its place, not its bond, and it plays on as a standby.
    world.aggregator.bond()
    assert world.aggregator.next_round() == round_id
    assert standby.play(round_id, world.ask) is Status.FINALIZED
    assert federation.credit_of(world.standby_wallet.address) == 5 * TOKEN
    state = federation.aggregator_state(world.aggregator_wallet.address)
    assert state is AggregatorState.BONDED
    assert all(line.passed for line in world.audit())


def test_both_end_when_the_federation_is_over(world: World) -> None:
    standby = world.stand_by()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(standby.next_round)
        world.travel(10**6 + 1)
        assert waiting.result(timeout=30) is None
    assert world.aggregator.next_round() is None


def test_an_aggregator_that_lost_the_race_to_open_a_round_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aggregator is replaced between its look and its transaction."""
    standby = world.stand_by()
    world.aggregator.bond()
    real = world.aggregator.federation.open_round

    def too_late() -> object:
        monkeypatch.undo()
        world.travel(600)
        assert standby.next_round() == 1
        return real()

    monkeypatch.setattr(world.aggregator.federation, "open_round", too_late)
    assert world.aggregator.next_round() == 1


def test_what_keeps_an_aggregator_from_opening_is_still_raised(tmp_path: Path) -> None:
    with World(tmp_path, names=()) as world, pytest.raises(Reverted, match="participant"):
        world.aggregator.next_round()


def test_an_aggregator_that_is_not_listed_is_refused(world: World) -> None:
    stranger = Aggregator(world.client(world.auditor), world.store, world.folder / "stranger")
    with pytest.raises(Misconfigured, match="cannot aggregate here: it is unlisted"):
        stranger.next_round()
