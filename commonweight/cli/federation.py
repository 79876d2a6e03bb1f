"""`commonweight federation`: look at a federation."""

from pathlib import Path

import click

from commonweight.cli.options import as_json, federation_option, plain_failures, print_json


@click.group()
def federation() -> None:
    """Look at a federation."""


@federation.command("show")
@federation_option
@as_json
@plain_failures
def federation_show(federation: Path | None, json_output: bool) -> None:
    """Show the terms, the participants and every round.

    \b
    Example: commonweight federation show
    """
    from chain.location import FederationLocation
    from commonweight.home import federation_file
    from commonweight.show import describe_federation, print_federation

    location = FederationLocation.load(federation_file(federation))
    described = describe_federation(location)
    if json_output:
        print_json(described)
    else:
        print_federation(described)
