"""`commonweight model`: use a federation's model."""

from pathlib import Path

import click

from commonweight.cli.options import as_json, federation_option, plain_failures, print_json


@click.group()
def model() -> None:
    """Use a federation's model."""


@model.command("chat")
@click.argument("question")
@federation_option
@click.option("--source", help="Where this machine finds the base model. Default: the run's.")
@click.option("--tokens", default=64, show_default=True, help="Longest answer.")
@as_json
@plain_failures
def model_chat(
    question: str, federation: Path | None, source: str | None, tokens: int, json_output: bool
) -> None:
    """Ask the fine-tuned and the base model the same QUESTION.

    \b
    Example: commonweight model chat "What does the sinoatrial node do?"
    """
    from commonweight.chat import ask
    from commonweight.home import federation_file

    answers = ask(federation_file(federation), question, source, tokens)
    if json_output:
        print_json(answers)
        return
    click.secho(f"fine-tuned (round {answers['round']})", bold=True)
    click.echo(f"  {answers['fine_tuned']}\n")
    click.secho("base model", bold=True)
    click.echo(f"  {answers['base']}")
