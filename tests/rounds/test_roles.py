"""Participants and an aggregator that follow the contract: what they do at each look at it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aggregator.aggregator import Aggregator
from aggregator.leader import Leader
from aggregator.settings import AggregatorSettings
from chain.events import Committed, Joined, Paid, Penalized, Proposed, Revealed
from contracts.enums import AggregatorState, Status, SubmissionState
from node.follower import Follower
from node.participant import Participant
from node.results import Outcome, RoundResult, Standing, round_results, standing_of
from node.settings import ParticipantSettings
from protocol.errors import Unavailable
from protocol.types import RoundId, TokenUnits
from runtime.events import Report
from runtime.service import Service
from tests.world import TOKEN, SyntheticTrainer, World, as_dict

ROUND = RoundId(1)


class Ledger:
    """The roles of a world, each looking at the chain when told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reports: list[dict[str, Any]] = []
        self.followers = {name: self.follower(name) for name in world.names}
        self.leader = self.restart_leader()

    def follower(self, name: str, **settings: Any) -> Follower:
        """Return a participant's loop as after a restart."""
        participant = self.world.participant(name)
        participant.report = self.reporter(name)
        return Follower(participant, self.settings(**settings))

    def restart_leader(self, **settings: Any) -> Leader:
        world = self.world
        aggregator = Aggregator(
            world.client(world.aggregator_wallet),
            world.store,
            world.folder / "aggregator",
            self.reporter("aggregator"),
        )
        aggregator.wait = self.look
        given = AggregatorSettings(
            federation=Path("f"), keystore=Path("k"), poll_seconds=0.01, **settings
        )
        service = self._service()
        service.pause = self.look  # type: ignore[method-assign]
        self.leader = Leader(aggregator, given, service)
        return self.leader

    def look(self) -> None:
        """Let every participant look once."""
        for follower in self.followers.values():
            follower.step()

    def told(self, name: str, phase: str) -> list[dict[str, Any]]:
        return [r for r in self.reports if (r["who"], r["phase"]) == (name, phase)]

    def results(self, name: str) -> list[RoundResult]:
        return list(round_results(self.world.client(), self.world.address_of(name)))

    def reporter(self, who: str) -> Report:
        return lambda event: self.reports.append(as_dict(event, who=who))

    def _service(self) -> Service:
        return Service(self.reporter("service"), poll_seconds=0.01)

    def settings(self, **changes: Any) -> ParticipantSettings:
        fixed: dict[str, Any] = {"federation": "f", "keystore": "k", "data": "d", "model": "m"}
        return ParticipantSettings.model_validate({**fixed, **changes})


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with World(tmp_path, chain=getattr(request, "param", "anvil")) as world:
        yield world


both_chains = pytest.mark.parametrize("world", ["anvil", "eth-tester"], indirect=True)
"""Both chains are held to the same."""


@pytest.fixture
def ledger(world: World) -> Ledger:
    return Ledger(world)


# --------------------------------------------------------------------- rounds


@both_chains
def test_a_round_needs_no_message(ledger: Ledger) -> None:
    assert ledger.leader.step()
    federation = ledger.world.client()
    assert federation.status(ROUND) is Status.FINALIZED
    ledger.look()
    for name in ledger.world.names:
        assert [result.outcome for result in ledger.results(name)] == [Outcome.PAID]
        assert ledger.told(name, "round over")[0]["paid"] > 0
        assert federation.credit_of(ledger.world.address_of(name)) == 0  # withdrawn


def test_the_last_round_ends_both_loops(ledger: Ledger) -> None:
    for _ in range(3):
        assert ledger.leader.step()
    assert not ledger.leader.step()
    federation, aggregator = ledger.world.client(), ledger.world.aggregator_wallet.address
    assert federation.aggregator_state(aggregator) is AggregatorState.LISTED  # bond taken back
    assert federation.credit_of(aggregator) == 0
    assert not ledger.leader.step()  # and not posted again after a restart
    assert federation.aggregator_state(aggregator) is AggregatorState.LISTED
    assert not ledger.followers["ann"].step()
    assert "leave" in ledger.told("ann", "finished")[0]["advice"]
    assert federation.get_participant(ledger.world.address_of("ann")).active


