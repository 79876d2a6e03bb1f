"""An aggregator that cannot measure help does not bond; one that is bonded goes on without."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator import leader as module
from aggregator.aggregator import Aggregator
from aggregator.leader import open_aggregator
from aggregator.settings import AggregatorSettings
from chain.location import FederationLocation
from contracts.enums import AggregatorState, Scoring
from protocol.errors import Misconfigured
from rounds.score import Evaluate
from runtime.events import Event
from runtime.settings import write_location
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
def test_bonded_it_goes_on_and_says_so(
    at: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the library raises: a round that is not proposed would cost the bond."""
    monkeypatch.setattr(
        module, "open_evaluator", broken if at == "loading" else lambda *what: broken
    )
    with pytest.raises(Exception, match="no kernel image"):
        opened(world, [])
    world.aggregator.bond()
    told: list[Event] = []
    assert opened(world, told).bond_state() is AggregatorState.BONDED
    (event,) = [each for each in told if each.phase == "not scored"]
    assert "no kernel image" in str(event.facts()["reason"])
