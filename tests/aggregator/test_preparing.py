"""An aggregator that cannot measure help does not bond; one that is bonded goes on without."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator import leader as module
from aggregator.aggregator import Aggregator
from aggregator.leader import open_aggregator
from aggregator.settings import AggregatorSettings
from chain.location import FederationLocation
from contracts.enums import AggregatorState, Scoring, Status
from protocol.errors import Misconfigured
from protocol.verdict import FULL_SCORE
from rounds.score import Evaluate
from runtime.events import Event
from runtime.settings import write_location
from storage.layers import LayerFolder
from tests.scored import Bowl, scored_spec
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    # Without an evaluator: that is what the role opens by itself.
    with World(tmp_path, spec=scored_spec(), scoring=Scoring.HELD_OUT) as world:
        yield world


def opened(world: World, told: list[Event], model: str | None = "package:some") -> Aggregator:
    location = FederationLocation(
        chain_id=world.w3.eth.chain_id,
        address=world.address,
        deployment_block=world.deployment_block,
        rpc_url=world.rpc_url,
        ipfs_url=world.daemon.url,
    )
    write_location(world.folder / "federation.json", location)
    settings = AggregatorSettings(
        federation=world.folder / "federation.json",
        keystore=Path("wallet.json"),
        state=world.folder / "aggregator",
        model=model,
    )
    return open_aggregator(settings, world.aggregator_wallet, told.append)


def evaluating_with(patch: pytest.MonkeyPatch, evaluate: Evaluate) -> None:
    patch.setattr(module, "open_evaluator", lambda *what: evaluate)


def broken(*what: object) -> float:
    raise RuntimeError("no kernel image\nis available")


def test_it_tries_an_evaluation_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bowl = Bowl(world.spec)
    evaluating_with(monkeypatch, bowl)
    assert opened(world, []).held_out is not None
    assert bowl.calls == 1


def test_without_a_base_model_it_does_not_bond(world: World) -> None:
    with pytest.raises(Misconfigured, match="set `model` to where the base model is"):
        opened(world, [], model=None)
    assert world.aggregator.bond_state() is AggregatorState.LISTED


@pytest.mark.parametrize("at", ["loading", "evaluating"])
def test_it_does_not_bond_with_a_model_that_fails(
    at: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = broken if at == "loading" else lambda *what: broken
    monkeypatch.setattr(module, "open_evaluator", opening)
    with pytest.raises(Exception, match="no kernel image"):
        opened(world, [])
    assert world.aggregator.bond_state() is AggregatorState.LISTED


def test_it_does_not_bond_on_a_machine_that_is_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(model: LayerFolder) -> float:
        time.sleep(0.6)
        return 1.0

    terms = {"propose_seconds": 4, "round_seats": 3}
    with World(tmp_path, spec=scored_spec(), scoring=Scoring.HELD_OUT, **terms) as world:  # type: ignore[arg-type]
        evaluating_with(monkeypatch, slow)
        with pytest.raises(Misconfigured, match="half of the propose phase is 2 s"):
            opened(world, [])
        assert world.aggregator.bond_state() is AggregatorState.LISTED


def test_bonded_it_loads_the_model_when_a_round_is_scored_and_tries_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is slow or fails at its start could make a proposal late, which costs the bond."""
    monkeypatch.setattr(module, "open_evaluator", broken)
    world.aggregator.bond()
    told: list[Event] = []
    world.aggregator = opened(world, told)
    assert not [each for each in told if each.phase == "not scored"]
    assert world.play() is Status.FINALIZED
    (event,) = [each for each in told if each.phase == "not scored"]
    assert "no kernel image" in str(event.facts()["reason"])
    evaluating_with(monkeypatch, Bowl(world.spec))
    assert world.play() is Status.FINALIZED
    assert len([each for each in told if each.phase == "not scored"]) == 1
    assert [each for each in told if each.phase == "scored"]


def test_an_evaluation_that_hangs_makes_no_proposal_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hanging(model: LayerFolder) -> float:
        released.wait(60)
        return 1.0

    terms = {"propose_seconds": 12}
    with World(tmp_path, spec=scored_spec(), scoring=Scoring.HELD_OUT, **terms) as world:  # type: ignore[arg-type]
        world.aggregator.bond()
        evaluating_with(monkeypatch, hanging)
        world.aggregator = opened(world, [])
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        client = world.client()
        world.travel(client.get_round(round_id).reveal_deadline - client.next_time())
        try:
            world.aggregator.propose(round_id)
        finally:
            released.set()
        verdicts = world.proposal(round_id).verdicts
        assert [(each.reason, each.score) for each in verdicts] == [(0, FULL_SCORE)] * 3
