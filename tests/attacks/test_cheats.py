"""What each cheat earns beside four honest participants, in a federation that measures help.

One seat cheats in another way each round. Figures of real models are in docs/incentives.md; here
losses are those of real arrays in a bowl.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from contracts.enums import Status
from node.participant import Participant, Trainer
from protocol.checks import Check
from protocol.types import RoundId
from rounds.average import average_layers
from rounds.rebuild import obtain_model
from storage.layers import LayerFolder
from tests.attacks.cheats import (
    CopyOfBefore,
    Extreme,
    Flipped,
    LastMovement,
    Noise,
    NoisedCopy,
    NoisedMovement,
    OwnLastUpdate,
    Seen,
    SharedTraining,
    TenthOfTheSteps,
    Weak,
    WeakForTheCap,
    Zero,
)
from tests.scored import Bowl, Learner, Shuffled, scored_spec, scored_world
from tests.world import World

pytestmark = pytest.mark.long

HONEST = ("ann", "bob", "cem", "dee")
MOST = 0.05  # of an honest participant's pay

Make = Callable[[Participant], Trainer]

CAUGHT: dict[str, Make] = {
    "zero": lambda who: Zero(Seen.by(who)),
    "weak": lambda who: Weak(Seen.by(who)),
    "weak, for the cap": lambda who: WeakForTheCap(Seen.by(who)),
    "noise": lambda who: Noise(Seen.by(who)),
    "flipped": lambda who: Flipped(Learner("eve")),
    "extreme": lambda who: Extreme(Seen.by(who)),
    "shuffled answers": lambda who: Shuffled("eve"),
    "copy of another": lambda who: SharedTraining(Learner("ann")),
    "copy of the round before": lambda who: CopyOfBefore(Seen.by(who)),
    "last movement": lambda who: LastMovement(Seen.by(who)),
    # After a round in which it did the work.
    "honest": lambda who: Learner("eve"),
    "own update of the round before": lambda who: OwnLastUpdate(Seen.by(who)),
}
"""What must earn next to nothing, but for the honest round among them."""

CHECKS = {
    "zero": Check.ZERO,
    "copy of another": Check.DUPLICATE,
    "copy of the round before": Check.SIMILAR,
    "last movement": Check.SIMILAR,
    "own update of the round before": Check.SIMILAR,
}
FOUND: dict[str, Make] = {
    "movement, cosine 0.85": lambda who: NoisedMovement(Seen.by(who), 0.85),
    "movement, cosine 0.6": lambda who: NoisedMovement(Seen.by(who), 0.6),
    "movement, cosine 0.4": lambda who: NoisedMovement(Seen.by(who), 0.4),
    "copy, cosine 0.85": lambda who: NoisedCopy(Learner("ann"), 0.85),
    "copy, cosine 0.6": lambda who: NoisedCopy(Learner("ann"), 0.6),
    "a tenth of the steps": lambda who: TenthOfTheSteps(Learner("eve")),
}
"""What passes every check."""


@dataclass(frozen=True)
class Played:
    """A cheat's round: its pay in parts of an honest one's, the check that rejected it, or 0.

    `loss` is that after the round, `alone` that of the average of the four honest updates.
    """

    pay: float
    check: int
    loss: float
    alone: float


def play(folder: Path, gain: str, script: Mapping[str, Make]) -> dict[str, Played]:
    """Play a round for each cheat, after an honest one, and audit them all."""
    names = (*HONEST, "eve")
    spec = scored_spec(gain)
    with scored_world(folder, *names, spec=spec, rounds=len(script) + 1) as world:
        assert world.play() is Status.FINALIZED
        played = {name: play_round(world, make) for name, make in script.items()}
        assert [line.line() for line in world.audit() if not line.passed] == []
        return played


def play_round(world: World, make: Make) -> Played:
    """Play one round in which eve sends what the cheat makes up."""
    cheat, before = world.participants["eve"], credits(world)
    cheat.trainer = make(cheat)
    world.reports.clear()
    assert world.play() is Status.FINALIZED
    earned = {name: credit - before[name] for name, credit in credits(world).items()}
    honest = sum(earned[name] for name in HONEST) / len(HONEST)
    rejected = world.rejections()
    assert set(rejected) <= {"eve"}
    check, _ = rejected.get("eve", (0, ""))
    round_id = RoundId(world.client().round_count())
    context = world.aggregator._context(world.client(), round_id)
    updates = [context.update_folder(world.address_of(name)) for name in HONEST]
    alone = LayerFolder(world.folder / "alone", "model")
    average_layers(world.spec, obtain_model(context), updates, [25] * 4, alone, round_id)
    bowl = Bowl(world.spec)
    return Played(earned["eve"] / honest, check, bowl(context.new_model), bowl(alone))


def credits(world: World) -> dict[str, int]:
    return {name: world.client().credit_of(world.address_of(name)) for name in world.names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    return play(tmp_path_factory.mktemp("whole"), "whole", {**CAUGHT, **FOUND})


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    return play(tmp_path_factory.mktemp("new"), "new", FOUND)


@pytest.mark.parametrize("name", [name for name in CAUGHT if name != "honest"])
def test_a_cheat_earns_next_to_nothing(name: str, whole: dict[str, Played]) -> None:
    played = whole[name]
    assert played.pay <= MOST
    # What earns nothing without a check is found by its loss alone; harm may be left out.
    assert played.check in ({CHECKS[name]} if name in CHECKS else {0, Check.HARM})


@pytest.mark.parametrize("name", [*CAUGHT, *FOUND])
def test_no_cheat_makes_the_loss_worse_than_a_round_without_it(
    name: str, whole: dict[str, Played]
) -> None:
    assert whole[name].loss <= 1.02 * whole[name].alone


def test_a_fifth_honest_participant_earns_like_the_others(whole: dict[str, Played]) -> None:
    assert 0.7 < whole["honest"].pay < 1.4


@pytest.mark.parametrize("cosine", [0.85, 0.6, 0.4])
def test_a_noised_resend_earns_nothing_by_what_is_new_in_it(
    cosine: float, new: dict[str, Played]
) -> None:
    played = new[f"movement, cosine {cosine}"]
    assert played.pay <= MOST
    assert not played.check


def test_a_noised_resend_earns_like_honest_work_where_the_whole_counts(
    whole: dict[str, Played],
) -> None:
    """A finding, not a wish: going on as before still lowers the loss, whoever sends it."""
    assert whole["movement, cosine 0.85"].pay > 0.5
    assert not whole["movement, cosine 0.85"].check


def test_noised_copies_of_the_same_round_earn_less_with_more_noise(
    whole: dict[str, Played], new: dict[str, Played]
) -> None:
    """Another finding: two seats that share one training."""
    for played in (whole, new):
        assert MOST < played["copy, cosine 0.6"].pay < played["copy, cosine 0.85"].pay < 1.2


def test_a_tenth_of_the_steps_earns_about_a_tenth(whole: dict[str, Played]) -> None:
    assert 0.05 < whole["a tenth of the steps"].pay < 0.2
