"""Run a cheat as a participant: `python -m tests.attacks.play CHEAT --config FILE`.

FILE is a participant.toml as `commonweight participant init` writes it, or one of a devnet's. A
cheat that copies another seat's training has that seat's examples as its `data`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from commonweight.cli.options import PATH, plain_failures
from commonweight.cli.running import Running, running_options, running_role, wallet_opener
from node.follower import Follower, open_participant
from node.participant import Participant, Trainer
from node.settings import ParticipantSettings
from node.trainer import LocalTrainer
from protocol.errors import Misconfigured
from runtime.service import alone
from tests.attacks import cheats
from tests.attacks.cheats import Seen

Make = Callable[[Participant, Trainer], Trainer]

CHEATS: Final[dict[str, Make]] = {
    "zero": lambda who, honest: cheats.Zero(Seen.by(who)),
    "weak": lambda who, honest: cheats.Weak(Seen.by(who)),
    "weak-for-the-cap": lambda who, honest: cheats.WeakForTheCap(Seen.by(who)),
    "noise": lambda who, honest: cheats.Noise(Seen.by(who)),
    "flipped": lambda who, honest: cheats.Flipped(honest),
    "extreme": lambda who, honest: cheats.Extreme(Seen.by(who)),
    "shared-training": lambda who, honest: cheats.SharedTraining(honest),
    "noised-copy-0.85": lambda who, honest: cheats.NoisedCopy(honest, 0.85),
    "noised-copy-0.6": lambda who, honest: cheats.NoisedCopy(honest, 0.6),
    "copy-of-before": lambda who, honest: cheats.CopyOfBefore(Seen.by(who)),
    "own-last-update": lambda who, honest: cheats.OwnLastUpdate(Seen.by(who)),
    "last-movement": lambda who, honest: cheats.LastMovement(Seen.by(who)),
    "noised-movement-0.85": lambda who, honest: cheats.NoisedMovement(Seen.by(who), 0.85),
    "noised-movement-0.6": lambda who, honest: cheats.NoisedMovement(Seen.by(who), 0.6),
    "noised-movement-0.4": lambda who, honest: cheats.NoisedMovement(Seen.by(who), 0.4),
    "shuffled-answers": lambda who, honest: shuffled(who, honest),
    "tenth-of-the-steps": lambda who, honest: cheats.TenthOfTheSteps(honest),
    "honest": lambda who, honest: honest,
}


def shuffled(who: Participant, honest: Trainer) -> Trainer:
    """Return a trainer on the same questions with the answers of others."""
    if not isinstance(honest, LocalTrainer) or not isinstance(honest.data, Path):
        raise Misconfigured("shuffled answers need a file of examples")
    honest.data = cheats.shuffle_answers(honest.data, who.state / "shuffled.jsonl")
    return honest


@click.command()
@click.argument("cheat", type=click.Choice(sorted(CHEATS)))
@click.option("--config", type=PATH, default=Path("participant.toml"), show_default=True)
@running_options
@plain_failures
def main(cheat: str, config: Path, running: Running) -> None:
    """Take part in a federation as CHEAT."""
    settings = ParticipantSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    with (
        running_role(running, f"{settings.name}, {cheat}", settings) as (service, report),
        alone(settings.state, settings.keystore),
    ):
        wallet = opener()
        participant: Any = service.insist(lambda: open_participant(settings, wallet, report))
        participant.trainer = CHEATS[cheat](participant, participant.trainer)
        service.keep(Follower(participant, settings).step)


if __name__ == "__main__":
    main()
