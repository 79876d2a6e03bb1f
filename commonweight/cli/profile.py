"""`commonweight profile`: where a run's time, bytes and memory went."""

from pathlib import Path

import click

from commonweight.cli.options import as_json, plain_failures, print_json


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="Show every layer, not the slowest five.")
@as_json
@plain_failures
def profile(run: Path | None, layers: bool, json_output: bool) -> None:
    """Show what each phase and layer of RUN took: time, bytes in and out, peak memory.

    RUN is a run's folder, as `commonweight demo` names it, or the state folder of a participant or
    an aggregator. Default: the newest run. Last comes the communication budget as FlowerTune counts
    it, beside what sending all weights would have taken.

    \b
    Example: commonweight profile state --layers
    """
    from commonweight.profile import describe_profile
    from commonweight.profile_view import print_profile

    described = describe_profile(run)
    if json_output:
        print_json(described)
    else:
        print_profile(described, layers)
