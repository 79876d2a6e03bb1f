"""Write docs/cli.md, or the file given, from the program's own help (`make docs`)."""

import sys
from pathlib import Path

import click

from commonweight.cli import main

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"
INTRODUCTION = "# Command line\n\nThe program's own help. Made by `make docs`; a test compares.\n"


def cli_reference() -> str:
    """Return docs/cli.md as the program's help has it now."""
    return INTRODUCTION + "".join(_sections(main, "commonweight", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    title = context.command_path
    sections = [f"\n## {title}\n\n```\n{command.get_help(context).strip()}\n```\n"]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            sections += _sections(found, child, context)
    return sections


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(cli_reference())