def test_offline_for_a_round_joins_the_next(ledger: Ledger) -> None:
    world = ledger.world
    away = ledger.followers.pop("cem")
    round_id = world.open_round()
    ledger.look()
    world.travel(600)
    ledger.look()
    world.settle(round_id)
    ledger.followers["cem"] = away
    assert ledger.leader.step()
    assert [r.outcome for r in ledger.results("cem")] == [Outcome.OFFLINE, Outcome.PAID]
    assert "did not commit" in ledger.results("cem")[0].reason


def test_a_stranger_joins_and_waits_for_its_round(ledger: Ledger, tmp_path: Path) -> None:
    world = ledger.world
    round_id = world.open_round()
    wallet = world.auditor
    world.token.transfer(wallet.address, TokenUnits(1_000 * TOKEN))
    participant = Participant(
        world.client(wallet), world.store, SyntheticTrainer("dan", 5), tmp_path / "dan"
    )
    dan = Follower(participant, ledger.settings())
    assert dan.step()
    assert standing_of(world.client(), wallet.address) is Standing.ACTIVE
    dan.step()
    assert world.client().get_submission(round_id, wallet.address).state is SubmissionState.NONE
    ledger.look()
    ledger.look()
    world.settle(round_id)
    ledger.followers["dan"] = dan
    ledger.leader.step()
    results = list(round_results(world.client(), wallet.address))
    assert [r.outcome for r in results] == [Outcome.NOT_A_MEMBER, Outcome.PAID]


def test_after_a_penalty_it_comes_back_only_if_told_to(ledger: Ledger) -> None:
    world = ledger.world
    round_id = world.open_round()
    ledger.look()
    away = ledger.followers.pop("cem")
    ledger.look()
    world.travel(1_201)
    world.settle(round_id)
    address = world.address_of("cem")
    assert standing_of(world.client(), address) is Standing.PENALIZED
    result = ledger.results("cem")[0]
    assert (result.outcome, result.penalty) == (Outcome.NOT_REVEALED, 10 * TOKEN)
    assert away.step()
    assert standing_of(world.client(), address) is Standing.PENALIZED
    assert len(ledger.told("cem", "out")) == 1
    again = ledger.follower("cem", rejoin=True)
    assert again.step()
    assert standing_of(world.client(), address) is Standing.ACTIVE
    joins = [e for e in world.client().read_events() if isinstance(e, Joined | Penalized)]
    assert isinstance(joins[-1], Joined)
    assert joins[-1].amount == 10 * TOKEN


def test_who_left_gets_its_stake_and_stays_away(ledger: Ledger) -> None:
    world = ledger.world
    client = world.client(world.wallets["cem"])
    client.leave()
    follower = ledger.followers["cem"]
    assert follower.step()
    assert standing_of(client, world.address_of("cem")) is Standing.LEAVING
    world.travel(3_601)
    before = client.token.balance_of(world.address_of("cem"))
    assert not follower.step()
    assert client.token.balance_of(world.address_of("cem")) - before == 50 * TOKEN
    assert standing_of(client, world.address_of("cem")) is Standing.LEFT
    assert not ledger.follower("cem").step()
    assert ledger.follower("cem", rejoin=True).step()
    assert standing_of(client, world.address_of("cem")) is Standing.ACTIVE


def test_credit_waits_until_it_is_worth_a_transaction(ledger: Ledger) -> None:
    world = ledger.world
    ledger.followers["ann"] = ledger.follower("ann", withdraw_at=15.0)

    def credit() -> int:
        return world.client().credit_of(world.address_of("ann"))

    ledger.leader.step()
    ledger.look()
    share = credit()
    assert 0 < share < 15 * TOKEN
    ledger.leader.step()
    ledger.look()
    assert credit() == 0
    paid = [e.amount for e in world.client().read_events() if isinstance(e, Paid)]
    assert share in paid


def test_no_round_before_enough_have_joined(ledger: Ledger) -> None:
    leader = ledger.restart_leader(min_participants=4)
    assert leader.step()
    assert leader.step()
    assert ledger.world.client().round_count() == 0
    assert len(ledger.told("aggregator", "waiting for participants")) == 1


