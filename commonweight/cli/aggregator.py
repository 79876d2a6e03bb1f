"""`commonweight aggregator`: lead a federation's rounds, or stand by."""

from pathlib import Path
from typing import Any

import click

from commonweight.cli.options import as_json, plain_failures, print_json
from commonweight.cli.running import Running, running_options, running_role, wallet_opener
from commonweight.cli.setup import Setup, conclude, report_findings, setup_options

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
    from aggregator.leader import run_aggregator
    from aggregator.settings import AggregatorSettings

    settings = AggregatorSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    with running_role(running, "aggregator", settings) as role:
        run_aggregator(settings, opener, *role)


@aggregator.command("init")
@setup_options
@plain_failures
def aggregator_init(folder: Path, yes: bool, **given: Any) -> None:
    """Check everything that aggregating needs, and write aggregator.toml.

    Prints a line a check. Exits 1 when anything is missing; run it again once that is put right.

    \b
    Example: commonweight aggregator init --federation federation.json \\
               --keystore wallet.json --password-file wallet.password
    """
    from aggregator.preflight import AggregatorPreflight

    setup = Setup(folder, "aggregator", given, ask=not yes)
    answers = setup.answers()
    preflight = AggregatorPreflight(answers)
    missing = report_findings(preflight.findings())
    if preflight.location is not None:
        setup.write(answers, preflight.location)
    written = None if preflight.location is None else setup.file
    conclude(missing, written, f"commonweight aggregator run --config {setup.file}")


@aggregator.command("status")
@config_option
@as_json
@plain_failures
def aggregator_status(config: Path, json_output: bool) -> None:
    """Say what it is doing, what it earned, and what the federation has left to pay with."""
    from aggregator.settings import AggregatorSettings
    from aggregator.status import aggregator_status, print_aggregator

    status = aggregator_status(AggregatorSettings.load(config))
    if json_output:
        print_json(status)
    else:
        print_aggregator(status, click.echo)
