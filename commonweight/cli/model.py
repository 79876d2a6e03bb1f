"""`commonweight model`: use a federation's model."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import click

from commonweight.cli.options import (
    as_json,
    fail,
    federation_option,
    plain_failures,
    print_json,
)

if TYPE_CHECKING:
    from commonweight.model.chat import Chat

P = ParamSpec("P")


@click.group()
def model() -> None:
    """Use a federation's model."""


def place_options(function: Callable[P, None]) -> Callable[P, None]:
    """Add the options that say where federation, files and base model are."""
    source = click.option(
        "--source", help="Where this machine finds the base model. Default: the run's."
    )
    ipfs = click.option("--ipfs", help="IPFS daemon's RPC. Default: the federation's.")
    return federation_option(ipfs(source(function)))


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
    tokens: int,
    json_output: bool,
    **place: Any,
) -> None:
    """Ask the fine-tuned and the base model the same QUESTION, or many: one a line.

    \b
    Example: commonweight model chat "What does the sinoatrial node do?"
    """
    if question is not None and asked is not None:
        fail("give the question once")
    from commonweight.model.chat import open_chat

    chat = open_chat(adapter, _place(**place))
    one = question if question is not None else asked
    for each in _typed() if one is None else [one]:
        fine_tuned, base = chat.ask(each, tokens)
        if json_output:
            answers = {"question": each, "model": chat.name}
            print_json({**answers, "fine_tuned": fine_tuned, "base": base})
        else:
            _show(chat, fine_tuned, base)


@model.command("export")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--adapter", metavar="CID", help="An update's or model's manifest. Default: the current model."
)
@place_options
@click.option(
    "--merged",
    type=click.Choice(["fp16", "fp32"]),
    help="Write the whole model, the adapter in its weights, not the adapter alone.",
)
@as_json
@plain_failures
def model_export(
    target: Path,
    adapter: str | None,
    merged: Literal["fp16", "fp32"] | None,
    json_output: bool,
    **place: Any,
) -> None:
    """Write a model as the folder TARGET, which plain peft or transformers loads.

    The merged weights are those of the base model as published, never of its 4-bit form.

    \b
    Example: commonweight model export my-adapter
             commonweight model export my-model --merged fp16
    """
    from commonweight.model.adapters import federated_adapter
    from commonweight.model.export import export

    where = _place(**place)
    found = federated_adapter(adapter, where)
    export(found, where.base_source(), target, merged)
    kind = "model" if merged else "adapter"
    if json_output:
        print_json({"folder": str(target), "kind": kind, "of": found.name})
    else:
        click.echo(f"{target}  {kind} ({found.name})")


def _place(federation: Path | None, ipfs: str | None, source: str | None) -> Any:
    from commonweight.model.adapters import Place

    return Place(federation, ipfs, source)


def _typed() -> Iterator[str]:
    """Yield the questions typed, one a line, until there are no more."""
    if sys.stdin.isatty():
        click.echo("One question a line; end with Ctrl-D.", err=True)
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def _show(chat: "Chat", fine_tuned: str, base: str) -> None:
    click.secho(f"fine-tuned ({chat.name})", bold=True)
    click.echo(f"  {fine_tuned}\n")
    click.secho("base model", bold=True)
    click.echo(f"  {base}\n")
