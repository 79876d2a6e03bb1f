"""Peers that are slow or gone cost the aggregator one budget together, and never the proposal."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from chain.events import Committed, Revealed
from contracts.enums import Status
from protocol.checks import Check
from protocol.errors import Unavailable
from protocol.types import Address, Digest, RoundId
from rounds.budget import UNLIMITED, Budget
from rounds.context import RoundContext
from rounds.rebuild import Fetcher, fetch_accepted
from rounds.screen import screen
from storage.ipfs import ContentStore
from tests.world import World

MANY = 64


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list that a test may change."""
    now = [1_000.0]
    monkeypatch.setattr("rounds.budget.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_each_update_has_its_time_and_all_have_one_end(world: World, clock: list[float]) -> None:
    budget = Budget.of(world.spec, 100.0, update_s=60.0)
    assert budget.update_deadline() == 1_060
    clock[0] = 1_050
    assert budget.update_deadline() == 1_100
    clock[0] = 1_200
    assert budget.update_deadline() == budget.model_deadline() == 1_100


def test_by_default_the_time_follows_from_the_size(world: World, clock: list[float]) -> None:
    size = world.spec.total_bytes("update")
    assert Budget.of(world.spec, 1e6).update_s == 30 + size / 131_072
    assert Budget.of(world.spec, 20.0).model_s == 10
    assert UNLIMITED.update_deadline() == math.inf


@pytest.mark.parametrize(("gone", "left"), [(0, 450), (200, 250), (400, 100), (590, 5)])
def test_a_quarter_of_the_phase_is_kept_for_the_proposal(
    world: World, clock: list[float], gone: int, left: float
) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    deadline = world.client().get_round(round_id).propose_deadline
    world.aggregator.federation.next_time = lambda: deadline - 600 + gone  # type: ignore[method-assign, assignment, return-value]
    assert world.aggregator._budget(round_id).ends_at == 1_000 + left


class Silent(ContentStore):
    """Answers no request for the bytes of others before all of them are under way."""

    def __init__(self, url: str, peers: int) -> None:
        super().__init__(url)
        self.all_asked = threading.Barrier(peers)
        self.deadlines: list[float] = []

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        self.deadlines.append(deadline)
        self.all_asked.wait(30)  # broken when they are asked one after the other
        raise Unavailable("silent")


def strangers(context: RoundContext) -> RoundContext:
    """Return the round as if `MANY` had revealed what nobody has."""
    committed, revealed = [], []
    for number in range(MANY):
        who = Address("0x" + number.to_bytes(20).hex())
        like = context.told.revealed[0].model_dump() | {"participant": who}
        digest = Digest(number.to_bytes(32))
        revealed.append(Revealed(**like | {"root": digest, "manifest": digest}))
        like = context.told.committed[0].model_dump() | {"participant": who}
        committed.append(Committed(**like))
    return replace(context, told=replace(context.told, committed=committed, revealed=revealed))


def test_many_silent_peers_cost_the_time_of_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.layers._ATTEMPTS", 1)
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    store = Silent(world.daemon.url, MANY)
    there = RoundContext.at(world.client().now(), store, world.spec, world.folder / "x", round_id)
    budget = Budget(update_s=60.0, ends_at=time.monotonic() + 10)
    decisions = screen(strangers(there), Fetcher(budget))
    assert [each.verdict.reason for each in decisions] == MANY * [Check.REACHABLE]
    assert set(store.deadlines) == {budget.ends_at}


def test_so_do_those_of_the_rounds_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.layers._ATTEMPTS", 1)
    world.play()
    store = Silent(world.daemon.url, len(world.names))
    now, nowhere = world.client().now(), world.folder / "x"
    context = RoundContext.at(now, store, world.spec, nowhere, RoundId(1))
    found = fetch_accepted(context)
    assert all(isinstance(each, Unavailable) for each in found)


def test_what_comes_too_late_is_rejected_and_the_round_is_settled(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    world.aggregator.update_seconds = 1e-9
    # Nothing from anybody may be the own store's fault: it waits half of the phase for that.
    world.aggregator.wait = lambda: world.travel(100)
    assert world.settle(round_id) is Status.FINALIZED
    assert {number for number, _ in world.rejections().values()} == {Check.REACHABLE}
    # An audit has the bytes: it sees that differently, and calls nothing false.
    found = [check for check in world.audit() if check.seen_differently]
    assert len(found) == len(world.names)
    assert not any(check.failed for check in world.audit())
