"""Nobody works under a contract that computes with other sizes or another grid than its spec."""

from typing import Any

import pytest

from chain.federation import Federation
from protocol.errors import Misconfigured
from rounds.terms import disagreements
from tests.terms import changed
from tests.world import World

LIES = [
    ({"leaf_count": 17}, "leaves: 17 in the contract, 18 by the spec"),
    ({"tree_depth": 6}, "depth: 6 in the contract, 5 by the spec"),
    ({"grid_bits": 7}, "grid: 7 in the contract, 8 by the spec"),
    ({"grid_every": 2}, "rounds per bit of the grid: 2 in the contract, 0 by the spec"),
    ({"zero_root": bytes(32)}, f"zero root: {64 * '0'} in the contract"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with World(tmp_path_factory.mktemp("terms"), names=("ann",)) as world:
        yield world


@pytest.mark.parametrize(("lie", "words"), LIES)
def test_each_disagreement_is_named(world: World, lie: dict[str, Any], words: str) -> None:
    terms = world.client().terms()
    assert disagreements(terms, world.spec) == []
    (line,) = disagreements(changed(terms, **lie), world.spec)
    assert line.startswith(words)


@pytest.mark.parametrize("role", ["aggregator", "participant"])
def test_no_role_works_under_such_a_contract(
    world: World, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = changed(world.client().terms(), grid_bits=7)
    monkeypatch.setattr(Federation, "terms", lambda federation: terms)
    words = "the contract disagrees with its spec: grid: 7 in the contract, 8 by the spec"
    start = world.restart_aggregator if role == "aggregator" else lambda: world.participant("ann")
    with pytest.raises(Misconfigured, match=words):
        start()
