"""`commonweight demo` on the devnet's other chains: blocks every second, and eth-tester."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.federation import connect_federation
from chain.location import FederationLocation
from node.results import Outcome, round_results
from tests.commonweight.program import TINY, Program

pytestmark = pytest.mark.long


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("--block-time", "1"), id="a block a second"),
        pytest.param(("--chain", "eth-tester"), id="eth-tester", marks=pytest.mark.slow),
    ],
)
def result(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Any]]:
    program = Program(tmp_path_factory.mktemp("home"))
    program.run("devnet", "up", *request.param)
    config = program.home / "two_rounds.toml"
    text = TINY.read_text().replace('"flashcards/', f'"{TINY.parent}/flashcards/')
    config.write_text(text.replace("rounds = 3\n", "rounds = 2\n"))
    try:
        yield program.json("demo", "--config", str(config), "--seed", "7", "--keep")
    finally:
        program.run("devnet", "down")


def test_the_demo_trains_pays_and_passes_its_audit(result: dict[str, Any]) -> None:
    assert result["audit"]["failed"] == 0
    assert result["audit"]["checks"] > 25
    assert [row["round"] for row in result["rounds"]] == [1, 2]
    losses = [result["base_loss"]] + [row["loss"] for row in result["rounds"]]
    assert losses == sorted(losses, reverse=True)
    assert all(len(row["accepted"]) == 4 and not row["rejected"] for row in result["rounds"])
    token = 10**18
    assert sorted(result["paid"].values()) == [100 * token, *[500 * token] * 4]


def test_every_round_has_paid_everybody(result: dict[str, Any]) -> None:
    location = FederationLocation.load(Path(result["folder"]) / "federation.json")
    federation = connect_federation(location)
    accepted = {who for row in result["rounds"] for who in row["accepted"]}
    assert len(accepted) == 4
    for who in accepted:
        outcomes = [each.outcome for each in round_results(federation, who)]
        assert outcomes == [Outcome.PAID] * 2
