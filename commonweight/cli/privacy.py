"""`commonweight privacy`: plant canaries among the own data, and measure what a round leaks."""

from pathlib import Path

import click

from commonweight.cli.options import PATH, as_json, fail, plain_failures, print_json
from commonweight.cli.participant import config_option
from node.canaries import Canaries
from node.privacy_audit import audit_round, describe_audit
from node.settings import ParticipantSettings
from protocol.types import RoundId


@click.group()
def privacy() -> None:
    """Measure what rounds say of a participant's data."""


@privacy.command("plant")
@click.option("--out", type=PATH, default=Path("canaries.json"), show_default=True)
@click.option("--canaries", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--times",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How often each is among the data.",
)
@plain_failures
def plant(out: Path, canaries: int, times: int) -> None:
    """Draw canaries: record numbers of patients that do not exist, and as many to compare with.

    They are trained on once participant.toml names the file: that is yours to decide, since what is
    trained on them is part of your update. Nobody else can tell them from data.

    \b
    Example: commonweight privacy plant --out canaries.json
    """
    if out.exists():
        fail(f"{out} is there already: what it has may have been trained on")
    Canaries.make(canaries, times).write(out)
    click.echo(f"{canaries} canaries, {times} times each, and {canaries} to compare with: {out}")
    click.echo(f'to plant them, write canaries = "{out}" under [privacy] in participant.toml')


@privacy.command("audit")
@config_option
@click.option("--round", "round_id", type=click.IntRange(min=1), help="Default: the newest.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="The most to look for of each kind.",
)
@click.option(
    "--controls", type=PATH, help="Rows like your data that were never trained on (.jsonl)."
)
@as_json
@plain_failures
def audit(
    config: Path, round_id: int | None, rows: int, controls: Path | None, json_output: bool
) -> None:
    """Look for planted canaries and for your rows in what a round made public.

    Looks at your update, at the round's model and, where updates are masked, at the sketch, as an
    outsider who knows the model before; and says for each whether that is at chance. Trains
    nothing, and sends nothing. A result at chance is no proof.

    \b
    Example: commonweight privacy audit --config participant.toml --round 3
    """
    settings = ParticipantSettings.load(config)
    wanted = None if round_id is None else RoundId(round_id)
    found = audit_round(settings, wanted, rows, controls)
    if json_output:
        print_json(found)
    else:
        for line in describe_audit(found):
            click.echo(line)
