"""The command line: `commonweight NOUN VERB`.

Results go to stdout, progress to stderr; `--json` prints one object. The exit code is 0 on success,
1 when a check failed or something went wrong (one line on stderr says what), 2 for a command line
that cannot be parsed, and 3 when an audit could not check everything. A noun's module is imported
when the noun is used.
"""

import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click

from commonweight import __version__

# All before torch is imported, which reads it then; what a user has set stays.
# bitsandbytes asks for two of its functions to be compiled as it is imported, for shapes that its
# kernels do not take: every process of a role would load torch's compiler, a fifth of the import.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
# Threads of GNU OpenMP spin while they wait for one another. Beside other work that makes a model
# several times as slow; on an idle machine sleeping costs a quarter.
if os.getloadavg()[0] > len(os.sched_getaffinity(0)) / 2:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The summaries stand here, and a test compares them with the modules: importing every module to
# list them would import web3, pydantic and the devnet, which takes seconds.
NOUNS: Final = {
    "aggregator": "Lead a federation's rounds, or stand by.",
    "audit": "Recompute what a federation did.",
    "demo": "Play a whole federation on this machine: train, average, pay and audit.",
    "devnet": "Run a chain and an IPFS daemon on this machine, to try things on.",
    "explore": "Show federations as web pages on this machine: rounds, pay, audit and models.",
    "federation": "Create a federation, look at it, invite to it, and end it.",
    "keys": "Make and import wallets (Ethereum keystore files).",
    "model": "Use a federation's model, or average checkpoints.",
    "participant": "Take part in a federation.",
    "profile": "Show what each phase and layer of RUN took: time, bytes, and peak memory.",
    "store": "Check a role's store and where others say that theirs is, and announce it.",
}


class LazyGroup(click.Group):
    """A group whose commands are found in `commonweight.cli.NAME`, under the same name.

    A command line that cannot be parsed is answered in one line, like every other mistake.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as click does; where it would print its usage, print one line that begins `error:`.

        Exits with the code of click's own error, 2 for a command line that cannot be parsed.
        """
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            click.echo(f"error: {_one_line(error)}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("error: interrupted", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns in alphabetical order."""
        return sorted(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a noun and return its command; None for an unknown noun."""
        if cmd_name not in NOUNS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the noun; a mistyped one is answered with the nearest, as click does for verbs."""
        near = get_close_matches(args[0], NOUNS, n=1)
        if args[0] not in NOUNS and near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the nouns and their summaries without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(noun, NOUNS[noun]) for noun in self.list_commands(ctx)])


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).removesuffix(".")
    # click's names of its own types.
    text = re.sub(r"is not a valid integer( range)?\b", "is not a whole number", text)
    text = re.sub(r"is not a valid float( range)?\b", "is not a number", text)
    context = error.ctx if isinstance(error, click.UsageError) else None
    return text if context is None else f"{text}; see `{context.command_path} --help`"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="commonweight")
def main() -> None:
    """Fine-tune one language model together, on data that never leaves its owners."""
