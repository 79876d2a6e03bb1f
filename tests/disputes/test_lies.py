"""What the auditor makes of a lie, where it cannot be settled included."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from auditor.disputes import challenge_open
from auditor.watch import watch
from commonweight.cli import main
from contracts.enums import AggregatorState, Status
from contracts.reverts import Reverted
from storage.ipfs import ContentStore
from tests.disputes.lies import (
    CHALLENGED,
    DISHONEST,
    WINDOW,
    assert_slashed,
    auditing,
    finish,
    judging,
    propose,
    rejecting_an_honest_update,
    wallet_arguments,
    withheld_model,
)
from tests.world import World


def watched(world: World, looks: int | None = None, once: bool = False) -> list[str]:
    """Return what a watcher says that looks so many times, or until it is done."""
    left = iter(range(looks or 1_000))
    lines: list[str] = []
    watch(
        world.client(world.auditor),
        ContentStore(world.daemon.url),
        world.folder / "watch",
        lines.append,
        lambda: next(left, None) is None,
        once=once,
    )
    return lines


# --------------------------------------------------------------------------- settled on chain


def test_the_first_wrong_leaf_is_the_one_proved(world: World) -> None:
    CHALLENGED["off by one"](world)
    (line,) = challenge_open(auditing(world))
    # Layer 0 has 8 leaves of 256 values; value 70 of layer 1 is in its first.
    assert "leaf 8 is not what 3 updates make of it" in line
    assert f"{world.aggregator_wallet.address} was refuted" in line


def test_a_lead_that_was_refuted_waits_while_the_standby_plays_on(world: World) -> None:
    round_id = CHALLENGED["off by one"](world)
    challenge_open(auditing(world))
    assert not world.aggregator.is_active()
    with pytest.raises(Reverted, match="is not the aggregator"):
        world.aggregator.propose(round_id)
    finish(world, round_id)


def test_without_a_standby_the_round_is_abandoned(tmp_path: Path) -> None:
    with World(tmp_path, challenge_seconds=WINDOW) as world:
        round_id = CHALLENGED["off by one"](world)
        challenge_open(auditing(world))
        assert_slashed(world)
        assert world.client().status(round_id) is Status.ABANDONED
        assert all(line.passed for line in world.audit())


def test_audit_run_challenges_when_asked(world: World) -> None:
    round_id = CHALLENGED["off by one"](world)
    runner = CliRunner()
    alone = runner.invoke(main, ["audit", "run", world.address, "--challenge"])
    assert alone.exit_code == 1
    assert "a challenge is a transaction: give --keystore FILE" in alone.output
    done = runner.invoke(main, ["audit", "run", *wallet_arguments(world), "--challenge"])
    assert done.exit_code == 1, done.output
    assert "FAIL  §7" in done.output
    assert "leaf 8 is not what 3 updates make of it" in done.output
    assert_slashed(world)
    finish(world, round_id)


def test_a_watcher_outlives_a_daemon_that_is_down(world: World) -> None:
    CHALLENGED["off by one"](world)
    lines: list[str] = []
    polls = iter([False, False, True])
    down = ContentStore("http://127.0.0.1:9", timeout_s=1.0)
    client = world.client(world.auditor)
    watch(client, down, world.folder / "watch", lines.append, lambda: next(polls))
    assert len(lines) == 1
    assert lines[0].startswith("cannot judge now, trying again: ")
    watched(world, once=True)
    assert_slashed(world)


# --------------------------------------------------------------------- reported, not settled


def assert_bonded(world: World) -> None:
    state = world.client().aggregator_state(world.aggregator_wallet.address)
    assert state is AggregatorState.BONDED


def test_an_update_wrongly_rejected_is_reported(world: World) -> None:
    judging(rejecting_an_honest_update)(world)
    assert any(not line.passed for line in world.audit())
    lines = watched(world, once=True)
    assert any("it should have been accepted" in line for line in lines), lines
    assert "verdicts and model are as the contract would have them" in lines[-1]
    assert_bonded(world)


def test_without_leaf_requests_in_the_terms_withheld_bytes_are_reported(tmp_path: Path) -> None:
    with World(tmp_path, challenge_seconds=WINDOW) as world:
        round_id = withheld_model(world)
        lines = watched(world, looks=3)
        assert any("bytes are unavailable: model: " in line for line in lines), lines
        words = "nothing to show to the contract, and the terms do not allow leaf requests"
        assert any(words in line for line in lines), lines
        world.travel(WINDOW)
        assert world.settle(round_id) is Status.FINALIZED
        assert_bonded(world)


def test_once_ends_when_the_window_closes_over_what_could_only_be_reported(tmp_path: Path) -> None:
    with World(tmp_path, challenge_seconds=WINDOW) as world:
        withheld_model(world)
        looks: list[str] = []

        def stopped() -> bool:
            if len(looks) == 3:
                world.travel(WINDOW)
            looks.append("")
            return len(looks) > 100

        lines: list[str] = []
        client, store = world.client(world.auditor), ContentStore(world.daemon.url)
        watch(client, store, world.folder / "watch", lines.append, stopped, once=True)
        assert len(looks) < 10
        assert lines[-1] == "round 1: the proposal can no longer be challenged"


# ------------------------------------------------------------------------------------- honest


def test_an_honest_proposal_is_judged_once(world: World) -> None:
    propose(world)
    lines = watched(world, looks=4)
    assert lines == ["round 1: verdicts and model are as the contract would have them"]
    assert_bonded(world)


# -------------------------------------------------------------------------- which challenge it is


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("moved too far", "leaf 8 moved further than any update could move it"),
        ("an original called a copy", "is no copy"),
        ("an update called zero", "has weight 0 and reason 9"),
        ("weights swapped in the verdicts", "has weight 10 and reason 0 with"),
    ],
)
def test_the_contract_is_asked_what_it_can_settle(world: World, name: str, words: str) -> None:
    round_id = CHALLENGED[name](world)
    (line,) = challenge_open(auditing(world))
    assert words in line
    assert_slashed(world)
    finish(world, round_id)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a zero update accepted", "has weight 20 and reason 0 with 20 examples and root"),
        ("a copy accepted", "is a copy of the one"),
    ],
)
def test_a_friend_is_not_paid_for_nothing(world: World, name: str, words: str) -> None:
    lie, honest = DISHONEST[name]
    round_id = lie(world)
    (line,) = challenge_open(auditing(world))
    assert words in line
    assert_slashed(world)
    finish(world, round_id, honest)
