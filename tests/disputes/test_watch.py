"""Every lie against `commonweight audit watch`, a process of its own.

Nothing but the clock is helped along: the watcher finds the lie, requests what is withheld and
challenges inside the window; the aggregator's bond moves, and the standby finishes the round.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from auditor.watch import Watcher
from chain.events import LeafRequested
from contracts.enums import AggregatorState
from protocol.types import RoundId
from tests.disputes.lies import (
    CHALLENGED,
    RESPONSE,
    TERMS,
    WINDOW,
    WITHHELD,
    assert_slashed,
    finish,
    judging,
    rejecting_an_honest_update,
    watching,
)
from tests.world import World

pytestmark = pytest.mark.long


def some_quick(lies: Iterable[str], *quick: str) -> list[Any]:
    """Return all lies, the others marked slow: test_lies.py has each without a process."""
    assert {*quick} <= {*lies}
    return [pytest.param(lie, marks=[] if lie in quick else [pytest.mark.slow]) for lie in lies]


def is_slashed(world: World) -> bool:
    state = world.client().aggregator_state(world.aggregator_wallet.address)
    return state is AggregatorState.SLASHED


def window_left(world: World, round_id: RoundId) -> int:
    deadline = world.client().get_round(round_id).challenge_deadline
    return deadline - int(world.w3.eth.get_block("latest")["timestamp"])


@pytest.mark.parametrize("lie", some_quick(CHALLENGED, "off by one", "moved too far"))
def test_a_lie_is_challenged(world: World, lie: str) -> None:
    with watching(world, "--once") as watcher:
        round_id = CHALLENGED[lie](world)
        assert window_left(world, round_id) > WINDOW - 60
        watcher.wait_until(lambda: is_slashed(world))
        assert watcher.join() == 0, watcher.told()
        assert f"{world.aggregator_wallet.address} was refuted" in watcher.told()
    assert_slashed(world)
    finish(world, round_id)


@pytest.mark.parametrize("lie", some_quick(WITHHELD, "an update withheld"))
def test_what_is_withheld_is_requested(world: World, lie: str) -> None:
    with watching(world, "--once") as watcher:
        round_id = WITHHELD[lie](world)

        def is_requested() -> bool:
            events = world.client().read_events(round_id=round_id)
            return any(isinstance(event, LeafRequested) for event in events)

        watcher.wait_until(is_requested)
        assert not is_slashed(world)
        # Before time passes: then the watcher may refute the proposal at once, which has no window.
        assert window_left(world, round_id) > 2 * RESPONSE
        world.travel(RESPONSE)
        watcher.wait_until(lambda: is_slashed(world))
        assert watcher.join() == 0, watcher.told()
        assert "was not posted in time" in watcher.told()
    assert_slashed(world, deposits=1)
    finish(world, round_id, ("bob", "cem") if "update" in lie else ("ann", "bob", "cem"))


def test_a_watcher_goes_on_from_round_to_round(world: World) -> None:
    """Refuted in the first round, replaced late in the second: the watcher reports both."""
    with watching(world) as watcher:
        first = CHALLENGED["off by one"](world)
        watcher.wait_until(lambda: is_slashed(world))
        finish(world, first)
        second = world.stand_by().next_round()
        assert second == 2
        world.fix_seed(second)
        world.commit_and_reveal(second)
        watcher.wait_until(
            lambda: (
                f"active aggregator changed from {world.aggregator_wallet.address}"
                in watcher.told()
            )
        )
        world.stand_by().propose(second)
        words = "round 2: verdicts and model are as the contract would have them"
        watcher.wait_until(lambda: words in watcher.told())
        assert watcher.stop() == 0
        assert "round 1: leaf 8 is not what 3 updates make of it" in watcher.told()


def test_a_late_aggregator_is_reported(world: World) -> None:
    with watching(world) as watcher:
        world.commit_and_reveal(world.open_round())
        world.travel(3 * 600)
        watcher.wait_until(lambda: "is late, anybody may hand the round on" in watcher.told())
        world.client(world.standby_wallet).replace_aggregator()
        watcher.wait_until(lambda: f"to {world.standby_wallet.address}" in watcher.told())
        assert watcher.stop() == 0


def test_once_ends_after_a_wrong_rejection_was_reported(world: World) -> None:
    with watching(world, "--once") as watcher:
        judging(rejecting_an_honest_update)(world)
        assert watcher.join() == 0
        assert "it should have been accepted" in watcher.told()
    assert not is_slashed(world)


def test_a_watcher_ends_with_the_federation(tmp_path: Path) -> None:
    with World(tmp_path, **{**TERMS, "rounds": 1}) as world, watching(world) as watcher:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        world.aggregator.propose(round_id)
        watcher.wait_until(lambda: "are as the contract would have them" in watcher.told())
        world.travel(WINDOW)
        world.aggregator.settle(round_id)
        assert watcher.join() == 0, watcher.told()
        assert watcher.told().splitlines()[-1].endswith("there is nothing left to watch")


def test_on_a_public_chain_what_is_over_must_be_so_for_some_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditor.watch.is_development_chain", lambda chain_id: False)
    with World(tmp_path, **{**TERMS, "rounds": 1}) as world:
        told: list[str] = []
        watcher = Watcher(world.client(world.auditor), world.store, tmp_path / "w", told.append)
        world.commit_and_reveal(world.open_round())
        world.aggregator.propose(RoundId(1))
        world.travel(WINDOW)
        world.aggregator.settle(RoundId(1))
        for _ in range(12):
            watcher.look()
            assert not watcher.is_done
            world.mine()
        watcher.look()
        assert watcher.is_done
        assert not [line for line in told if "cannot judge" in line]
