"""A demo that pays by measured help, with the tiny model: what a user sees of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commonweight.program import TINY, Program

PRICE = 250 * 10**18

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("home"))
    yield program
    program.run("devnet", "down")


@pytest.fixture(scope="module")
def result(program: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    text = TINY.read_text().replace('"flashcards/', f'"{TINY.parent}/flashcards/')
    config = tmp_path_factory.mktemp("config") / "scored.toml"
    config.write_text(text.replace("rounds = 3", "rounds = 2") + '\n[rules]\nscoring = "heldOut"\n')
    played: dict[str, Any] = program.json("demo", "--config", str(config), "--keep")
    return played


def test_everybody_is_paid_by_its_score_and_the_audit_evaluates_the_same_losses(
    program: Program, result: dict[str, Any]
) -> None:
    # With --model: every loss behind a score was evaluated again.
    assert result["audit"]["failed"] == 0
    paid: dict[str, int] = {}
    for row in result["rounds"]:
        for who, score in row["scores"].items():
            paid[who] = paid.get(who, 0) + PRICE * score // 10_000
        assert max(row["scores"].values()) == 10_000
    earned = {who: amount for who, amount in result["paid"].items() if who in result["names"]}
    assert {who: amount for who, amount in paid.items() if amount} == earned
    scored = [line for line in program.progress() if line["phase"] == "scored"]
    assert len(scored) == sum(len(row["scores"]) for row in result["rounds"])
    assert all("held-out loss" in line["reason"] for line in scored)
    assert not [line for line in program.progress() if line["phase"] == "not scored"]


def test_scoring_has_its_place_in_the_profile(program: Program, result: dict[str, Any]) -> None:
    profile = program.json("profile", result["folder"])
    times = {(row["role"], row["phase"]): row["times"] for row in profile["phases"]}
    assert times["aggregator", "score"] == 2


def test_a_participant_and_an_auditor_are_told_why(
    program: Program, result: dict[str, Any]
) -> None:
    settings = Path(result["folder"]) / "participants" / "0" / "participant.toml"
    shown = program.here("participant", "status", "--config", str(settings))
    assert "the held-out loss" in shown
    # Without the base model the scores are checked, and their losses are not.
    page = program.home / "audit.html"
    program.run(
        "audit", "run", result["federation"], *endpoints(result), "--report", str(page), code=3
    )
    assert "it lowers the loss by" in page.read_text()


def endpoints(result: dict[str, Any]) -> list[str]:
    """Return the options that name the devnet's chain and store."""
    location = json.loads((Path(result["folder"]) / "federation.json").read_text())
    return ["--rpc", location["rpc_url"], "--ipfs", location["ipfs_url"], "--no-cache"]