# ------------------------------------------------------------------- finality


def test_an_update_is_shown_only_on_buried_commitments(ledger: Ledger) -> None:
    world = ledger.world
    careful = ledger.followers["ann"] = ledger.follower("ann", confirmations=3)
    round_id = world.open_round()
    ledger.look()
    assert world.client().status(round_id) is Status.REVEAL

    def state() -> SubmissionState:
        return world.client().get_submission(round_id, world.address_of("ann")).state

    careful.step()
    careful.step()
    assert state() is SubmissionState.COMMITTED
    assert len(ledger.told("ann", "waiting for confirmations")) == 1
    for _ in range(3):
        world.travel(1)
    careful.step()
    assert state() is SubmissionState.REVEALED


def test_on_a_chain_that_stands_still_the_deadline_decides(ledger: Ledger) -> None:
    world = ledger.world
    ledger.followers["ann"] = ledger.follower("ann", confirmations=1000)
    round_id = world.open_round()
    ledger.look()
    ledger.look()
    world.travel(600 + 301)  # more than half of the reveal phase is gone
    ledger.look()
    submission = world.client().get_submission(round_id, world.address_of("ann"))
    assert submission.state is SubmissionState.REVEALED


def dropped(world: World, act: Callable[[], object]) -> None:
    """Do something and let the chain forget the blocks in which it happened."""
    snapshot = world.w3.provider.make_request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
    act()
    world.w3.provider.make_request("evm_revert", [snapshot])  # type: ignore[arg-type]


def test_what_a_reorganisation_drops_is_sent_again(world: World) -> None:
    """A commitment, a reveal and a proposal; each the same as before, with the same salt."""
    ledger = Ledger(world)
    federation, address = world.client(), world.address_of("ann")
    round_id = world.open_round()

    dropped(world, ledger.look)
    assert federation.get_round(round_id).committed == 0
    ledger.look()
    assert federation.get_round(round_id).committed == 3

    dropped(world, ledger.look)
    assert federation.get_submission(round_id, address).state is SubmissionState.COMMITTED
    ledger.look()
    assert federation.get_round(round_id).revealed == 3

    dropped(world, lambda: ledger.leader.aggregator.propose(round_id))
    assert federation.status(round_id) is Status.PROPOSE
    ledger.leader.step()
    assert federation.status(round_id) is Status.FINALIZED

    events = federation.read_events()
    for kind in (Committed, Revealed, Proposed):
        of_kind = [e for e in events if isinstance(e, kind)]
        assert len(of_kind) == (1 if kind is Proposed else 3)
    assert all(p.trainer.calls <= 1 for p in _trainers(ledger))
    assert not [check for check in world.audit() if not check.passed]


def test_a_dropped_round_is_opened_and_played_anew(world: World) -> None:
    ledger = Ledger(world)

    def open_and_commit() -> None:
        world.open_round()
        ledger.look()

    dropped(world, open_and_commit)
    assert world.client().round_count() == 0
    assert ledger.leader.step()
    assert world.client().status(ROUND) is Status.FINALIZED
    assert all(p.trainer.calls == 1 for p in _trainers(ledger))


def _trainers(ledger: Ledger) -> list[Any]:
    return [follower.participant for follower in ledger.followers.values()]


# --------------------------------------------------------------------- faults


def test_what_is_unavailable_is_one_line_and_is_done_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.service.FIRST_BACK_OFF_S", 0.001)
    federation = ledger.followers["ann"].federation
    count, broken = federation.round_count, iter([True, True])

    def round_count(block: int | None = None) -> RoundId:
        if next(broken, False):
            raise Unavailable("the Ethereum RPC at http://127.0.0.1:1 cannot be reached")
        return count(block)

    monkeypatch.setattr(federation, "round_count", round_count)
    world = ledger.world
    world.open_round()
    follower = ledger.followers["ann"]
    looks = iter([True])

    def step() -> bool:
        follower.step()
        return next(looks, False)

    ledger._service().keep(step)
    assert [r["phase"] for r in ledger.reports if r["who"] == "service"] == ["waiting"] * 2
    submission = world.client().get_submission(ROUND, world.address_of("ann"))
    assert submission.state is SubmissionState.COMMITTED
