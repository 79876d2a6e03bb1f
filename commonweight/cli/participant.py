"""`commonweight participant`: take part in a federation."""

from pathlib import Path

import click

from commonweight.cli.options import plain_failures
from commonweight.cli.running import Running, running_options, running_role, wallet_opener

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("participant.toml"),
    show_default=True,
    help="The participant's settings.",
)


@click.group()
def participant() -> None:
    """Take part in a federation."""


@participant.command("run")
@config_option
@running_options
@plain_failures
def participant_run(config: Path, running: Running) -> None:
    """Join, and train in every round that asks for it, until the federation is over.

    Follows the contract by itself. Killed at any point it goes on where it was; SIGTERM ends it
    within seconds and with exit code 0.

    \b
    Example: commonweight participant run --config participant.toml
    """
    from node.ledger import run_participant
    from node.settings import ParticipantSettings

    settings = ParticipantSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    with running_role(running, settings.name, settings.progress, settings.poll_seconds) as role:
        run_participant(settings, opener, *role)
