"""What a sponsor is told of attacks at its terms follows from them."""

from pathlib import Path

from sponsor.attacks import assess
from sponsor.config import Config
from tests.terms import configured

DEMO = Config.load(Path(__file__).parents[2] / "configs" / "demo.toml")
NOISE = "noise of an honest length in place of training"
MOVEMENT = "the model's last movement again, with noise"
ZERO = "the score 0 for everybody, to save the sponsor the price"


def paying(config: Config) -> dict[str, str]:
    return {each.attack: each.why for each in assess(config) if each.pays}


def test_noise_pays_unless_help_is_measured() -> None:
    # 250 tokens a round, three rounds.
    assert "250.00 a round and seat, 750.00 in all" in paying(DEMO)[NOISE]
    assert NOISE not in paying(configured(DEMO, scoring="heldOut"))
    assert NOISE not in paying(configured(DEMO, update_reward=0.0))


def test_a_resent_movement_pays_unless_only_what_is_new_counts() -> None:
    assert MOVEMENT in paying(DEMO)
    assert MOVEMENT in paying(configured(DEMO, scoring="heldOut", score_gain="whole"))
    assert MOVEMENT not in paying(configured(DEMO, scoring="heldOut"))


def test_what_a_lead_that_zero_scores_everybody_saves_the_sponsor() -> None:
    measured = configured(DEMO, scoring="heldOut")
    # Eight seats of 250 tokens, three rounds.
    assert "saves 2,000.00 a round, 6,000.00 in all" in paying(measured)[ZERO]
    # With equal scores no such proposal stands.
    assert ZERO not in {each.attack for each in assess(DEMO)}


def test_windows_and_penalties_decide_the_rest() -> None:
    wrong, withhold = "a wrong average, weight, or reason 9 or 10", "withhold the model"
    assert wrong not in paying(DEMO)
    assert wrong in paying(configured(DEMO, challenge_seconds=0))
    assert any(attack.startswith(withhold) for attack in paying(DEMO))
    strict = configured(DEMO, challenge_seconds=3_600, response_seconds=600)
    assert not any(attack.startswith(withhold) for attack in paying(strict))
    held = "commit and do not reveal, to hold a round up"
    assert held not in paying(DEMO)
    assert held in paying(configured(DEMO, missed_reveal_penalty=0.0))


def test_every_attack_is_a_line_and_an_object() -> None:
    for attack in assess(DEMO):
        assert attack.line().startswith("PAYS" if attack.pays else "no")
        assert set(attack.as_json()) == {"who", "attack", "pays", "why"}
