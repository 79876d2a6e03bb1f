"""Masked rounds under the engines that follow the contract, and a watcher's process beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.enums import AggregatorState, Status
from node.results import Outcome
from protocol.types import Digest, RoundId
from rounds.average import average_layers as average
from storage.layers import LayerFolder
from tests.disputes.lies import watching
from tests.masked.test_attacks import alter_masked, garbage
from tests.masked.test_dropouts import clear_root, passes, price
from tests.masked.world import FIVE, FOUR, WINDOW, MaskedWorld
from tests.rounds.test_roles import Ledger

pytestmark = pytest.mark.long

ONE = RoundId(1)


def test_everybody_follows_the_contract_alone(tmp_path: Path) -> None:
    """Nobody is told anything, and nobody mines: who waits for finality asks for a block."""
    expected = clear_root(tmp_path / "clear", names=FOUR)
    with MaskedWorld(tmp_path / "masked", challenge_seconds=1, rounds=1) as world:
        ledger = Ledger(world)
        ledger.look()
        while not world.client().is_over():
            ledger.leader.step()
        finalized = world.told(ONE).finalized
        assert finalized is not None
        assert finalized.root == expected
        for name in FOUR:
            assert [r.outcome for r in ledger.results(name)] == [Outcome.PAID]
            assert len(ledger.told(name, "unmasked")) == 1
        ledger.look()
        # Secrets go with the last round too, once it is final.
        world.finalize_blocks()
        ledger.look()
        assert not list(world.folder.glob("*/*/round-0001/secrets.json"))
        passes(world)


def test_who_is_away_after_the_seal_is_told_why_it_is_not_paid(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE, challenge_seconds=1, rounds=1) as world:
        ledger = Ledger(world)
        ledger.look()
        eve = ledger.followers["eve"]
        leader = ledger.leader
        away = False

        def look() -> None:
            nonlocal away
            newest = world.client().round_count()
            status = world.status(newest) if newest else Status.NONE
            if status is Status.UNMASK and not away:
                away = True
                del ledger.followers["eve"]
            told = world.told(newest)
            if status is Status.UNMASK and len(told.masking.unmasked) == 4:
                world.travel_to(world.client().get_sum(newest).unmask_deadline)
            ledger.look()

        leader.aggregator.wait = look
        leader.service.pause = look  # type: ignore[method-assign]
        while not world.client().is_over():
            leader.step()
        ledger.followers["eve"] = eve
        assert [r.outcome for r in ledger.results("eve")] == [Outcome.SILENT]
        assert [r.outcome for r in ledger.results("ann")] == [Outcome.PAID]
        assert len(ledger.told("aggregator", "recovered")) == 1
        passes(world)


def test_followers_refuse_garbage_together(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE, rounds=1) as world:
        ledger = Ledger(world)
        round_id = world.open_round()
        ledger.look()
        world.finalize_blocks()
        alter_masked(world, "eve", garbage)
        ledger.look()
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        for _ in range(3):
            ledger.look()
        world.aggregator.propose(round_id)
        ledger.look()
        ledger.look()
        # The first look in phase Void ends the round: no aggregator is needed for that.
        assert world.status(round_id) is Status.ABANDONED
        results = {name: ledger.results(name)[0] for name in FIVE}
        assert {each.outcome for each in results.values()} == {Outcome.VOID}
        assert {name: each.paid for name, each in results.items()} == {
            name: price(name, 2) for name in FIVE
        }
        passes(world)


def test_what_a_member_cannot_look_at_ends_nothing(tmp_path: Path) -> None:
    """An update that nobody serves any more ends no process, and is no reason to object."""
    with MaskedWorld(tmp_path, rounds=1) as world:
        ledger = Ledger(world)
        round_id = world.seal()
        world.unmask(round_id)
        world.aggregator.propose(round_id)
        world.withhold(world.told(round_id).reveals[0].manifest)
        world.travel_to(world.client().get_round(round_id).challenge_deadline - 5)
        ledger.look()
        ledger.look()
        assert {r["who"] for r in ledger.reports if r["phase"] == "sum unchecked"} == set(FOUR)
        world.travel_to(world.client().get_round(round_id).challenge_deadline)
        assert world.settle(round_id) is Status.FINALIZED


@pytest.mark.long
def test_a_watchers_process_takes_the_bond_of_a_lie_about_a_masked_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off_by_one(spec: Any, before: LayerFolder, *rest: Any, **how: Any) -> Digest:
        target: LayerFolder = rest[2]
        how.pop("on_layer", None)
        average(spec, before, *rest, **how)
        path = target.layer_path(0)
        values = np.fromfile(path, ">i4")
        values[5] -= 1
        values.tofile(path)
        return target.root(spec)

    with MaskedWorld(tmp_path, challenge_seconds=3 * WINDOW) as world, watching(world) as watcher:
        round_id = world.seal()
        world.unmask(round_id)
        monkeypatch.setattr("aggregator.aggregator.average_layers", off_by_one)
        world.aggregator.propose(round_id)
        watcher.wait_until(lambda: "was refuted" in watcher.told())
        assert world.aggregator.bond_state() is AggregatorState.SLASHED
