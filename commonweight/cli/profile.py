"""`commonweight profile`: where a run's time, bytes and memory went."""

from pathlib import Path

import click

from commonweight.cli.options import PATH, as_json, fail, plain_failures, print_json
from profiling.display import print_profile
from profiling.summary import describe_profile
from runtime.home import newest_run


@click.command()
@click.argument("run", required=False, type=PATH)
@click.option("--layers", is_flag=True, help="Show every layer, not the slowest five.")
@as_json
@plain_failures
def profile(run: Path | None, layers: bool, json_output: bool) -> None:
    """Show what each phase and layer of RUN took: time, bytes, and peak memory.

    RUN is a run's folder, as `commonweight demo` names it, or the state folder of a participant or
    an aggregator. Default: the newest run. The last table is the communication budget as FlowerTune
    counts it, beside what sending all weights would have taken.

    \b
    Example: commonweight profile state --layers
    """
    folder = run or newest_run()
    if folder is None:
        fail("no run: name a run's folder or a role's state folder")
    described = describe_profile(folder)
    if json_output:
        print_json(described)
    else:
        print_profile(described, layers)
