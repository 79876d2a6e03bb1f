"""`commonweight aggregate`: average checkpoints without a federation."""

from pathlib import Path

import click

from commonweight.cli.options import as_json, plain_failures, print_json


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--weights", help="One positive integer a checkpoint, as 3,1. Default: all 1.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--fraction-bits", default=24, show_default=True, help="A value is n / 2^bits.")
@as_json
@plain_failures
def aggregate(
    checkpoints: tuple[Path, ...],
    weights: str | None,
    output: Path,
    fraction_bits: int,
    json_output: bool,
) -> None:
    """Average safetensors CHECKPOINTS exactly, without training, chain or loading a model.

    A checkpoint is a file, or a folder with shards and their index. Writes layer files and
    layers.json, and prints the tree root, the same on every machine.

    \b
    Example: commonweight aggregate ann.safetensors bob.safetensors --weights 3,1 --output mean
    """
    from commonweight.model.average import aggregate as average
    from protocol.errors import Misconfigured

    try:
        numbers = [int(n) for n in weights.split(",")] if weights else [1] * len(checkpoints)
    except ValueError:
        raise Misconfigured(f"weights {weights!r}: integers as 3,1 were expected") from None
    result = average(checkpoints, numbers, output, fraction_bits)
    if json_output:
        print_json(result)
    else:
        click.echo(f"root    {result['root']}")
        click.echo(f"layers  {len(result['layers'])}, {result['bytes']:,} bytes in {output}")
