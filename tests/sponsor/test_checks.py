"""What a sponsor is told, and what is refused, before money goes into a federation."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chain.development import is_development_chain
from protocol.errors import Misconfigured
from sponsor.chains import describe_misfits
from sponsor.checks import check_chain, check_evaluations, check_windows
from sponsor.config import Config, RulesSection, WindowsSection
from tests.terms import configured

SOUND: dict[str, Any] = {
    "commit_seconds": 3_600,
    "reveal_seconds": 3_600,
    "propose_seconds": 3_600,
    "challenge_seconds": 7_200,
    "response_seconds": 1_800,
    "unbonding_seconds": 10_800,
}


def windows(**changes: Any) -> WindowsSection:
    return WindowsSection.model_validate({**SOUND, **changes})


def test_windows_that_strangers_can_live_with_pass() -> None:
    check_windows(windows())
    check_windows(windows(challenge_seconds=3_600, response_seconds=600))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"challenge_seconds": 3_599, "response_seconds": 600}, "challenge_seconds is 3599"),
        ({"response_seconds": 599}, "response_seconds is 599"),
        ({"response_seconds": 0}, "nobody can request a leaf that is withheld"),
    ],
)
def test_windows_for_development_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Misconfigured, match=f"{words}.*: give --dev for a federation to try"):
        check_windows(windows(**changes))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(Misconfigured, match=r"challenge_seconds is 2, .*; response_seconds is 0"):
        check_windows(windows(challenge_seconds=2, response_seconds=0))


def test_windows_that_the_contract_refuses_are_no_configuration() -> None:
    for changes in (
        {"response_seconds": 2_401},  # more than a third of the challenge window
        {"unbonding_seconds": 10_799},  # less than commit, reveal and propose together
        {"commit_seconds": 30 * 86_400 + 1},
        {"open_days": 5 * 365 + 1},
    ):
        with pytest.raises(ValueError, match=next(iter(changes)).partition("_")[0]):
            windows(**changes)


def test_nothing_is_asked_on_a_development_chain() -> None:
    assert check_chain(31337, understood=False) == []
    assert is_development_chain(1337)


def test_a_public_chain_is_named_as_one() -> None:
    with pytest.raises(Misconfigured, match=r"chain 1 is public, and nobody has audited .*--i-und"):
        check_chain(1, understood=False)
    (line,) = check_chain(1, understood=True)
    assert "may be lost" in line


@pytest.mark.parametrize(
    ("chain_id", "words"),
    [
        (42161, "on Arbitrum One block hashes are no source of randomness"),
        (421614, "on Arbitrum Sepolia"),
        (42170, "on Arbitrum Nova"),
        (59144, "on Linea prevrandao is constant"),
        (59141, "on Linea Sepolia"),
        (10, "on OP Mainnet the sequencer sets prevrandao"),
        (8453, "on Base the sequencer"),
    ],
)
def test_what_a_chain_lacks_is_named(chain_id: int, words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        check_chain(chain_id, understood=False)
    assert any(words in line for line in check_chain(chain_id, understood=True))


def test_chains_like_ethereum_lack_nothing() -> None:
    for chain_id in (1, 11155111, 100, 137):
        assert describe_misfits(chain_id) == []


DEMO = Path(__file__).parents[2] / "configs" / "demo.toml"


def test_scoring_that_takes_more_than_half_of_the_propose_phase_is_refused() -> None:
    # Eight seats in 900 s: nine evaluations of 50 s.
    config = configured(Config.load(DEMO), scoring="heldOut")
    check_evaluations(config, 50.0)
    with pytest.raises(Misconfigured, match=r"9 evaluations .* of 50.1 s each, 451 s, and half of"):
        check_evaluations(config, 50.1)
    check_evaluations(configured(config, scoring="equal"), 1e6)


def test_masks_and_measured_help_exclude_each_other() -> None:
    asked = {"privacy": "masked", "scoring": "heldOut"}
    with pytest.raises(ValidationError, match="exclude each other: what an update helps") as caught:
        RulesSection.model_validate(asked)
    assert len(caught.value.errors()) == 1


def test_how_help_is_measured_is_part_of_the_spec_only_where_it_is() -> None:
    rules = RulesSection.model_validate(
        {"scoring": "heldOut", "score_gain": "new", "loss_tolerance": 0.0005}
    )
    assert rules.held_out is not None
    assert rules.held_out.model_dump() == {"gain": "new", "tolerance": 500}
    assert RulesSection().held_out is None
