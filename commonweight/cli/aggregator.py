"""`commonweight aggregator`: lead a federation's rounds, or stand by."""

from pathlib import Path

import click

from commonweight.cli.options import plain_failures
from commonweight.cli.running import Running, running_options, running_role, wallet_opener

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("aggregator.toml"),
    show_default=True,
    help="The aggregator's settings.",
)


@click.group()
def aggregator() -> None:
    """Lead a federation's rounds, or stand by."""


@aggregator.command("run")
@config_option
@running_options
@plain_failures
def aggregator_run(config: Path, running: Running) -> None:
    """Open rounds, screen, average, propose and settle, until the federation is over.

    Driven by the contract's deadlines alone. Killed at any point it goes on where it was; SIGTERM
    ends it within seconds and with exit code 0.

    \b
    Example: commonweight aggregator run --config aggregator.toml
    """
    from aggregator.ledger import run_aggregator
    from aggregator.settings import AggregatorSettings

    settings = AggregatorSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    with running_role(running, "aggregator", settings.progress, settings.poll_seconds) as role:
        run_aggregator(settings, opener, *role)
