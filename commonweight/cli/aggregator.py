"""`commonweight aggregator`: lead a federation's rounds, or stand by."""

from pathlib import Path
from typing import Any

import click

from aggregator.leader import run_aggregator
from aggregator.preflight import AggregatorPreflight
from aggregator.settings import AggregatorSettings
from aggregator.status import aggregator_status, print_aggregator
from commonweight.cli.options import PATH, as_json, plain_failures, print_json
from commonweight.cli.running import Running, running_options, running_role, wallet_opener
from commonweight.cli.setup import Setup, conclude, report_findings, setup_options
from commonweight.located import locate

config_option = click.option(
    "--config",
    type=PATH,
    default=Path("aggregator.toml"),
    show_default=True,
    help="The aggregator's settings.",
)

dev_option = click.option(
    "--dev", is_flag=True, help="Do without a gateway, as on a development chain."
)


@click.group()
def aggregator() -> None:
    """Lead a federation's rounds, or stand by."""


@aggregator.command("run")
@config_option
@dev_option
@running_options
@plain_failures
def run(config: Path, dev: bool, running: Running) -> None:
    """Open rounds, screen, average, propose and settle, until the federation is over.

    Driven by the contract's deadlines alone. If it is killed, the same command resumes where it
    was; SIGTERM ends it within seconds and with exit code 0. It bonds once the gateway that it
    announces shows its store.

    \b
    Example: commonweight aggregator run --config aggregator.toml
    """
    settings = AggregatorSettings.load(config)
    opener = wallet_opener(settings.keystore, settings.password_file)
    with running_role(running, "aggregator", settings) as role:
        run_aggregator(settings, opener, *role, dev=dev)


@aggregator.command("init")
@setup_options
@dev_option
@click.option("--model", help="The base model, where updates are scored by the held-out loss.")
@plain_failures
def init(folder: Path, yes: bool, dev: bool, model: str | None, **given: Any) -> None:
    """Check everything that aggregating needs, and write aggregator.toml.

    Prints one line per check. Exits 1 when anything is missing; put it right and run this again.

    \b
    Example: commonweight aggregator init --federation federation.json \\
               --keystore wallet.json --password-file wallet.password
    """
    setup = Setup(folder, "aggregator", given, ask=not yes)
    answers = setup.answers()
    found = model or setup.remembered("model")
    preflight = AggregatorPreflight(answers, found, setup.folder / "cache", dev=dev)
    missing = report_findings(preflight.findings())
    # Written even when something is missing, so that the next attempt asks for nothing twice; but
    # not without a contract, since federation.json would name nothing.
    if preflight.location is not None:
        setup.write(answers, preflight.location, **({} if found is None else {"model": found}))
    written = None if preflight.location is None else setup.file
    conclude(missing, written, f"commonweight aggregator run --config {setup.file}")


@aggregator.command("status")
@config_option
@as_json
@plain_failures
def status(config: Path, json_output: bool) -> None:
    """Show what it is doing, what it earned, and what the federation has left to pay with."""
    settings = AggregatorSettings.load(config)
    locate(settings.federation)
    described = aggregator_status(settings)
    if json_output:
        print_json(described)
    else:
        print_aggregator(described, click.echo)
