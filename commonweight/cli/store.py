"""`commonweight store`: whether a role's store works, and another's is found."""

import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import click

from aggregator.settings import AggregatorSettings
from commonweight.cli.options import PATH, as_json, fail, plain_failures, print_json
from node.settings import ParticipantSettings
from protocol.types import read_address
from runtime.settings import RoleSettings
from runtime.store_check import check_store


@click.group()
def store() -> None:
    """Check a role's store, and where others say that theirs is."""


@store.command("check")
@click.argument("address", required=False)
@click.option(
    "--config",
    type=PATH,
    help="A role's settings. Default: participant.toml, else aggregator.toml.",
)
@as_json
@plain_failures
def check(address: str | None, config: Path | None, json_output: bool) -> None:
    """Write as much as an update to the own store and read it back from where others will.

    With ADDRESS, also ask each place that this account announced: a peer through the own daemon, a
    gateway directly. Exits with 1 when something does not answer.

    \b
    Example: commonweight store check 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    settings = _load(config)
    asked = None if address is None else read_address(address)
    rows, failed = [], 0
    for finding in check_store(settings, asked):
        failed += not finding.is_ok
        rows.append({"subject": finding.subject, "ok": finding.is_ok, "text": finding.text})
        if not json_output:
            click.echo(finding.line())
    if json_output:
        print_json(rows)
        sys.exit(1 if failed else 0)
    if failed:
        fail(f"{failed} of {len(rows)} checks failed")


def _load(config: Path | None) -> RoleSettings:
    """Return the settings of whichever role the file is of."""
    file = config or next(
        (Path(name) for name in ("participant.toml", "aggregator.toml") if Path(name).exists()),
        Path("participant.toml"),
    )
    trains = True
    with suppress(OSError, ValueError):  # which loading it reports
        trains = "model" in tomllib.loads(file.read_text())
    return ParticipantSettings.load(file) if trains else AggregatorSettings.load(file)
