"""Seeds that somebody must fix, full rounds, and seats that nobody uses."""

from collections.abc import Callable
from pathlib import Path

from contracts.enums import Status
from node.results import Outcome, Standing, standing_of
from protocol.types import RoundId
from tests.rounds.test_roles import Ledger
from tests.world import World

ONE = RoundId(1)


def mine(world: World, blocks: int) -> None:
    for _ in range(blocks):
        world.w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]


def passing_the_time(ledger: Ledger, phase: Status, when: Callable[[], bool]) -> None:
    """Let the leader's pauses end a phase by its deadline, once `when` holds."""
    world, look = ledger.world, ledger.look

    def pause() -> None:
        look()
        client = world.client()
        newest = client.round_count()
        if newest and client.status(newest) is phase and when():
            world.travel(700)

    ledger.leader.service.pause = pause  # type: ignore[method-assign]
    ledger.leader.aggregator.wait = pause


def test_the_leader_fixes_the_seed(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        ledger = Ledger(world)
        assert ledger.leader.step()
        (fixed,) = ledger.told("aggregator", "seed fixed")
        told = world.told(ONE)
        assert fixed["round"] == 1
        assert told.seeded is not None
        assert told.seeded.block_number > told.opened.opened_block
        assert not any(ledger.told(name, "seed fixed") for name in world.names)


def test_a_participant_fixes_a_seed_that_is_overdue(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        ledger = Ledger(world)
        world.aggregator.bond()
        world.client(world.aggregator_wallet).open_round()
        ledger.look()
        assert world.client().status(ONE) is Status.SEED  # not yet: the leader has a block or two
        mine(world, 20)
        ledger.look()
        assert world.client().status(ONE) is Status.COMMIT
        # One of them paid for it.
        assert sum(len(ledger.told(name, "seed fixed")) for name in world.names) == 1


def test_a_round_without_a_seed_is_abandoned_and_nobody_missed_it(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        ledger = Ledger(world)
        world.aggregator.bond()
        world.client(world.aggregator_wallet).open_round()
        mine(world, 257)
        assert world.client().status(ONE) is Status.UNSEEDED
        assert ledger.leader.step()
        assert world.client().status(ONE) is Status.ABANDONED
        for name in world.names:
            assert [each.outcome for each in ledger.results(name)] == [Outcome.UNSEEDED]
            history, seats = world.client().history(), world.client().terms().seats
            assert history.missed_rounds(world.address_of(name), seats) == []
        assert ledger.leader.step()
        assert world.client().status(RoundId(2)) is Status.FINALIZED


def test_a_full_round_is_no_failure(tmp_path: Path) -> None:
    with World(tmp_path, round_seats=2, max_missed=1) as world:
        ledger = Ledger(world)
        assert ledger.leader.step()
        assert world.client().status(ONE) is Status.FINALIZED
        last = world.names[-1]  # looks last
        assert [each.outcome for each in ledger.results(last)] == [Outcome.FULL]
        assert not ledger.told("service", "waiting")
        ledger.leader.step()
        assert standing_of(world.client(), world.address_of(last)) is Standing.ACTIVE


def test_a_seat_that_nobody_uses_is_freed(tmp_path: Path) -> None:
    with World(tmp_path, max_missed=1) as world:
        ledger = Ledger(world)
        away = world.names[-1]
        squatter = ledger.followers.pop(away)
        passing_the_time(
            ledger, Status.COMMIT, lambda: world.client().get_round(ONE).committed == 2
        )
        assert ledger.leader.step()
        assert world.client().status(ONE) is Status.FINALIZED
        assert [each.outcome for each in ledger.results(away)] == [Outcome.OFFLINE]
        assert ledger.leader.step()
        (freed,) = ledger.told("aggregator", "seat freed")
        assert (freed["participant"], freed["missed"]) == (world.address_of(away), 1)
        address = world.address_of(away)
        assert standing_of(world.client(), address) is Standing.EVICTED
        # Back again it waits for its stake, or takes a seat anew if the settings say so.
        assert squatter.step()
        assert ledger.told(away, "leaving")
        back = ledger.follower(away, rejoin=True)
        assert back.step()
        assert standing_of(world.client(), address) is Standing.ACTIVE


def test_earnings_go_where_the_settings_say(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        ledger = Ledger(world)
        to = world.auditor.address
        name = world.names[0]
        follower = ledger.follower(name, withdraw_to=to)
        follower.participant.withdraw_to = follower.settings.withdraw_to
        ledger.followers[name] = follower
        held = world.token.balance_of(to)
        assert ledger.leader.step()
        ledger.look()
        (result,) = ledger.results(name)
        assert result.paid > 0
        assert world.token.balance_of(to) == held + result.paid
        assert "of 25 examples" in result.reason
