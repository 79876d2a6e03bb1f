"""`commonweight model`: use a federation's model, and average checkpoints without a federation."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial, wraps
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import click

from commonweight.cli.options import (
    PATH,
    as_json,
    fail,
    federation_option,
    fields_option,
    plain_failures,
    print_json,
    read_fields,
    working,
)
from commonweight.model.adapters import Place, federated_adapter
from commonweight.model.average import average_checkpoints
from commonweight.model.chat import open_chat
from commonweight.model.evaluate import evaluate_model
from commonweight.model.export import export
from commonweight.model.push import push
from node.settings import FieldNames
from protocol.encoding import FRACTION_BITS
from protocol.errors import Misconfigured


@click.group()
def model() -> None:
    """Use a federation's model, or average checkpoints."""


def place_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that locate federation, files and base model, passed on as one `place`."""

    @federation_option
    @click.option("--ipfs", help="IPFS daemon's RPC. Default: the federation's.")
    @click.option("--source", help="Where this machine finds the base model. Default: the run's.")
    @wraps(function)
    def wrapped(
        *args: Any, federation: Path | None, ipfs: str | None, source: str | None, **kwargs: Any
    ) -> None:
        function(*args, place=Place(federation, ipfs, source), **kwargs)

    return wrapped


@model.command("average")
@click.argument("checkpoints", nargs=-1, required=True, type=PATH)
@click.option("--weights", help="One positive integer per checkpoint, as 3,1. Default: all 1.")
@click.option("--output", required=True, type=PATH, help="Folder to write.")
@click.option(
    "--fraction-bits",
    default=FRACTION_BITS,
    show_default=True,
    help="Fewer, where a value is 128 or more: each less doubles the largest value.",
)
@as_json
@plain_failures
def model_average(
    checkpoints: tuple[Path, ...],
    weights: str | None,
    output: Path,
    fraction_bits: int,
    json_output: bool,
) -> None:
    """Average safetensors CHECKPOINTS exactly, without training, chain or loading a model.

    A checkpoint is a file, or a folder as transformers or peft write it. Prints the tree root, the
    same on every machine. Writes layer files and layers.json, and beside them the mean as a folder
    that transformers or peft opens. Adapters must be of the same base model, rank, alpha and kind.

    \b
    Example: commonweight model average ann.safetensors bob.safetensors --weights 3,1 --output mean
    """
    # Integers, like a round's weights: the mean of integers is exact.
    try:
        numbers = [int(n) for n in weights.split(",")] if weights else [1] * len(checkpoints)
    except ValueError:
        raise Misconfigured(f"weights {weights!r}: integers as 3,1 were expected") from None
    with working(f"averaging {len(checkpoints)} checkpoints"):
        result = average_checkpoints(checkpoints, numbers, output, fraction_bits)
    if json_output:
        print_json(result)
    else:
        click.echo(f"root    {result['root']}")
        click.echo(f"layers  {len(result['layers'])}, {result['bytes']:,} bytes in {output}")


@model.command("chat")
@click.argument("question", required=False)
@click.option("--question", "asked", metavar="TEXT", help="The same as QUESTION.")
@click.option(
    "--adapter",
    metavar="CID|PATH",
    help="A manifest, or a peft folder. Default: the current model.",
)
@place_options
@click.option("--tokens", default=64, show_default=True, help="Longest answer.")
@as_json
@plain_failures
def model_chat(
    question: str | None,
    asked: str | None,
    adapter: str | None,
    place: Place,
    tokens: int,
    json_output: bool,
) -> None:
    """Ask the fine-tuned and the base model the same QUESTION, or many: one per line of input.

    \b
    Example: commonweight model chat "What does the sinoatrial node do?"
    """
    if question is not None and asked is not None:
        fail("give the question once")
    one = question if question is not None else asked
    questions = _typed_questions() if one is None else iter([one])
    # Before a model is loaded for nothing; a person first sees what is asked of them.
    if not sys.stdin.isatty():
        first = next(questions, None)
        if first is None:
            fail("no question: give one as QUESTION, or one per line of input")
        questions = chain([first], questions)
    with working("loading the base model and the adapter"):
        chat = open_chat(adapter, place)
    for each in questions:
        # One object per question, as soon as it is answered.
        if json_output:
            told = {"fine_tuned": chat.fine_tuned(each, tokens), "base": chat.base(each, tokens)}
            print_json({"question": each, "model": chat.name, **told})
            continue
        for title, ask in (
            (f"fine-tuned ({chat.name})", chat.fine_tuned),
            ("base model", chat.base),
        ):
            click.secho(title, bold=True)
            click.echo("  ", nl=False)
            ask(each, tokens, partial(click.echo, nl=False))
            click.echo("\n")


@model.command("evaluate")
@click.option("--adapter", metavar="CID", help="A model's manifest. Default: the current model.")
@place_options
@click.option(
    "--data", help="Your own rows: a file or hub:OWNER/NAME. Default: the public held-out set."
)
@fields_option
@click.option("--encoding", help="Of the rows, where it is neither UTF-8 nor UTF-16: cp1252.")
@as_json
@plain_failures
def model_evaluate(
    adapter: str | None,
    place: Place,
    data: str | None,
    fields: str | None,
    encoding: str | None,
    json_output: bool,
) -> None:
    """Measure the loss of a model on the answers of rows it was not trained on.

    The base model's stands beside it. Template and sequence length are the federation's.

    \b
    Example: commonweight model evaluate
             commonweight model evaluate --data mine.csv --fields question=ask,answer=reply
    """
    named = {} if fields is None else read_fields(fields)
    if unknown := sorted(named.keys() - FieldNames.model_fields.keys()):
        fail(f"--fields: there is no part {unknown[0]}: {', '.join(FieldNames.model_fields)}")
    with working("evaluating the model and its base model"):
        found = evaluate_model(adapter, place, data, named, encoding)
    if json_output:
        losses = {"fine_tuned": asdict(found.fine_tuned), "base": asdict(found.base)}
        print_json({"model": found.name, "rows": found.rows, **losses})
        return
    for name, each in ((found.name, found.fine_tuned), ("the base model", found.base)):
        click.echo(f"loss {each.loss:.4f}  perplexity {each.perplexity:,.2f}  {name}")
    click.echo(f"on {found.rows} rows, {found.base.tokens:,} answer tokens")


@model.command("export")
@click.argument("target", type=PATH)
@click.option(
    "--adapter", metavar="CID", help="An update's or model's manifest. Default: the current model."
)
@place_options
@click.option(
    "--merged",
    type=click.Choice(["fp16", "fp32"]),
    help="Write the whole model with the adapter merged into its weights, not the adapter alone.",
)
@as_json
@plain_failures
def model_export(
    target: Path,
    adapter: str | None,
    place: Place,
    merged: Literal["fp16", "fp32"] | None,
    json_output: bool,
) -> None:
    """Write a model as the folder TARGET, which plain peft or transformers loads.

    The merged weights are those of the base model as published, never of its 4-bit form.

    \b
    Example: commonweight model export my-adapter
             commonweight model export my-model --merged fp16
    """
    with working(f"writing {target}"):
        found = federated_adapter(adapter, place)
        export(found, place.base_source(), target, merged)
    kind = "model" if merged else "adapter"
    if json_output:
        print_json({"folder": str(target), "kind": kind, "of": found.name})
    else:
        click.echo(f"{target}  {kind} ({found.name})")


@model.command("push")
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--adapter", metavar="CID", help="A model's manifest. Default: the current model.")
@place_options
@click.option(
    "--base", metavar="OWNER/NAME", help="The base model's name on the hub. Default: --source's."
)
@click.option(
    "--merged",
    type=click.Choice(["fp16", "fp32"]),
    help="Publish the whole model with the adapter merged into its weights.",
)
@click.option("--private", is_flag=True, help="Make a new repository private.")
@as_json
@plain_failures
def model_push(
    repository: str,
    adapter: str | None,
    place: Place,
    base: str | None,
    merged: Literal["fp16", "fp32"] | None,
    private: bool,
    json_output: bool,
) -> None:
    """Publish a model on the Hugging Face hub, as `model export` writes it.

    Its model card says which federation, round and root it is of. The token is the one that `hf
    auth login` keeps, or HF_TOKEN.

    \b
    Example: commonweight model push ann/flashcards --base HuggingFaceTB/SmolLM2-135M-Instruct
    """
    with working(f"sending to {repository}"):
        found = federated_adapter(adapter, place)
        url = push(found, place.base_source(), repository, merged, base_name=base, private=private)
    if json_output:
        print_json({"repository": repository, "of": found.name, "commit": url})
    else:
        click.echo(f"{url}  ({found.name})")


def _typed_questions() -> Iterator[str]:
    """Yield the questions typed, one per line, until the input ends."""
    # A hint for a person; a pipe needs none.
    if sys.stdin.isatty():
        click.echo("One question per line; end with Ctrl-D.", err=True)
    for line in sys.stdin:
        if line.strip():
            yield line.strip()
