"""`commonweight store`: whether a role's store works and another's is found, and where it is."""

import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import click

from aggregator.settings import AggregatorSettings
from chain.announcements import read_announcements
from chain.federation import connect_federation
from chain.location import FederationLocation
from commonweight.cli.options import PATH, as_json, fail, plain_failures, print_json
from commonweight.cli.running import wallet_opener
from ethereum.transactions import SendingLimits
from node.settings import ParticipantSettings
from protocol.types import read_address
from runtime.announcing import announce_now
from runtime.settings import RoleSettings
from runtime.store_check import check_store

config_option = click.option(
    "--config",
    type=PATH,
    help="A role's settings. Default: participant.toml, else aggregator.toml.",
)


@click.group()
def store() -> None:
    """Check a role's store and where others say that theirs is, and announce it."""


@store.command("check")
@click.argument("address", required=False)
@config_option
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


@store.command("announce")
@config_option
@as_json
@plain_failures
def announce(config: Path | None, json_output: bool) -> None:
    """Say on chain now where this role's blocks are, as its settings name it.

    A role that runs says so by itself, but at most once a day: this is for a store that has moved.
    It costs about 30,000 gas and stands on chain for ever.

    \b
    Example: commonweight store announce --config aggregator.toml
    """
    settings = _load(config)
    wallet = wallet_opener(settings.keystore, settings.password_file)()
    limits = SendingLimits(max_fee_per_gas=settings.max_fee_per_gas)
    federation = connect_federation(FederationLocation.load(settings.federation), wallet, limits)
    receipt = announce_now(federation, settings.store)
    places = settings.store.whereabouts.splitlines()
    is_read = any(each.who == wallet.address for each in read_announcements(federation.now()))
    if json_output:
        gas = None if receipt is None else receipt.gas_used
        print_json({"places": places, "gas": gas, "is_read": is_read})
        return
    how = "stands already" if receipt is None else f"announced for {receipt.gas_used:,} gas"
    click.echo(f"{how}: {', '.join(places)}")
    if not is_read:
        click.echo(f"nobody reads it: {wallet.address} has no part in {federation.address} yet")


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
