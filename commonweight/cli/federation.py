"""`commonweight federation`: create a federation, and look at one."""

from pathlib import Path
from typing import Any

import click

from chain.location import FederationLocation
from commonweight.cli.options import (
    DEFAULT_IPFS,
    DEFAULT_RPC,
    PATH,
    as_json,
    federation_option,
    plain_failures,
    print_json,
)
from commonweight.cli.running import wallet_opener
from runtime.home import federation_file
from sponsor.create import create_federation
from sponsor.show import describe_federation, print_federation


@click.group()
def federation() -> None:
    """Create a federation, or look at one."""


@federation.command("show")
@federation_option
@as_json
@plain_failures
def federation_show(federation: Path | None, json_output: bool) -> None:
    """Show the terms, the participants and every round.

    \b
    Example: commonweight federation show
    """
    location = FederationLocation.load(federation_file(federation))
    described = describe_federation(location)
    if json_output:
        print_json(described)
    else:
        print_federation(described)


@federation.command("create")
@click.option("--config", type=PATH, required=True, help="What to train and on which terms.")
@click.option("--keystore", type=PATH, required=True, help="The sponsor's wallet.")
@click.option("--password-file", type=PATH, help="Default: asked for.")
@click.option("--aggregator", "aggregators", multiple=True, required=True, help="May be repeated.")
@click.option("--token", help="An ERC-20 with 18 decimals. Default: a new development token.")
@click.option("--rpc", "rpc_url", default=DEFAULT_RPC, show_default=True)
@click.option("--ipfs", "ipfs_url", default=DEFAULT_IPFS, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the initial adapter.")
@click.option("--output", type=PATH, default=Path("federation.json"), show_default=True)
@as_json
@plain_failures
def federation_create(
    output: Path, keystore: Path, password_file: Path | None, json_output: bool, **options: Any
) -> None:
    """Deploy a federation, put its rewards into escrow and write OUTPUT for its participants.

    The first --aggregator is the active one, the others stand by in this order. If it is
    interrupted before the escrow is full, the same command continues.

    \b
    Example: commonweight federation create --config configs/demo.toml --keystore sponsor.json \\
               --aggregator 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    # Opened first: a wrong password is reported before anything is pinned or deployed.
    wallet = wallet_opener(keystore, password_file)()
    created = create_federation(output, wallet=wallet, **options)
    if json_output:
        print_json(created)
        return
    for key, value in created.items():
        click.echo(f"{key:<12} {value}")
